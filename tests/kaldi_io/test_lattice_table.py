"""Lattice archives against bytes worked out by hand and the layout that OpenFst itself writes."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from asr_bn.kaldi_io.compact_lattice import Arc, CompactLattice
from asr_bn.kaldi_io.lattice_table import encode_lattice, open_lattice_archive, read_lattices
from tests.helpers.lattices import ids, slots

# As OpenFst writes it: magic number, types; version, flags, properties, start, states, arcs.
HEADER = (
    struct.pack("<i", 2125659606)
    + struct.pack("<i", 6) + b"vector"
    + struct.pack("<i", 16) + b"compactlattice44"
    + struct.pack("<iiQqqq", 2, 0, 3, 0, 2, 0)
)  # fmt: skip
# State 0 has an arc: word 7, costs 1.5 and -2, two transition-ids, to state 1.  That is final, without arcs.
STATES = (
    struct.pack("<ffi", np.inf, np.inf, 0) + struct.pack("<q", 1)
    + struct.pack("<ii", 7, 7) + struct.pack("<ffi", 1.5, -2.0, 2) + struct.pack("<ii", 11, 12)
    + struct.pack("<i", 1)
    + struct.pack("<ffi", 0.25, 0.5, 1) + struct.pack("<i", 13) + struct.pack("<q", 0)
)  # fmt: skip
SMALL = CompactLattice.of_arcs([(0, 1, 7, 1.5, -2.0, ids(11, 12))], {1: (0.25, 0.5, ids(13))}, 2)


def read(path: Path, data: bytes) -> dict[str, CompactLattice]:
    path.write_bytes(data)
    return dict(read_lattices(f"ark:{path}"))


def same(first: CompactLattice, second: CompactLattice) -> bool:
    sizes = first.num_states == second.num_states
    return sizes and first.rows() == second.rows() and first.finals == second.finals


def test_the_bytes_are_kaldis(tmp_path: Path) -> None:
    assert encode_lattice(SMALL) == HEADER + STATES
    assert same(read(tmp_path / "lat", b"u " + HEADER + STATES)["u"], SMALL)


@pytest.mark.parametrize("name", ["lat.1.gz", "lat.ark"])
def test_an_archive_is_read_back(tmp_path: Path, name: str) -> None:
    empty = CompactLattice.of_arcs([], {}, 0)
    lattices = {"u": SMALL, "v": slots({1: 0.5, 2: 1.5}, {0: 0.25}), "w": empty}
    with open_lattice_archive(tmp_path / name) as archive:
        for utt_id, lattice in lattices.items():
            archive.write(utt_id, lattice)
    found = dict(read_lattices(tmp_path / name))
    assert list(found) == list(lattices)
    assert all(same(found[utt_id], lattice) for utt_id, lattice in lattices.items())
    assert (tmp_path / name).read_bytes().startswith(b"\x1f\x8b") == name.endswith(".gz")


def test_openfst_writes_the_same_layout(tmp_path: Path) -> None:
    """Of its ``Lattice``, whose weights have no transition-ids: put in, they give a ``CompactLattice``."""
    kaldifst = pytest.importorskip("kaldifst")
    fst = kaldifst.Lattice()
    for _ in range(3):
        fst.add_state()
    fst.start = 0
    for source, word, costs, target in [(0, 3, (0.5, 1.0), 1), (0, 4, (2.0, -1.0), 2), (1, 5, (0.0, 4.0), 2)]:
        fst.add_arc(source, kaldifst.LatticeArc(word, word, kaldifst.LatticeWeight(*costs), target))
    fst.set_final(2, kaldifst.LatticeWeight(0.125, 8.0))
    fst.write(str(tmp_path / "fst"))
    data = (tmp_path / "fst").read_bytes()
    kind, head = b"\x08\0\0\0lattice4", struct.calcsize("<iiQqqq")
    at = data.index(kind)
    numbers = at + len(kind)
    body, place, none = data[numbers + head :], 0, struct.pack("<i", 0)
    states = b""
    while place < len(body):
        states += body[place : place + 8] + none + body[place + 8 : place + 16]
        (count,) = struct.unpack_from("<q", body, place + 8)
        place += 16
        for _ in range(count):
            states += body[place : place + 16] + none + body[place + 16 : place + 20]
            place += 20
    compact = b"\x10\0\0\0compactlattice44"
    ours = read(tmp_path / "lat", b"u " + data[:at] + compact + data[numbers : numbers + head] + states)["u"]
    assert ours.rows() == [(0, 1, 3, 0.5, 1.0, b""), (0, 2, 4, 2.0, -1.0, b""), (1, 2, 5, 0.0, 4.0, b"")]
    assert ours.finals == {2: (0.125, 8.0, b"")}
    with pytest.raises(ValueError, match="a 'vector' FST of 'lattice4' arcs, expected vector of compactl"):
        read(tmp_path / "fst", b"u " + data)


def test_states_in_any_order_are_sorted(tmp_path: Path) -> None:
    arcs: list[Arc] = [(0, 1, 5, 1.0, 0.0, b""), (2, 0, 4, 2.0, 0.0, ids(1))]
    lattice = CompactLattice.sorted_from(arcs, {1: (0.0, 0.0, b"")}, 3, 2)
    assert lattice.rows() == [(0, 1, 4, 2.0, 0.0, ids(1)), (1, 2, 5, 1.0, 0.0, b"")]
    assert lattice.finals == {2: (0.0, 0.0, b"")}
    with pytest.raises(ValueError, match="lead round in a circle"):
        CompactLattice.sorted_from([*arcs, (1, 2, 6, 0.0, 0.0, b"")], {1: (0.0, 0.0, b"")}, 3, 2)


def test_states_without_an_end_are_trimmed() -> None:
    arcs: list[Arc] = [(0, 1, 5, 1.0, 0.0, b""), (0, 2, 6, 2.0, 0.0, b""), (1, 3, 7, 0.0, 0.0, b"")]
    assert CompactLattice.of_arcs(arcs, {2: (0.5, 0.0, b"")}, 4).trimmed().rows() == [
        (0, 1, 6, 2.0, 0.0, b"")
    ]
    assert CompactLattice.of_arcs(arcs, {}, 4).trimmed().num_states == 0


def test_every_cut_archive_is_refused_by_name(tmp_path: Path) -> None:
    data = b"u " + HEADER + STATES
    for length in range(1, len(data)):
        with pytest.raises(ValueError, match="lat: (cut short|not a)|u: .*lat: cut short"):
            read(tmp_path / "lat", data[:length])
    packed = gzip.compress(data)
    with pytest.raises(ValueError, match="lat.*gzip file cut short or corrupt"):
        read(tmp_path / "lat", packed[:-12])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (struct.pack("<i", 2125659606), struct.pack("<i", 1), "not a binary lattice of Kaldi"),
        (struct.pack("<iiQ", 2, 0, 3), struct.pack("<iiQ", 3, 0, 3), "corrupt: version 3"),
        (struct.pack("<ii", 7, 7), struct.pack("<ii", 7, 8), "an arc with the labels 7 and 8"),
        (struct.pack("<ffi", 1.5, -2.0, 2), struct.pack("<ffi", np.nan, 0, 2), "a cost that is not finite"),
        (struct.pack("<ffi", 1.5, -2.0, 2), struct.pack("<ffi", 1.5, 0, -2), "corrupt: -2 transition-ids"),
    ],
)
def test_corrupt_lattices_are_refused(tmp_path: Path, old: bytes, new: bytes, reason: str) -> None:
    data = HEADER + STATES
    assert old in data
    with pytest.raises(ValueError, match=f"u: .*lat: .*{reason}"):
        read(tmp_path / "lat", b"u " + data.replace(old, new, 1))


def test_text_and_script_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a lattice in text form, expected Kaldi's binary form"):
        read(tmp_path / "lat", b"u \n0 1 7 1.5,-2,11_12\n1\n\n".replace(b"u \n", b"u\n"))
    with pytest.raises(ValueError, match="from archives, not by script files"):
        list(read_lattices(f"scp:{tmp_path / 'lat'}"))
    with open_lattice_archive(tmp_path / "lat") as archive, pytest.raises(ValueError, match="twice"):
        archive.write("u", SMALL)
        archive.write("u", SMALL)
