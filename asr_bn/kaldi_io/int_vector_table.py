"""Tables of integer vectors, such as ``ali.*.gz``: binary or text, gzipped or not."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from asr_bn.kaldi_io.binary import read_basic_int32, read_key
from asr_bn.kaldi_io.byte_stream import read_exact
from asr_bn.kaldi_io.plain_text import parse_ints
from asr_bn.kaldi_io.rxfilename import DEFAULT_PIPES, PipePolicy, open_input
from asr_bn.kaldi_io.script_file import read_each, read_table, script_of
from asr_bn.kaldi_io.specifiers import parse_rspecifier, parse_wspecifier
from asr_bn.kaldi_io.utterance_id import check_id, prefix_errors
from asr_bn.kaldi_io.wxfilename import open_table
from asr_bn.system.arrays import IntVector

_MAX_TEXT_LINE = 1 << 26
# Kaldi's BasicVectorHolder writes every value with its size before it.
_ELEMENT = np.dtype([("size", "u1"), ("value", "<i4")])


def read_int_vectors(
    rspecifier: str | Path, root: Path | None = None, pipes: PipePolicy = DEFAULT_PIPES
) -> Iterator[tuple[str, IntVector]]:
    """Yield utterance ids and int32 vectors in file order, one in memory at a time.

    ``rspecifier`` is ``ark:...`` or ``scp:...`` (files, gzip files, pipes, ``-``), or a bare path.  The first
    byte of an entry tells binary from text.

    Raises:
        OSError: a file is missing.
        ValueError: cut short, corrupt, or not integers; the message names the utterance and the file.
    """
    source = parse_rspecifier(rspecifier)
    if source.is_script:
        rxfilenames = read_table(script_of(source), pipes=pipes)

        def read(utt_id: str) -> IntVector:
            rxfilename = rxfilenames[utt_id]
            with prefix_errors(utt_id), open_input(rxfilename, root, pipes) as stream:
                return _read_vector(stream, f"{utt_id}: {rxfilename}")

        yield from read_each(source, rxfilenames, read)
        return
    with open_input(source.rxfilename, root, pipes) as stream:
        while (found := read_key(stream, source.rxfilename)) is not None:
            key, after = found
            yield key, _read_vector(stream, f"{key}: {source.rxfilename}", after)


def _read_vector(stream: IO[bytes], where: str, after_key: bytes = b" ") -> IntVector:
    if after_key == b"\n":
        return np.zeros(0, dtype=np.int32)
    first = stream.read(1)
    if first == b"\0":
        if stream.read(1) != b"B":
            raise ValueError(f"{where}: not a Kaldi vector (no \\0B mark)")
        return _read_binary(stream, where)
    line = first if first == b"\n" else first + stream.readline(_MAX_TEXT_LINE)
    if not line or len(line) > _MAX_TEXT_LINE:
        raise ValueError(f"{where}: cut short, or no vector: a line of {len(line)} bytes")
    return _parse_line(line, where)


def _read_binary(stream: IO[bytes], where: str) -> IntVector:
    length = read_basic_int32(stream, where)
    if length < 0:
        raise ValueError(f"{where}: corrupt: a vector of length {length}")
    elements = np.frombuffer(read_exact(stream, _ELEMENT.itemsize * length, where), dtype=_ELEMENT)
    if not np.all(elements["size"] == 4):
        raise ValueError(f"{where}: corrupt, or not 32-bit integers")
    return np.ascontiguousarray(elements["value"], dtype=np.int32)


def _parse_line(line: bytes, where: str) -> IntVector:
    try:
        values = np.array(parse_ints(line), dtype=np.int64)
        vector = values.astype(np.int32)
        if not np.array_equal(vector, values):
            raise ValueError("a value does not fit")
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{where}: not a vector of 32-bit integers ({error})") from error
    return vector


def write_int_vectors(wspecifier: str | Path, items: Iterable[tuple[str, NDArray[np.integer]]]) -> int:
    """Write an archive (and script file); return the number of vectors written.

    ``wspecifier`` is ``ark:A``, ``ark,t:A``, ``ark,scp:A,S`` or a bare path; ``A`` and ``S`` may be
    ``| command``, ``-`` is standard output.  The files get their names only when all is written.

    Raises:
        ValueError: an id that is empty, has spaces or comes twice.
    """
    target = parse_wspecifier(wspecifier)
    position, written = 0, set[str]()
    with open_table(target) as (archive, script):
        for utt_id, vector in items:
            check_id(utt_id, written, target.archive)
            key = f"{utt_id} ".encode()
            data = _encode_text(vector) if target.text else encode_int_vector(vector)
            archive.write(key + data)
            if script is not None:
                script.write(f"{utt_id} {target.archive}:{position + len(key)}\n".encode())
            position += len(key) + len(data)
    return len(written)


def encode_int_vector(vector: NDArray[np.integer]) -> bytes:
    """Encode the binary form with its ``\\0B`` mark."""
    elements = np.empty(len(vector), dtype=_ELEMENT)
    elements["size"] = 4
    elements["value"] = vector
    return b"\0B\x04" + len(vector).to_bytes(4, "little") + elements.tobytes()


def _encode_text(vector: NDArray[np.integer]) -> bytes:
    return ("".join(f"{value} " for value in vector.tolist()) + "\n").encode()
