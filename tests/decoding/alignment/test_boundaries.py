"""Boundaries against known times: hand-worked cases, and the mini recipe's own count."""

from pathlib import Path

import numpy as np
import pytest

from asr_bn.decoding.alignment.boundaries import Boundaries, BoundaryShifts, boundary_times, read_ctm
from asr_bn.decoding.alignment.result import AlignedPhone, AlignedUtterance, FrameTimes
from asr_bn.system.files import write_json

TIMES = FrameTimes(0.01, 0.02, True)  # a boundary lies 5 ms behind its frame's beginning


def utterance(*spans: tuple[str, int]) -> AlignedUtterance:
    """Phones with their numbers of frames."""
    phones, start = [], 0
    for name, length in spans:
        phones.append(AlignedPhone(name, name, 0, start, start + length, 1.0, 0.0, 0.0, name))
        start += length
    return AlignedUtterance("utt", np.ones(start, dtype=np.int32), phones, [], 0.0, 1.0, 1.0, 1.0)


def test_known_boundaries_are_matched_and_others_count_as_not_found() -> None:
    aligned = utterance(("SIL", 10), ("A", 5), ("T", 4), ("SIL", 3), ("A", 6), ("SIL", 2))
    known = [(0.1, 0.15, "A"), (0.15, 0.2, "T"), (0.24, 0.26, "S"), (0.26, 0.285, "A")]
    boundaries = Boundaries({"utt": known, "other": known}, "SIL")
    boundaries.add(aligned, boundary_times(aligned, TIMES))
    assert boundaries.num_known == 6  # four beginnings, and ends of T and of the last A
    expected = {
        ("SIL", "A"): [0.005, -0.035],
        ("A", "T"): [0.005],
        ("T", "SIL"): [-0.005],
        ("A", "SIL"): [0.0],
    }
    assert {pair: pytest.approx(errors) for pair, errors in boundaries.errors.items()} == expected
    described = boundaries.to_json()
    assert (described["num_boundaries"], described["num_found"]) == (6, 5)
    assert described["within_20_ms"] == pytest.approx(4 / 6)
    assert described["within_50_ms"] == pytest.approx(5 / 6)


def test_shifts_are_medians_and_those_of_rare_pairs_lean_on_the_second_phone() -> None:
    errors = {("A", "T"): [-0.04, -0.03, -0.05], ("B", "T"): [0.0] * 2, ("A", "B"): [0.01]}
    shifts = BoundaryShifts.fit(errors)
    assert shifts.after == {"T": -0.03, "B": 0.01}
    assert shifts.of("A", "T") == pytest.approx((3 * -0.04 + 5 * -0.03) / 8)
    assert shifts.of("B", "T") == pytest.approx((2 * 0.0 + 5 * -0.03) / 7)
    assert shifts.of("X", "T") == -0.03 and shifts.of("T", "X") == 0


def test_shifted_times_keep_their_order() -> None:
    aligned = utterance(("SIL", 10), ("A", 3), ("T", 3), ("SIL", 4))
    shifts = BoundaryShifts({("SIL", "A"): -0.06, ("A", "T"): 0.02, ("T", "SIL"): -1.0}, {})
    seconds = list(boundary_times(aligned, TIMES, shifts).values())
    # A begins 60 ms later; T, which would begin before it, 5 ms after that; T ends before the recording.
    assert seconds == pytest.approx([0.0, 0.165, 0.17, 0.205, 0.21])


def test_shifts_travel_through_a_file(tmp_path: Path) -> None:
    aligned = utterance(("SIL", 10), ("A", 5), ("T", 4), ("SIL", 3))
    boundaries = Boundaries({"utt": [(0.12, 0.16, "A"), (0.16, 0.2, "T")]}, "SIL")
    boundaries.add(aligned, boundary_times(aligned, TIMES))
    write_json(tmp_path / "boundaries.json", boundaries.to_json())
    shifts = BoundaryShifts.read(tmp_path / "boundaries.json")
    corrected = list(boundary_times(aligned, TIMES, shifts).values())
    assert corrected == pytest.approx([0.0, 0.12, 0.16, 0.2, 0.23])
    (tmp_path / "boundaries.json").write_text('{"shifts_ms": {"pairs": {"A": 1}}}')
    with pytest.raises(ValueError, match="no boundary shifts in it, as --reference writes them"):
        BoundaryShifts.read(tmp_path / "boundaries.json")


def test_counts_are_the_mini_recipes() -> None:
    boundary_errors = pytest.importorskip("recipes.mini.boundaries").boundary_errors
    from recipes.mini.synthesize import Phone

    random = np.random.default_rng(0)
    names = ["SIL", *random.choice(["A", "B", "T", "SIL"], 40), "SIL"]
    names = [name for k, name in enumerate(names) if k == 0 or name != names[k - 1]]
    aligned = utterance(*((name, int(random.integers(3, 9))) for name in names))
    seconds = boundary_times(aligned, TIMES)
    spans = [(seconds[phone.start], seconds[phone.end], phone.name) for phone in aligned.phones]
    moved = np.sort(np.array([begin for begin, _, _ in spans]) + random.uniform(-0.03, 0.03, len(spans)))
    ends = [*moved[1:], spans[-1][1]]
    known = [(float(b), float(e), s[2]) for b, e, s in zip(moved, ends, spans, strict=True)]
    boundaries = Boundaries({"utt": known}, "SIL")
    boundaries.add(aligned, seconds)
    expected = boundary_errors(
        [Phone(name, begin, end) for begin, end, name in known],
        [Phone(name, begin, end) for begin, end, name in spans],
    )
    ours = [error for errors in boundaries.errors.values() for error in errors]
    assert boundaries.num_known == len(expected)
    assert sorted(ours) == pytest.approx(sorted(expected))


def test_a_ctm_file_is_read_and_another_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ctm").write_text("u 1 0.5 0.25 A\nu 1 0.75 0.1 B 0.99\nv 1 0 1 A\n")
    spans = read_ctm(tmp_path / "a.ctm")
    assert spans == {"u": [(0.5, 0.75, "A"), (0.75, 0.85, "B")], "v": [(0.0, 1.0, "A")]}
    (tmp_path / "a.ctm").write_text("u 1 0.5 A\n")
    with pytest.raises(ValueError, match=r"a\.ctm, line 1: 'u 1 0\.5 A', expected 'utterance channel begin"):
        read_ctm(tmp_path / "a.ctm")
