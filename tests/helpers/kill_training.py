"""Kills training runs at random moments, with SIGKILL, and compares what their resumed runs end with.

    python -m tests.helpers.kill_training --kills 20

Every second kill waits for a checkpoint that is being written.  The runs are children of this process: each
one starts in no time.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
from tqdm import tqdm

from asr_bn.acoustic_model.data import RunData
from asr_bn.acoustic_model.run import train_model
from tests.helpers.training import assert_same_runs, config, make_data

CONFIG = config(dropout=0.3, epochs=2, batch_size=3)


def start(work: Callable[[], None]) -> int:
    """Run ``work`` in a child, silently; its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
            work()
        code = 0
    finally:
        os._exit(code)


def succeeded(pid: int) -> bool:
    return os.waitpid(pid, 0)[1] == 0


def kill(pid: int, out: Path, seconds: float, in_write: bool) -> str:
    """Kill the child after ``seconds``, or as soon after that as it writes; says when that was."""
    started = time.monotonic()
    time.sleep(seconds)
    while in_write and os.waitpid(pid, os.WNOHANG)[0] == 0:
        if any(out.glob(".*.tmp")) or (out / "next.pt").exists():
            break
    else:
        if in_write:
            return "too late"
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status):
        return "too late"
    half_written = len(list(out.glob(".*.tmp")))
    return f"killed after {time.monotonic() - started:.3f} s, {half_written} files half-written"


def run_all(folder: Path, kills: int, generator: random.Random) -> None:
    """Undisturbed run, then kills."""
    data = make_data(folder, 20)

    def training(out: Path) -> Callable[[], None]:
        return lambda: train(data, out)

    begun = time.monotonic()
    if not succeeded(start(training(folder / "whole"))):
        sys.exit("the undisturbed run failed")
    duration = time.monotonic() - begun
    done = 0
    for attempt in range(10 * kills):
        out = folder / f"run{attempt}"
        in_write = done % 2 == 1
        outcome = kill(start(training(out)), out, generator.uniform(0.0, duration), in_write)
        if outcome == "too late":
            continue
        if not succeeded(start(training(out))):
            sys.exit(f"{outcome}: the resumed run failed")
        assert_same_runs(out, folder / "whole")
        if left := list(out.glob(".*.tmp")):
            sys.exit(f"{outcome}: {left[0]} is left")
        done += 1
        print(f"{done}: {outcome}; the resumed run ends as the undisturbed one", flush=True)
        if done == kills:
            return
    sys.exit(f"only {done} of {kills} runs were still going on when they were to be killed")


def train(data: RunData, out: Path) -> None:
    """A run, or what is left of it."""
    train_model(CONFIG, data, out, torch.device("cpu"), resume=True)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0  # no thread, which a fork would lose
    with tempfile.TemporaryDirectory() as folder, patch("asr_bn.training.log.draw_curves"):
        run_all(Path(folder), options.kills, random.Random(options.seed))


if __name__ == "__main__":
    main()
