"""SIGKILL at random moments, also in the middle of a write; `tests.helpers.kill_training` repeats it."""

import subprocess
import sys
from pathlib import Path


def test_runs_that_are_killed_end_where_the_undisturbed_one_ends():
    command = [sys.executable, "-m", "tests.helpers.kill_training", "--kills", "4"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ends as the undisturbed one") == 4
