"""``scripts/portability.sh`` on a Python that is there already: what it runs, keeps and prints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VERSION = f"3.{sys.version_info.minor}"
TEST = """
import pytest
def test_passes(): pass
def test_fails(): assert {outcome}
@pytest.mark.skip
def test_is_skipped(): pass
"""


@pytest.fixture
def run(tmp_path: Path):
    """Run the script with this Python in the place of the environment that it would make."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for place in (tmp_path / "bin" / f"python{VERSION}", tmp_path / f"out/venv-{VERSION}-newest/bin/python"):
        place.parent.mkdir(parents=True)
        place.symlink_to(python)
    (tmp_path / f"out/venv-{VERSION}-newest/.installed").touch()
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}

    def call(*options: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "scripts/portability.sh", "--out", str(tmp_path / "out"), *options]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    return call


def test_results_are_kept_and_printed(run, tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text(TEST.format(outcome="False"))
    options = ["--python", VERSION, "--versions", "newest", "--", str(test)]
    done = run(*options)
    assert done.returncode == 1
    assert f"| python-{VERSION}-newest | 1 | 1 | 1 | " in done.stdout
    test.write_text(TEST.format(outcome="True"))
    again = run(*options)  # the same commit and arguments: nothing is run
    assert (again.returncode, again.stdout) == (1, done.stdout)
    assert f"python-{VERSION}-newest: there is a result" in again.stderr
    assert run("--table").stdout == done.stdout
    anew = run("--again", *options)
    assert anew.returncode == 0 and f"| python-{VERSION}-newest | 2 | 0 | 1 | " in anew.stdout


def test_a_python_that_is_not_there_has_a_line(run) -> None:
    done = run("--python", "3.99", "--versions", "oldest")
    assert done.returncode == 0
    assert "| python-3.99-oldest | no Python 3.99 on PATH or in pyenv | | | |" in done.stdout


def test_a_run_that_ends_without_a_result_is_no_success(run, tmp_path: Path) -> None:
    done = run("--python", VERSION, "--versions", "newest", "--", str(tmp_path / "missing.py"))
    assert done.returncode == 1
    assert f"| python-{VERSION}-newest | no result, see {tmp_path}/out/python-" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--kernels", "sse9"], "--kernels sse9: expected one of aten-default"),
        (["--python", "12"], "--python 12: expected a version as 3.12"),
        (["--versions", "latest"], "--versions latest: expected oldest or newest"),
        (["--kernels", "--table"], "--kernels needs a value"),
        (["--fast"], "--fast: unknown option"),
    ],
)
def test_bad_options_are_named(run, options: list[str], said: str) -> None:
    done = run(*options)
    assert done.returncode == 1 and f"portability.sh: error: {said}" in done.stderr
