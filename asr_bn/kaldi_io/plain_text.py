"""Kaldi's idea of text: words end at C's ``isspace``, numbers have ASCII digits.

Python's ``str`` also cuts at U+00A0, U+2028 and others, which stand inside words, and reads ``1_0`` and
Arabic digits.  Its ``bytes`` cut where C does.  Source: Kaldi ``src/util/text-utils.h``.
"""

import math
from collections.abc import Callable
from typing import TypeVar

WHITESPACE = " \t\n\r\f\v"
_INT32 = range(-(1 << 31), 1 << 31)
_Number = TypeVar("_Number", int, float)


def split_words(line: str, maxsplit: int = -1) -> list[str]:
    """Split a line at ASCII whitespace."""
    return [word.decode() for word in line.encode().split(None, maxsplit)]


def parse_int(word: str) -> int:
    """Parse an int32 (``ConvertStringToInteger``).

    Raises:
        ValueError: it is none.
    """
    values = parse_ints(word.encode())
    if len(values) != 1 or values[0] not in _INT32:
        raise ValueError(f"expected an integer of 32 bits, found {word[:40]!r}")
    return values[0]


def parse_float(word: str) -> float:
    """Parse a number, "inf" and "nan" included (``ConvertStringToReal``).

    Raises:
        ValueError: it is none, or too large for a float64.
    """
    values = parse_floats(word.encode())
    if len(values) != 1 or (math.isinf(values[0]) and "n" not in word.lower()):
        raise ValueError(f"expected a number, found {word[:40]!r}")
    return values[0]


def parse_ints(text: bytes) -> list[int]:
    """Parse all integers of ``text``, however large.

    Raises:
        ValueError: a word is none.
    """
    return _parse_all(text, int, "an integer")


def parse_floats(text: bytes) -> list[float]:
    """Parse all numbers of ``text``; those too large are infinite.

    Raises:
        ValueError: a word is none.
    """
    return _parse_all(text, float, "a number")


def _parse_all(text: bytes, kind: Callable[[bytes], _Number], what: str) -> list[_Number]:
    if b"_" not in text:
        try:
            return list(map(kind, text.split()))
        except ValueError:
            pass
    found = next(word for word in text.split() if b"_" in word or not _is_number(word, kind))
    raise ValueError(f"expected {what}, found {found[:40].decode('utf-8', 'replace')!r}")


def _is_number(word: bytes, kind: Callable[[bytes], _Number]) -> bool:
    try:
        kind(word)
    except ValueError:
        return False
    return True
