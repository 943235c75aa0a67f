"""Extended filenames: pipes as ``/bin/sh`` runs them, offsets, and reads that cannot outgrow their file."""

import gzip
import io
import os
import random
import re
import time
import tracemalloc
from pathlib import Path

import pytest

from asr_bn.kaldi_io.byte_stream import read_exact
from asr_bn.kaldi_io.matrix_table import MatrixScp, read_matrices
from asr_bn.kaldi_io.rxfilename import PipePolicy, open_input, read_source, split_offset


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


class Refused(Exception):
    """A head that is not wanted."""


def _refuse_y(head: bytes) -> None:
    if head.startswith((b"y\n", b"\0")):
        raise Refused(head)


@pytest.mark.parametrize("source", ["yes |", "cat /dev/zero |", "/dev/zero", "zeros.gz"])
def test_an_endless_source_is_looked_at_first(source: str, tmp_path: Path) -> None:
    (tmp_path / "zeros.gz").write_bytes(gzip.compress(bytes(100_000_000)))
    tracemalloc.start()
    with pytest.raises(Refused) as caught:
        read_source(source, tmp_path, PipePolicy(), _refuse_y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(caught.value.args[0]) == 64
    assert peak < 2_000_000


@pytest.mark.parametrize("source", ["printf RIFF; cat /dev/zero |", "bomb.gz"])
def test_a_source_with_a_good_beginning_is_bounded(source: str, tmp_path: Path) -> None:
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"RIFF" + bytes(30_000_000)))
    with pytest.raises(ValueError, match=rf"^{re.escape(source)}: more than 20000000 bytes; stopped$"):
        read_source(source, tmp_path, PipePolicy(), _refuse_y, max_bytes=20_000_000)


def test_what_a_source_holds_comes_whole(tmp_path: Path) -> None:
    data = random.Random(0).randbytes(3_000_000)
    (tmp_path / "plain").write_bytes(data)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(data))
    for source in ("plain", "packed.gz", "cat plain |", "gunzip -c packed.gz |", "cat < plain |"):
        assert read_source(source, tmp_path, PipePolicy(), _refuse_y) == data
    assert read_source("plain:2999990", tmp_path, PipePolicy(), _refuse_y) == data[-10:]


@pytest.mark.parametrize("written", ["", "y", "y" * 500])
def test_a_command_that_fails_says_why(written: str) -> None:
    command = f"printf '{written}'; echo no such tape >&2; exit 3 |"
    with pytest.raises(ValueError, match=r"exit code 3: no such tape$"):
        read_source(command, None, PipePolicy(), lambda head: None)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("true |", "the command wrote nothing"),
        ("sleep 60 |", "still running after 0.3 seconds; stopped"),
        ("printf RIFF; exec >&-; sleep 60 |", "still running after 0.3 seconds; stopped"),
        ("while :; do printf RIFF; sleep 0.05; done |", "still running after 0.3 seconds; stopped"),
    ],
)
def test_a_command_that_gives_nothing_or_takes_too_long(command: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(command)}: {sentence}$"):
        read_source(command, None, PipePolicy(timeout_s=0.3), lambda head: None)


def test_a_refused_command_is_killed(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        read_source("echo $$ > pid; yes |", tmp_path, PipePolicy(), _refuse_y)
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("num_bytes", [4, 3_000_000])
def test_read_exact(num_bytes: int) -> None:
    assert read_exact(io.BytesIO(b"\1" * num_bytes), num_bytes, "u") == b"\1" * num_bytes
    with pytest.raises(
        ValueError, match=f"^u: cut short: expected {num_bytes} more bytes, found {num_bytes - 1}"
    ):
        read_exact(io.BytesIO(b"\1" * (num_bytes - 1)), num_bytes, "u")


@pytest.mark.parametrize("written", ["", "[ 1 2"])
def test_a_command_that_fails_is_named_whatever_its_reader_finds_wrong(written: str, tmp_path: Path) -> None:
    end = "echo reason >&2; exit 3 |"
    (tmp_path / "feats.scp").write_text(f"u printf '{written}'; {end}\n")
    with pytest.raises(ValueError, match="^u: .*: the command failed with exit code 3: reason"):
        MatrixScp(tmp_path / "feats.scp")["u"]
    with pytest.raises(ValueError, match="the command failed with exit code 3: reason"):
        list(read_matrices(f"ark:printf 'u {written}'; {end}"))
    with pytest.raises(ValueError, match="^u: .* not a Kaldi matrix"):  # a reader's own finding stays
        list(read_matrices("ark:echo u nonsense |"))
