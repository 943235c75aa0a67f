"""Boundary accuracy on a case computed by hand."""

import pytest

from recipes.mini.boundaries import boundary_errors, read_oracle, summarize
from recipes.mini.synthesize import Phone

ORACLE = [
    Phone("SIL", 0.0, 0.15),
    Phone("T", 0.15, 0.20),
    Phone("EH", 0.20, 0.30),
    Phone("SIL", 0.30, 0.40),
    Phone("N", 0.40, 0.50),
]


def test_boundary_errors_by_hand() -> None:
    aligned = [
        Phone("SIL", 0.0, 0.16),
        Phone("T", 0.16, 0.26),
        Phone("EH", 0.26, 0.29),
        Phone("SIL", 0.29, 0.36),
        Phone("N", 0.36, 0.51),
    ]
    # T starts; EH starts and ends before silence; N starts and ends.
    assert boundary_errors(ORACLE, aligned) == pytest.approx([0.01, 0.06, -0.01, -0.04, 0.01])


def test_phones_without_a_counterpart_count_as_missed() -> None:
    aligned = [Phone("T", 0.15, 0.30), Phone("N", 0.40, 0.50)]
    errors = boundary_errors(ORACLE, aligned)
    assert errors == [0.0, None, None, 0.0, 0.0]
    summary = summarize(errors)
    assert (summary["num_boundaries"], summary["num_matched"]) == (5, 3)
    assert summary["within_20_ms"] == {"count": 3, "share": 0.6}


def test_summary_by_hand() -> None:
    summary = summarize([0.020, -0.021, 0.050, -0.051, None])
    assert summary["within_20_ms"] == {"count": 1, "share": 0.2}
    assert summary["within_50_ms"] == {"count": 3, "share": 0.6}
    assert summary["median_error_ms"] == pytest.approx(-0.5)


def test_read_oracle() -> None:
    lines = ["a-1 1 0.15000 0.05000 T", "a-1 1 0.20000 0.10000 EH", "b-1 1 0.10000 0.02000 N"]
    assert read_oracle(lines)["a-1"] == [
        Phone("T", 0.15, pytest.approx(0.2)),
        Phone("EH", 0.2, pytest.approx(0.3)),
    ]
    assert list(read_oracle(lines)) == ["a-1", "b-1"]
