"""Two-column Kaldi text files: ``scp``, ``wav.scp``, ``utt2spk``, ``text``."""

from collections.abc import Iterator
from pathlib import Path


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line number (from 1) and text of every line that is not blank.

    Raises:
        OSError: no such file.
        ValueError: a line is not UTF-8.
    """
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            try:
                line = raw.decode("utf-8").strip(" \t\r\n")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, line {number}: not UTF-8") from error
            if line:
                yield number, line


def read_table(path: Path, value_needed: bool = True) -> dict[str, str]:
    """``key value...`` lines in file order; the value keeps its inner spaces.

    Raises:
        ValueError: a key twice, or (with ``value_needed``) a line with a key only.
    """
    table: dict[str, str] = {}
    for number, line in read_lines(path):
        key, *rest = line.split(maxsplit=1)
        if key in table:
            raise ValueError(f"{key}: twice in {path} (again in line {number})")
        if value_needed and not rest:
            raise ValueError(f"{key}: nothing after the id in {path}, line {number}")
        table[key] = rest[0] if rest else ""
    return table
