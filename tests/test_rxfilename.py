"""Extended filenames: pipes as ``/bin/sh`` runs them, offsets, and reads that cannot outgrow their file."""

import io
import time
from pathlib import Path

import pytest

from asr_bn.kaldi_io.matrix_table import read_matrices
from asr_bn.kaldi_io.rxfilename import PipePolicy, open_input, read_exact, split_offset


@pytest.mark.parametrize(
    ("rxfilename", "expected"),
    [
        ("a.ark:12", ("a.ark", 12)),
        ("a.ark", ("a.ark", 0)),
        ("C:a.ark", ("C:a.ark", 0)),
        (":12", (":12", 0)),
        ("a:b:7", ("a:b", 7)),
        ("a.ark:1x", ("a.ark:1x", 0)),
    ],
)
def test_offsets(rxfilename: str, expected: tuple[str, int]) -> None:
    assert split_offset(rxfilename) == expected


def test_a_pipe_runs_in_the_root_folder(tmp_path: Path) -> None:
    (tmp_path / "a b").write_bytes(b"content")
    with open_input("cat 'a b' | tr c C |", root=tmp_path) as stream:
        assert stream.read() == b"Content"


def test_a_pipe_that_fails_after_its_output() -> None:
    with (
        pytest.raises(ValueError, match="exit code 4: late"),
        open_input("echo x; echo late >&2; exit 4 |") as stream,
    ):
        assert stream.read() == b"x\n"


def test_a_pipe_that_is_not_read_to_its_end() -> None:
    with open_input("yes |") as stream:
        assert stream.read(2) == b"y\n"


def test_a_talkative_standard_error_does_not_stop_a_pipe() -> None:
    with open_input("head -c 1000000 /dev/zero >&2; echo done |") as stream:
        assert stream.read() == b"done\n"


@pytest.mark.parametrize(
    "command",
    ["sleep 60", "printf 'a  [\\n  1 2 ]\\n'; sleep 60", "printf 'a  [\\n  1 2 ]\\n'; exec >&-; sleep 60"],
)
def test_a_table_whose_command_falls_silent_is_stopped(command: str) -> None:
    """Before its first byte, between two matrices, and after closing its output."""
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"sleep 60 \|: silent for 0\.3 seconds; stopped$"):
        list(read_matrices(f"ark:{command} |", pipes=PipePolicy(timeout_s=0.3)))
    assert time.monotonic() - start < 30


def test_a_table_may_take_longer_in_all_than_a_silence_may() -> None:
    command = 'for i in 1 2 3 4; do echo "u$i  [ $i ]"; sleep 0.4; done'
    tables = dict(read_matrices(f"ark:{command} |", pipes=PipePolicy(timeout_s=20.0)))
    assert [matrix.tolist() for matrix in tables.values()] == [[[1.0]], [[2.0]], [[3.0]], [[4.0]]]
    with pytest.raises(ValueError, match="silent for 0.1 seconds"):
        dict(read_matrices(f"ark:{command} |", pipes=PipePolicy(timeout_s=0.1)))


@pytest.mark.parametrize("num_bytes", [4, 3_000_000])
def test_read_exact(num_bytes: int) -> None:
    assert read_exact(io.BytesIO(b"\1" * num_bytes), num_bytes, "u") == b"\1" * num_bytes
    with pytest.raises(
        ValueError, match=f"^u: cut short: expected {num_bytes} more bytes, found {num_bytes - 1}"
    ):
        read_exact(io.BytesIO(b"\1" * (num_bytes - 1)), num_bytes, "u")
