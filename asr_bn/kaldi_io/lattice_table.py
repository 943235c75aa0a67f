"""Archives of compact lattices, such as ``lat.1.gz``, in Kaldi's binary form.

Source: Kaldi ``src/lat/kaldi-lattice.cc`` (``CompactLatticeHolder``); OpenFst 1.7 ``vector-fst.h``.
"""

import gzip
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from asr_bn.kaldi_io.binary import read_int32, read_key
from asr_bn.kaldi_io.byte_stream import read_exact
from asr_bn.kaldi_io.compact_lattice import Arc, CompactLattice, Weight
from asr_bn.kaldi_io.rxfilename import DEFAULT_PIPES, PipePolicy, open_input
from asr_bn.kaldi_io.specifiers import parse_rspecifier
from asr_bn.kaldi_io.utterance_id import check_id, prefix_errors
from asr_bn.system.files import atomic_stream

_MAGIC = 2125659606
_KIND, _ARCS = b"vector", b"compactlattice44"
_VERSION = 2
# "Expanded" and "mutable" are properties of the kind; the others are computed where they are needed.
_PROPERTIES = 0x3
_NUMBERS = struct.Struct("<iiQqqq")  # version, flags, properties, start, number of states, of arcs
_WEIGHT = struct.Struct("<ffi")  # graph cost, acoustic cost, length of the string
_ARC = struct.Struct("<iiffi")  # input and output label, and a weight
_COUNT = struct.Struct("<q")
_INT = struct.Struct("<i")
_MOST_STATES = 1 << 28


class LatticeWriter:
    """Writes lattices into an open archive, one after the other."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream, self._name, self._written = stream, name, set[str]()

    def write(self, utt_id: str, lattice: CompactLattice) -> None:
        """Append a lattice; raises ``ValueError`` for an id that is empty, has spaces or comes twice."""
        check_id(utt_id, self._written, self._name)
        self._stream.write(f"{utt_id} ".encode() + encode_lattice(lattice))


@contextmanager
def open_lattice_archive(path: Path) -> Iterator[LatticeWriter]:
    """Open an archive for writing, gzipped where its name ends so; it gets its name when all is written."""
    with atomic_stream(path) as stream:
        if path.suffix != ".gz":
            yield LatticeWriter(stream, str(path))
            return
        # Without name and time, the same lattices are the same bytes.
        with gzip.GzipFile("", "wb", compresslevel=5, fileobj=stream, mtime=0) as packed:
            yield LatticeWriter(cast(IO[bytes], packed), str(path))


def encode_lattice(lattice: CompactLattice) -> bytes:
    """Encode as Kaldi's binary ``CompactLattice``, which has no ``\\0B`` mark."""
    names = b"".join(_INT.pack(len(name)) + name for name in (_KIND, _ARCS))
    start = 0 if lattice.num_states else -1
    parts = [_INT.pack(_MAGIC), names]
    parts.append(_NUMBERS.pack(_VERSION, 0, _PROPERTIES, start, lattice.num_states, 0))
    arcs = lattice.rows()
    first = lattice.first_arcs.tolist()
    nowhere: Weight = (float("inf"), float("inf"), b"")
    for state in range(lattice.num_states):
        graph, acoustic, string = lattice.finals.get(state, nowhere)
        parts += [_WEIGHT.pack(graph, acoustic, len(string) // 4), string]
        parts.append(_COUNT.pack(first[state + 1] - first[state]))
        for _, target, word, graph, acoustic, string in arcs[first[state] : first[state + 1]]:
            parts += [_ARC.pack(word, word, graph, acoustic, len(string) // 4), string, _INT.pack(target)]
    return b"".join(parts)


def read_lattices(
    rspecifier: str | Path, pipes: PipePolicy = DEFAULT_PIPES
) -> Iterator[tuple[str, CompactLattice]]:
    """Yield utterance ids and lattices of an archive, ``ark:...`` or a bare path, gzipped or not.

    States are numbered anew where arcs do not lead to higher ones.

    Raises:
        OSError: no such file.
        ValueError: a script file, not binary compact lattices, cut short or corrupt.
    """
    source = parse_rspecifier(rspecifier)
    if source.is_script:
        raise ValueError(f"{rspecifier}: lattices are read from archives, not by script files")
    with open_input(source.rxfilename, None, pipes) as stream:
        while (found := read_key(stream, source.rxfilename)) is not None:
            key, after = found
            where = f"{key}: {source.rxfilename}"
            if after != b" ":
                raise ValueError(f"{where}: a lattice in text form, expected Kaldi's binary form")
            yield key, _read_lattice(stream, where)


def _read_lattice(stream: IO[bytes], where: str) -> CompactLattice:
    start, num_states = _read_header(stream, where)
    arcs: list[Arc] = []
    finals: dict[int, Weight] = {}
    for state in range(num_states):
        graph, acoustic, size = _WEIGHT.unpack(read_exact(stream, _WEIGHT.size, where))
        string = _read_string(stream, size, where)
        if graph + acoustic < float("inf"):
            finals[state] = graph, acoustic, string
        (num_arcs,) = _COUNT.unpack(read_exact(stream, _COUNT.size, where))
        for _ in range(num_arcs):
            word, label, graph, acoustic, size = _ARC.unpack(read_exact(stream, _ARC.size, where))
            string = _read_string(stream, size, where)
            target = read_int32(stream, where)
            if word != label or word < 0 or not 0 <= target < num_states:
                raise ValueError(
                    f"{where}: corrupt: an arc with the labels {word} and {label} to state {target}"
                )
            arcs.append((state, target, word, graph, acoustic, string))
    costs = [cost for arc in arcs for cost in arc[3:5]] + [
        cost for end in finals.values() for cost in end[:2]
    ]
    if not all(abs(cost) < float("inf") for cost in costs):
        raise ValueError(f"{where}: corrupt: a cost that is not finite")
    with prefix_errors(where):
        return CompactLattice.sorted_from(arcs, finals, num_states, start)


def _read_header(stream: IO[bytes], where: str) -> tuple[int, int]:
    if read_int32(stream, where) != _MAGIC:
        raise ValueError(f"{where}: not a binary lattice of Kaldi (wrong first bytes)")
    kind, arcs = _read_name(stream, where), _read_name(stream, where)
    if (kind, arcs) != (_KIND, _ARCS):
        raise ValueError(
            f"{where}: a {kind.decode('latin-1')!r} FST of {arcs.decode('latin-1')!r} arcs, "
            f"expected {_KIND.decode()} of {_ARCS.decode()}"
        )
    version, flags, _, start, num_states, _ = _NUMBERS.unpack(read_exact(stream, _NUMBERS.size, where))
    if version != _VERSION or flags or not 0 <= num_states <= _MOST_STATES or not -1 <= start < num_states:
        raise ValueError(
            f"{where}: corrupt: version {version}, flags {flags}, start {start} of {num_states} states"
        )
    return start, num_states


def _read_name(stream: IO[bytes], where: str) -> bytes:
    size = read_int32(stream, where)
    if not 0 <= size < 64:
        raise ValueError(f"{where}: corrupt: a name of {size} bytes")
    return read_exact(stream, size, where)


def _read_string(stream: IO[bytes], size: int, where: str) -> bytes:
    if size < 0:
        raise ValueError(f"{where}: corrupt: {size} transition-ids")
    return read_exact(stream, 4 * size, where) if size else b""
