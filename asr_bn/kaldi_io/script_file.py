"""Kaldi's text files line by line: ``feats.scp``, ``wav.scp``, ``utt2spk``, ``text`` and others."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TypeVar

from asr_bn.kaldi_io.plain_text import parse_int
from asr_bn.kaldi_io.rxfilename import DEFAULT_PIPES, PipePolicy, is_pipe, open_file, open_input
from asr_bn.kaldi_io.specifiers import Rspecifier
from asr_bn.kaldi_io.utterance_id import BYTE_ORDER_MARK, MAX_ID_BYTES, too_long

_Value = TypeVar("_Value")
_BLOCK = 1 << 20
_MAX_LINE = 1 << 26
_MARKS = (BYTE_ORDER_MARK, b"\xff\xfe", b"\xfe\xff")


def read_lines(
    source: Path | str, pipes: PipePolicy = DEFAULT_PIPES, comment: bytes | None = None
) -> Iterator[tuple[int, str]]:
    """Yield number (from 1) and text of every line that is not blank, without the whitespace around it.

    Args:
        source: a file, gzipped or not, or an rxfilename (``-``, ``command |``).
        comment: begins a comment, which may be in any encoding.

    Raises:
        OSError: no such file.
        ValueError: a line is not UTF-8, has a NUL byte or begins with a byte order mark.
    """
    for number, line in _raw_lines(source, pipes, comment):
        if 0 in line:
            raise ValueError(f"{source}, line {number}: {_shown(line)} has a NUL byte: not text")
        try:
            yield number, line.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{source}, line {number}: not UTF-8") from error


def read_table(
    source: Path | str, value_needed: bool = True, pipes: PipePolicy = DEFAULT_PIPES
) -> dict[str, str]:
    """Read ``key value...`` lines in file order; values keep their inner spaces.  Arguments as `read_lines`.

    Raises:
        ValueError: not text, a key twice or too long, or (with ``value_needed``) a line with a key only.
    """
    table: dict[str, str] = {}
    for number, line in _raw_lines(source, pipes):
        parts = line.split(None, 1)
        try:
            key, value = parts[0].decode(), parts[1].decode() if len(parts) == 2 else ""
        except UnicodeDecodeError as error:
            raise ValueError(f"{source}, line {number}: not UTF-8") from error
        if "\0" in key:
            raise ValueError(f"{source}, line {number}: {_shown(line)} has a NUL byte in its id: not text")
        if key in table:
            raise ValueError(f"{key}: twice in {source} (again in line {number})")
        if len(parts[0]) > MAX_ID_BYTES:
            raise ValueError(f"{too_long(key)} (in {source}, line {number})")
        if value_needed and not value:
            raise ValueError(f"{key}: nothing after the id in {source}, line {number}{_no_blanks(key)}")
        table[key] = value
    return table


def script_of(source: Rspecifier) -> Path | str:
    """Return the script file of ``scp:...``: a path, or the rxfilename of a pipe or standard input."""
    name = source.rxfilename
    return name if is_pipe(name) or name in ("", "-") else Path(name)


def read_each(
    source: Rspecifier, keys: Iterable[str], read: Callable[[str], _Value]
) -> Iterator[tuple[str, _Value]]:
    """Yield keys and values of a script file; with its option ``p`` unreadable ones are left out with a note.

    Raises:
        ValueError: one cannot be read, without the option ``p``.
    """
    for key in keys:
        try:
            value = read(key)
        except ValueError as error:
            if not source.permissive:
                raise
            print(f"{error}: left out, as the option p says", file=sys.stderr)
            continue
        yield key, value


def _no_blanks(key: str) -> str:
    found = next((character for character in key if character.isspace()), None)
    return "" if found is None else f" (U+{ord(found):04X} in it is no blank)"


def read_raw_ids(source: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and first word of every line that is not blank, in any encoding and with repetitions."""
    for number, line in _raw_lines(source, DEFAULT_PIPES):
        yield number, line.split(None, 1)[0]


def read_count(path: Path, what: str) -> int:
    """Read the only number of a file, such as ``num_jobs``.

    Raises:
        ValueError: it holds anything else, or no positive number.
    """
    text = " ".join(line for _, line in read_lines(path))
    try:
        count = parse_int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise ValueError(f"{path}: expected {what}, found {text[:40]!r}")
    return count


def _raw_lines(
    source: Path | str, pipes: PipePolicy, comment: bytes | None = None
) -> Iterator[tuple[int, bytes]]:
    opened = open_file(source) if isinstance(source, Path) else open_input(source, pipes=pipes)
    first = 1
    with opened as stream:
        for lines, suspicious in _blocks(stream):
            for number, raw in enumerate(lines, first):
                if suspicious and (raw.startswith(_MARKS) or len(raw) > _MAX_LINE):
                    raise ValueError(_refusal(source, number, raw))
                line = (raw if comment is None else raw.partition(comment)[0]).strip()
                if line:
                    yield number, line
            first += len(lines)


def _blocks(stream: IO[bytes]) -> Iterator[tuple[list[bytes], bool]]:
    """Yield lines, many at a time, and whether they have to be checked one by one for marks and length."""
    data = bytearray()
    while block := stream.read(_BLOCK):
        data += block
        if b"\n" in block:
            *lines, rest = bytes(data).split(b"\n")
            yield lines, any(mark in data for mark in _MARKS)
            data = bytearray(rest)
        elif len(data) > _MAX_LINE:
            break
    if data:
        yield [bytes(data)], True


def _shown(line: bytes) -> str:
    return repr(line[:60].decode("utf-8", "replace"))


def _refusal(source: Path | str, number: int, raw: bytes) -> str:
    if raw.startswith(_MARKS):
        place = source if number == 1 else f"{source}, line {number}"
        return f"{place}: begins with a byte order mark (save it as UTF-8 without BOM)"
    return f"{source}, line {number}: longer than {_MAX_LINE} bytes"
