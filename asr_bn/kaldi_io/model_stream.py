"""Reading a Kaldi model file token by token, the same way whether it is binary or text."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

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


class ModelStream:
    """A model file's tokens and numbers; ``where`` names the file in errors."""

    def __init__(self, stream: IO[bytes], where: str, binary: bool) -> None:
        self._stream = stream
        self.where = where
        self.binary = binary

    @classmethod
    def begin(cls, stream: IO[bytes], where: str) -> "ModelStream":
        """Begin to read a model, whose ``\\0B`` mark (if binary) is consumed."""
        first = stream.read(2)
        if first == BINARY_MARK:
            return cls(stream, where, binary=True)
        return cls(_Rewound(first, stream), where, binary=False)  # type: ignore[arg-type]

    def token(self) -> str:
        """The next word."""
        return read_token(self._stream, self.where)

    def expect(self, expected: str) -> None:
        """Read a word and require it to be ``expected``."""
        token = self.token()
        if token != expected:
            raise ValueError(f"{self.where}: expected {expected}, found {token[:40]!r}")

    def integer(self) -> int:
        """The next int32."""
        if self.binary:
            return read_basic_int32(self._stream, self.where)
        return self.as_integer(self.token())

    def unsigned_integer(self) -> int:
        """The next uint32, whose size byte is negative."""
        if self.binary:
            return read_basic_uint32(self._stream, self.where)
        return self.as_integer(self.token())

    def as_integer(self, word: str) -> int:
        """``word`` as an integer."""
        try:
            return parse_int(word)
        except ValueError as error:
            raise ValueError(f"{self.where}: expected an integer, found {word[:40]!r}") from error

    def number(self) -> float:
        """The next floating-point number."""
        if self.binary:
            return read_basic_float(self._stream, self.where)
        return self._as_number(self.token())

    def _as_number(self, word: str) -> float:
        try:
            return parse_float(word)
        except ValueError as error:
            raise ValueError(f"{self.where}: expected a number, found {word[:40]!r}") from error

    def int_vector(self) -> list[int]:
        """The next vector of int32."""
        if not self.binary:
            self.expect("[")
            return [self.as_integer(word) for word in iter(self.token, "]")]
        return [int(value) for value in read_int_vector(self._stream, self.where)]

    def float_vector(self) -> Floats:
        """The next vector of floats, ``[length]``."""
        if not self.binary:
            self.expect("[")
            words = iter(self.token, "]")
            return np.array([self._as_number(word) for word in words], dtype=np.float32)
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
    """Open a model file, its ``\\0B`` mark (if binary) consumed."""
    with open_input(str(path)) as stream:
        yield ModelStream.begin(stream, str(path))
