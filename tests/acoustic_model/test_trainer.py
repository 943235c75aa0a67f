"""Training: the loss conventions by hand, exact resume, and what is refused."""

import math

import numpy as np
import pytest
import torch

from asr_bn.acoustic_model.data import RunData
from asr_bn.acoustic_model.evaluation import FrameSums
from asr_bn.acoustic_model.feature_statistics import feature_statistics
from asr_bn.acoustic_model.trainer import Trainer
from asr_bn.training.checkpoint import ACOUSTIC_MODEL, load_checkpoint
from tests.helpers.training import assert_same_runs, make_data, no_figure, train

pytestmark = pytest.mark.usefixtures(no_figure.__name__)


@pytest.fixture
def data(tmp_path) -> RunData:
    return make_data(tmp_path)


def test_it_learns_and_keeps_the_best_epoch(data, tmp_path):
    trainer = train(data, tmp_path / "out", epochs=12)
    history = trainer.progress.history
    assert history[-1]["train_fce"] < 0.7 * history[0]["train_fce"]  # over 20 seeds 0.05 to 0.15 of it
    best = load_checkpoint(tmp_path / "out" / "best.pt", ACOUSTIC_MODEL)
    assert best["progress"]["history"][-1]["epoch"] == trainer.progress.best_epoch


class Stopped(Exception):
    pass


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 7, 11])
def test_a_run_stopped_after_any_step_ends_where_the_undisturbed_one_ends(data, tmp_path, monkeypatch, steps):
    """Bit for bit: parameters, momentum, statistics and figures."""
    train(data, tmp_path / "whole", dropout=0.3)
    original, taken = Trainer.step, 0

    def stopping(self, batch):
        nonlocal taken
        if taken == steps:
            raise Stopped
        taken += 1
        original(self, batch)

    monkeypatch.setattr(Trainer, "step", stopping)
    with pytest.raises(Stopped):
        train(data, tmp_path / "stopped", dropout=0.3)
    monkeypatch.setattr(Trainer, "step", original)
    train(data, tmp_path / "stopped", resume=True, dropout=0.3)
    assert_same_runs(tmp_path / "stopped", tmp_path / "whole")


def test_the_two_losses_by_hand(data, tmp_path):
    """Gradients of the first step: summed over frames and averaged over utterances, or over frames."""
    gradients = {}
    for loss in ("sequence_sum", "frame_mean"):
        # One step without momentum moves the biases, which start at zero, by the gradient.
        trainer = train(
            data, tmp_path / loss, loss=loss, learning_rate=1e-3, momentum=0.0, epochs=1, batch_size=10
        )
        gradients[loss] = trainer.model.output.bias.detach() / -1e-3
    frames, utterances = int(data.train.num_frames.sum()), len(data.train)
    expected = gradients["frame_mean"] * frames / utterances
    torch.testing.assert_close(gradients["sequence_sum"], expected, rtol=1e-3, atol=1e-4)


def test_cross_entropy_and_errors_by_hand():
    log_posteriors = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
    sums = FrameSums.of(log_posteriors, torch.tensor([0, 1]))
    assert sums.fce == pytest.approx((math.log(2) + math.log(10)) / 2)
    assert sums.fer == 0.5


def test_feature_statistics_against_numpy(data):
    from asr_bn.features.deltas import add_deltas

    frames = np.concatenate([add_deltas(data.train.feats[u], 2) for u in data.train.utt_ids]).astype(
        np.float64
    )
    mean, std = feature_statistics(data.train, 2)
    np.testing.assert_allclose(mean, frames.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(std, frames.std(0), rtol=1e-5)


def test_an_existing_run_is_not_overwritten(data, tmp_path):
    train(data, tmp_path / "out")
    with pytest.raises(ValueError, match="holds a training run already"):
        train(data, tmp_path / "out")


def test_resuming_with_another_configuration_names_the_difference(data, tmp_path):
    train(data, tmp_path / "out")
    with pytest.raises(ValueError, match=r"was made with training\.learning_rate = 0\.01, this run has 0\.5"):
        train(data, tmp_path / "out", resume=True, learning_rate=0.5)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_utterances(data, tmp_path):
    with pytest.raises(ValueError, match=r"not finite in 3 steps in a row, the last one on u\d\d"):
        train(data, tmp_path / "out", learning_rate=1e38, epochs=20)
    written = (tmp_path / "out" / "non_finite_utt_ids").read_text().split()
    assert len(written) > 3
    assert set(written) <= set(data.train.utt_ids)
