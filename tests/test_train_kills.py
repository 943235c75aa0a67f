"""SIGKILL at random moments, in the middle of a write too; ``tests/kill_training.py`` does it more often."""

import subprocess
import sys
from pathlib import Path


def test_runs_that_are_killed_end_where_the_undisturbed_one_ends():
    command = [sys.executable, "-m", "tests.kill_training", "--kills", "4"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ends as the undisturbed one") == 4
