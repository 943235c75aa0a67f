"""Reading a Kaldi model file token by token, the same way whether it is binary or text."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

import numpy as np

from asr_bn.kaldi_io.binary import (
    BINARY_MARK,
    read_basic_float,
    read_basic_int32,
    read_basic_uint32,
    read_int_vector,
    read_token,
)
from asr_bn.kaldi_io.byte_stream import read_exact
from asr_bn.kaldi_io.plain_text import parse_float, parse_int
from asr_bn.kaldi_io.rxfilename import open_input
from asr_bn.system.arrays import Floats

_VECTORS = {"FV": "<f4", "DV": "<f8"}
_MAX_LENGTH = 1 << 26
_Number = TypeVar("_Number", int, float)


class ModelStream:
    """A model file's tokens and numbers; ``where`` names the file in errors."""

    def __init__(self, stream: IO[bytes], where: str, binary: bool) -> None:
        self._stream = stream
        self.where = where
        self.binary = binary

    def token(self) -> str:
        """Read the next word."""
        return read_token(self._stream, self.where)

    def expect(self, expected: str) -> None:
        """Read a word and require it to be ``expected``."""
        token = self.token()
        if token != expected:
            raise ValueError(f"{self.where}: expected {expected}, found {token[:40]!r}")

    def integer(self) -> int:
        """Read the next int32."""
        if self.binary:
            return read_basic_int32(self._stream, self.where)
        return self.parse_integer(self.token())

    def unsigned_integer(self) -> int:
        """Read the next uint32, whose size byte is negative."""
        if self.binary:
            return read_basic_uint32(self._stream, self.where)
        return self.parse_integer(self.token())

    def parse_integer(self, word: str) -> int:
        """Parse ``word`` as an integer."""
        return self._parse(parse_int, word, "an integer")

    def number(self) -> float:
        """Read the next floating-point number."""
        if self.binary:
            return read_basic_float(self._stream, self.where)
        return self._parse(parse_float, self.token(), "a number")

    def _parse(self, parse: Callable[[str], _Number], word: str, what: str) -> _Number:
        try:
            return parse(word)
        except ValueError as error:
            raise ValueError(f"{self.where}: expected {what}, found {word[:40]!r}") from error

    def int_vector(self) -> list[int]:
        """Read the next vector of int32."""
        if not self.binary:
            self.expect("[")
            return [self.parse_integer(word) for word in iter(self.token, "]")]
        return [int(value) for value in read_int_vector(self._stream, self.where)]

    def float_vector(self) -> Floats:
        """Read the next vector of floats, ``[length]``."""
        if not self.binary:
            self.expect("[")
            numbers = [self._parse(parse_float, word, "a number") for word in iter(self.token, "]")]
            return np.array(numbers, dtype=np.float32)
        token = self.token()
        if token not in _VECTORS:
            raise ValueError(f"{self.where}: expected FV or DV, found {token[:40]!r}")
        dtype = np.dtype(_VECTORS[token])
        length = self.integer()
        self.check_count(length, _MAX_LENGTH, "numbers of a vector")
        data = read_exact(self._stream, dtype.itemsize * length, self.where)
        return np.frombuffer(data, dtype=dtype).astype(np.float32, copy=False)

    def check_count(self, count: int, limit: int, what: str) -> None:
        """Refuse a negative or absurd count from a corrupt file."""
        if not 0 <= count <= limit:
            raise ValueError(f"{self.where}: corrupt: {count} {what}")


class _Rewound:
    """A stream whose first two bytes were looked at and are given back (not every stream can seek)."""

    def __init__(self, first: bytes, stream: IO[bytes]) -> None:
        self._first = first
        self._stream = stream

    def read(self, num_bytes: int) -> bytes:
        taken, self._first = self._first[:num_bytes], self._first[num_bytes:]
        return taken + self._stream.read(num_bytes - len(taken)) if num_bytes > len(taken) else taken


@contextmanager
def open_model(path: Path) -> Iterator[ModelStream]:
    """Open a model file and consume its ``\\0B`` mark, if it is binary."""
    with open_input(str(path)) as stream:
        first = stream.read(2)
        if first == BINARY_MARK:
            yield ModelStream(stream, str(path), binary=True)
        else:
            yield ModelStream(_Rewound(first, stream), str(path), binary=False)  # type: ignore[arg-type]
