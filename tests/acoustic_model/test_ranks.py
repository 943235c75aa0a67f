"""Two gloo ranks on the same mini-batches as one process: every step, the parameters, and what resumes."""

import os
import socket
from pathlib import Path

import pytest
import torch
from torch.multiprocessing import start_processes

from asr_bn.acoustic_model.run import train_model
from asr_bn.training import log as training_log
from asr_bn.training.checkpoint import ACOUSTIC_MODEL, load_checkpoint
from asr_bn.training.ranks import Ranks, process_group
from tests.helpers.training import config, make_data

# Batches of 6 of 31 utterances: the last one has a single utterance, so that a rank has none of it.
UTTERANCES, BATCH_SIZE, EPOCHS = 31, 6, 9
CPU = torch.device("cpu")


def run(folder: Path, out: Path, ranks: Ranks, resume: bool = False) -> list[float]:
    """FCE of every step."""
    steps: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_log, "draw_curves", lambda *_: None)
        patch.setattr(training_log.TrainingLog, "step", lambda _, step, fce, rate: steps.append(fce))
        experiment = config(epochs=EPOCHS, batch_size=BATCH_SIZE, learning_rate=1e-3, checkpoint_batches=4)
        with process_group(ranks, CPU):
            train_model(experiment, make_data(folder, UTTERANCES), out, CPU, resume, ranks=ranks)
    return steps


def work(rank: int, folder: str, port: int) -> None:
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
    own = Path(folder) / f"data{rank}"
    own.mkdir()
    torch.save(run(own, Path(folder) / "two", Ranks.from_environment()), own / "steps.pt")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_two_ranks_train_as_one_process_does(tmp_path):
    start_processes(work, (str(tmp_path), free_port()), nprocs=2, start_method="spawn")
    expected = run(tmp_path, tmp_path / "one", Ranks())
    actual = torch.load(tmp_path / "data0" / "steps.pt")
    assert len(actual) == len(expected) >= 50
    assert actual == pytest.approx(expected, abs=1e-5)
    assert expected[-1] < 0.8 * expected[0]
    assert torch.load(tmp_path / "data1" / "steps.pt") == []  # the second rank shows nothing
    assert_close(tmp_path / "two" / "last.pt", tmp_path / "one" / "last.pt")

    # What two ranks began, one process finishes.
    (tmp_path / "two" / "last.pt").unlink()
    assert len(run(tmp_path, tmp_path / "two", Ranks(), resume=True)) == 2
    assert_close(tmp_path / "two" / "last.pt", tmp_path / "one" / "last.pt")


def assert_close(actual: Path, expected: Path) -> None:
    states = [load_checkpoint(path, ACOUSTIC_MODEL) for path in (actual, expected)]
    for name, value in states[1]["model"].items():
        # Sums over frames are large, so that theirs is a relative tolerance.
        tolerances = {"rtol": 1e-4, "atol": 1e-5} if "stats" in name else {"rtol": 0.0, "atol": 1e-5}
        torch.testing.assert_close(states[0]["model"][name], value, **tolerances)
    for two, one in zip(*(state["progress"]["history"] for state in states), strict=True):
        assert two == pytest.approx(one, abs=1e-5)
