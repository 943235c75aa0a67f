"""OpenFst's binary files as arrays: const FSTs, which is what Kaldi's graphs are, and vector FSTs.

Source: OpenFst 1.7 ``fst.cc`` (``FstHeader``), ``const-fst.h``, ``vector-fst.h``; tropical weights only.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import lazy_loader as lazy
import numpy as np
from numpy.typing import NDArray

from asr_bn.kaldi_io.rxfilename import open_file
from asr_bn.system.arrays import Floats
from asr_bn.system.files import write_bytes

if TYPE_CHECKING:
    from kaldifst import StdVectorFst

# An extra, which is loaded at its first use.
kaldifst = lazy.load("kaldifst")
Fst: TypeAlias = "StdVectorFst"
_Item = TypeVar("_Item", bound=np.generic)

_MAGIC = 2125659606
_HAS_SYMBOLS = 0x3
_IS_ALIGNED = 0x4
_ALIGNMENT = 16
_CONST_VERSION, _VECTOR_VERSION = 2, 2
# Only the property "expanded" is set; OpenFst computes the others when it needs them.
_EXPANDED, _MUTABLE = 0x1, 0x2
_STATE = np.dtype(
    [("final", "<f4"), ("first", "<u4"), ("num_arcs", "<u4"), ("num_in", "<u4"), ("num_out", "<u4")]
)
ARC = np.dtype([("ilabel", "<i4"), ("olabel", "<i4"), ("weight", "<f4"), ("nextstate", "<i4")])


@dataclass(frozen=True)
class FstArrays:
    """A transducer.

    Attributes:
        start: its start state.
        finals: float32 ``[num_states]``, cost of ending in a state; infinite where it is not final.
        first_arcs: int64 ``[num_states + 1]``; the arcs of state ``s`` are ``first_arcs[s]`` and on, up to
            ``first_arcs[s + 1]``.
        arcs: records ``ilabel``, ``olabel``, ``weight``, ``nextstate``.
    """

    start: int
    finals: Floats
    first_arcs: NDArray[np.int64]
    arcs: NDArray[np.void]

    @classmethod
    def read(cls, path: Path) -> "FstArrays":
        """Read a const or vector FST, gzipped or not.

        Raises:
            OSError: no such file.
            ValueError: not such an FST, cut short or corrupt.
        """
        with open_file(path) as stream:
            data = stream.read()
        header, position = _read_header(data, path)
        read_states = _read_const if header.kind == "const" else _read_vector
        fst = read_states(data, header, position)
        fst._check(path)
        return fst

    @classmethod
    def from_arcs(
        cls, start: int, finals: Floats, sources: NDArray[np.int64], arcs: NDArray[np.void]
    ) -> "FstArrays":
        """Build the transducer of ``arcs``, in any order; ``sources`` are the states that they leave."""
        order = np.argsort(sources, kind="stable")
        counts = np.bincount(sources, minlength=len(finals))
        return cls(start, finals, np.concatenate([[0], np.cumsum(counts)]), arcs[order])

    def write_const(self, path: Path) -> None:
        """Write ``path`` as ``fstconvert --fst_type=const`` does."""
        states = np.zeros(len(self.finals), dtype=_STATE)
        states["final"], states["first"] = self.finals, self.first_arcs[:-1]
        states["num_arcs"] = np.diff(self.first_arcs)
        sources = np.repeat(np.arange(len(states)), states["num_arcs"])
        for field, label in (("num_in", "ilabel"), ("num_out", "olabel")):
            states[field] = np.bincount(sources[self.arcs[label] == 0], minlength=len(states))
        header = self._header(b"const", _CONST_VERSION, _EXPANDED, len(self.arcs))
        write_bytes(path, header + states.tobytes() + self.arcs.tobytes())

    def vector_bytes(self) -> bytes:
        """Encode as a vector FST file."""
        num_states = len(self.finals)
        words = np.empty(3 * num_states + 4 * len(self.arcs), dtype="<u4")
        at = 3 * np.arange(num_states) + 4 * self.first_arcs[:-1]
        num_arcs = np.diff(self.first_arcs)
        words[at], words[at + 1], words[at + 2] = self.finals.view("<u4"), num_arcs, 0
        is_arc = np.ones(len(words), dtype=bool)
        is_arc[at] = is_arc[at + 1] = is_arc[at + 2] = False
        words[is_arc] = self.arcs.view("<u4")
        return self._header(b"vector", _VECTOR_VERSION, _EXPANDED | _MUTABLE, 0) + words.tobytes()

    def _header(self, kind: bytes, version: int, properties: int, num_arcs: int) -> bytes:
        text = b"".join(struct.pack("<i", len(word)) + word for word in (kind, b"standard"))
        numbers = struct.pack("<iiQqqq", version, 0, properties, self.start, len(self.finals), num_arcs)
        return struct.pack("<i", _MAGIC) + text + numbers

    def _check(self, path: Path) -> None:
        if min(int(self.arcs[field].min(initial=0)) for field in ("ilabel", "olabel")) < 0:
            raise ValueError(f"{path}: corrupt: an arc has a negative label")
        targets = self.arcs["nextstate"]
        if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < len(self.finals):
            raise ValueError(f"{path}: corrupt: an arc leads to a state that does not exist")
        if not 0 <= self.start < len(self.finals):
            raise ValueError(f"{path}: an FST without a start state (an empty graph)")


@dataclass(frozen=True)
class _Header:
    kind: str
    is_aligned: bool
    start: int
    num_states: int
    num_arcs: int
    path: Path


def _read_header(data: bytes, path: Path) -> tuple[_Header, int]:
    if len(data) < 4 or struct.unpack_from("<i", data)[0] != _MAGIC:
        raise ValueError(f"{path}: not an OpenFst file (wrong first bytes)")
    try:
        kind, position = _read_string(data, 4)
        arc_type, position = _read_string(data, position)
        version, flags, _, start, num_states, num_arcs = struct.unpack_from("<iiQqqq", data, position)
    except struct.error as error:
        raise ValueError(f"{path}: cut short inside its header") from error
    if kind not in ("const", "vector") or arc_type != "standard":
        raise ValueError(
            f"{path}: a {kind!r} FST of {arc_type!r} arcs, expected const or vector of standard arcs"
        )
    if flags & _HAS_SYMBOLS:
        raise ValueError(f"{path}: has symbol tables inside; write it without (fstsymbols --clear_isymbols)")
    if min(num_states, num_arcs if kind == "const" else 0) < 0:
        raise ValueError(f"{path}: corrupt: {num_states} states, {num_arcs} arcs")
    is_aligned = bool(flags & _IS_ALIGNED) or (kind == "const" and version == 1)
    return _Header(kind, is_aligned, start, num_states, num_arcs, path), position + 40


def _read_string(data: bytes, position: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<i", data, position)
    end = position + 4 + length
    if not 0 <= length < 64 or end > len(data):
        raise struct.error("no string there")
    return data[position + 4 : end].decode("latin-1"), end


def _read_const(data: bytes, header: _Header, position: int) -> FstArrays:
    position = _aligned(position, header)
    states, position = _array(data, _STATE, header.num_states, position, header.path)
    position = _aligned(position, header)
    arcs, _ = _array(data, ARC, header.num_arcs, position, header.path)
    first_arcs = np.concatenate([states["first"], [header.num_arcs]]).astype(np.int64)
    if header.num_states and not np.array_equal(np.diff(first_arcs), states["num_arcs"]):
        raise ValueError(f"{header.path}: corrupt: its states' arcs do not follow each other")
    return FstArrays(header.start, states["final"].copy(), first_arcs, arcs)


def _read_vector(data: bytes, header: _Header, position: int) -> FstArrays:
    if header.num_states * 12 > len(data):
        raise ValueError(f"{header.path}: cut short: too small for {header.num_states} states")
    words, _ = _array(data, np.dtype("<u4"), (len(data) - position) // 4, position, header.path)
    at = np.zeros(header.num_states + 1, dtype=np.int64)
    place, view = 0, words.data
    for state in range(header.num_states):
        at[state] = place
        if place + 3 > len(words):
            raise ValueError(f"{header.path}: cut short in state {state} of {header.num_states}")
        place += 3 + 4 * view[place + 1]
    at[-1] = place
    if place > len(words):
        raise ValueError(f"{header.path}: cut short in its last state")
    is_arc = np.ones(place, dtype=bool)
    for offset in range(3):
        is_arc[at[:-1] + offset] = False
    arcs = words[:place][is_arc].view(ARC)
    first_arcs = (at - 3 * np.arange(header.num_states + 1)) // 4
    return FstArrays(header.start, words[at[:-1]].view("<f4").copy(), first_arcs, arcs)


def _array(
    data: bytes, dtype: np.dtype[_Item], count: int, position: int, path: Path
) -> tuple[NDArray[_Item], int]:
    end = position + count * dtype.itemsize
    if end > len(data):
        raise ValueError(f"{path}: cut short: expected {end} bytes, found {len(data)}")
    return np.frombuffer(data[position:end], dtype=dtype), end


def _aligned(position: int, header: _Header) -> int:
    return -(-position // _ALIGNMENT) * _ALIGNMENT if header.is_aligned else position
