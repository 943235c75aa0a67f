"""Kaldi's text files by line: ``scp``, ``wav.scp``, ``utt2spk``, ``text``, and whatever else has lines."""

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from asr_bn.kaldi_io.plain_text import parse_int
from asr_bn.kaldi_io.rxfilename import DEFAULT_PIPES, PipePolicy, is_pipe, open_file, open_input
from asr_bn.kaldi_io.specifiers import Rspecifier
from asr_bn.kaldi_io.utterance_id import BYTE_ORDER_MARK, check_length

_Value = TypeVar("_Value")
_MAX_LINE = 1 << 28
_MARKS = (BYTE_ORDER_MARK, b"\xff\xfe", b"\xfe\xff")


def read_lines(
    source: Path | str, pipes: PipePolicy = DEFAULT_PIPES, comment: bytes | None = None
) -> Iterator[tuple[int, str]]:
    """Line number (from 1) and text of every line that is not blank, whitespace around it removed.

    Args:
        source: a file, gzipped or not, or an rxfilename (``-``, ``command |``).
        comment: what begins a comment, which may be in any encoding.

    Raises:
        OSError: no such file.
        ValueError: a line is not UTF-8, has a NUL byte or begins with a byte order mark.
    """
    for number, line in _raw_lines(source, pipes, comment):
        yield number, _decode(line, source, number)


def read_table(
    source: Path | str, value_needed: bool = True, pipes: PipePolicy = DEFAULT_PIPES
) -> dict[str, str]:
    """``key value...`` lines in file order; the value keeps its inner spaces.  Arguments as `read_lines`.

    Raises:
        ValueError: a key twice or too long, or (with ``value_needed``) a line with a key only.
    """
    table: dict[str, str] = {}
    for number, line in _raw_lines(source, pipes):
        key, *rest = (_decode(part, source, number) for part in line.split(None, 1))
        if key in table:
            raise ValueError(f"{key}: twice in {source} (again in line {number})")
        check_length(key, f"{source}, line {number}")
        if value_needed and not rest:
            raise ValueError(f"{key}: nothing after the id in {source}, line {number}{_no_blanks(key)}")
        table[key] = rest[0] if rest else ""
    return table


def script_of(source: Rspecifier) -> Path | str:
    """The script file of ``scp:...``: a file, or a pipe or standard input, as any rxfilename."""
    name = source.rxfilename
    return name if is_pipe(name) or name in ("", "-") else Path(name)


def read_each(
    source: Rspecifier, keys: Iterable[str], read: Callable[[str], _Value]
) -> Iterator[tuple[str, _Value]]:
    """Keys and values of a script file; with its option ``p`` those that cannot be read are left out, aloud.

    Raises:
        ValueError: one cannot be read.
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


def read_count(path: Path, what: str) -> int:
    """The number that is all of a file, such as ``num_jobs``.

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
    with opened as stream:
        for number, raw in enumerate(iter(partial(stream.readline, _MAX_LINE), b""), start=1):
            if len(raw) == _MAX_LINE or raw.startswith(_MARKS) or b"\0" in raw:
                raise ValueError(_refusal(source, number, raw))
            line = (raw if comment is None else raw.partition(comment)[0]).strip()
            if line:
                yield number, line


def _refusal(source: Path | str, number: int, raw: bytes) -> str:
    if raw.startswith(_MARKS):
        place = source if number == 1 else f"{source}, line {number}"
        return f"{place}: begins with a byte order mark (save it as UTF-8 without BOM)"
    if b"\0" in raw:
        return f"{source}, line {number}: {raw[:60].decode('utf-8', 'replace')!r} has a NUL byte: not text"
    return f"{source}, line {number}: longer than {_MAX_LINE} bytes"


def _decode(data: bytes, source: Path | str, number: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}, line {number}: not UTF-8") from error
