"""Output that cannot be written: one line and exit code 1, and no half archive."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.kaldi_fixtures import SYNTHETIC


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, which is a full disk")
@pytest.mark.parametrize("verb", ["alignments", "cmvn"])
def test_a_full_disk_behind_standard_output(verb: str, tmp_path: Path) -> None:
    source = {"alignments": "ali", "cmvn": "oracles/feats/compressed.default.ark"}[verb]
    command = [sys.executable, "-m", "asr_bn.cli.main", verb, str(SYNTHETIC / source), "ark:-"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "asr-bn: error: standard output: No space left on device\n"


def test_a_full_disk_behind_an_archive(tmp_path: Path) -> None:
    """A limit of the size of files stands in for it; the archive does not get its name."""
    command = [sys.executable, "-m", "asr_bn.cli.main", "alignments", str(SYNTHETIC / "ali")]
    limited = ["bash", "-c", 'ulimit -f 1; exec "$@"', "-", *command, f"ark:{tmp_path}/out/pdf.ark"]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"asr-bn: error: {tmp_path}/out/pdf.ark: File too large\n"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    command = f"{sys.executable} -m asr_bn.cli.main alignments {SYNTHETIC}/ali ark:- 2> {tmp_path}/err | true"
    done = subprocess.run(["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], check=False)
    assert done.returncode == 1
    assert (tmp_path / "err").read_text() == ""
