"""Optimizers, schedules and precisions: what they do by hand, and that a resumed run has their state."""

import functools

import pytest
import torch

from asr_bn.acoustic_model.experiment import TrainingConfig
from asr_bn.acoustic_model.optimization import make_optimization
from asr_bn.acoustic_model.trainer import Trainer
from asr_bn.training.checkpoint import ACOUSTIC_MODEL, load_checkpoint, save_checkpoint
from asr_bn.training.device import default_num_workers
from asr_bn.training.optimization import Newbob
from tests.helpers.training import assert_same_runs, make_data, no_figure, train

pytestmark = pytest.mark.usefixtures(no_figure.__name__)


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path)


def test_a_checkpoint_that_lacks_an_option_was_made_with_its_default(data, tmp_path):
    train(data, tmp_path / "out", epochs=1)
    state = load_checkpoint(tmp_path / "out" / "last.pt", ACOUSTIC_MODEL)
    del state["config"]["training"]["optimizer"]
    save_checkpoint(tmp_path / "out" / "last.pt", state, ACOUSTIC_MODEL)
    train(data, tmp_path / "out", epochs=1, resume=True)
    with pytest.raises(ValueError, match=r"made with training\.optimizer = 'sgd', this run has 'adam'"):
        train(data, tmp_path / "out", epochs=1, resume=True, optimizer="adam")


def rates(schedule, optimizer, dev_fces):
    values = []
    for fce in dev_fces:
        schedule.step(fce)
        values.append(optimizer.param_groups[0]["lr"])
    return values


def test_newbob_by_hand():
    """From the first epoch that improves by less than 1 % on, the rate halves after each."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    newbob = Newbob(optimizer, factor=0.5, threshold=0.01)
    assert rates(newbob, optimizer, [1.0, 0.9, 0.98 * 0.9]) == [1.0, 1.0, 1.0]
    assert rates(newbob, optimizer, [0.88, 0.5, 0.6]) == [0.5, 0.25, 0.125]
    continued = Newbob(optimizer, 0.5, 0.01)
    continued.load_state_dict(newbob.state_dict())
    assert rates(continued, optimizer, [0.1]) == [0.0625]


def test_plateau_by_hand():
    """Two epochs in a row that do not beat the best one by 1 % lower the rate once."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    model = torch.nn.ParameterList([parameter])
    training = TrainingConfig(learning_rate=1.0, schedule="plateau", schedule_factor=0.1, schedule_patience=1)
    optimization = make_optimization(model, training, torch.device("cpu"))
    values = []
    for fce in [1.0, 0.995, 0.9, 0.899, 0.895, 0.8]:
        optimization.end_epoch(fce)
        values.append(optimization.learning_rate)
    assert values == pytest.approx([1.0, 1.0, 1.0, 1.0, 0.1, 0.1])


def test_adams_first_step_moves_every_parameter_by_the_learning_rate(data, tmp_path):
    """Its averages are those of one gradient then: m / sqrt(v) is the gradient's sign."""
    trainer = train(data, tmp_path / "out", epochs=1, batch_size=10, optimizer="adam", learning_rate=1e-3)
    bias = trainer.model.output.bias.detach()
    torch.testing.assert_close(bias.abs(), torch.full_like(bias, 1e-3), rtol=1e-3, atol=0.0)


class Stopped(Exception):
    pass


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam", "schedule": "plateau", "schedule_threshold": 0.5},
        {"precision": "float16", "schedule": "newbob", "schedule_threshold": 0.9},
        {"precision": "bfloat16", "batch_frames": 60},
    ],
    ids=["adam, plateau", "float16, newbob", "bfloat16, frame budget"],
)
def test_a_resumed_run_has_the_state_of_all_of_them(data, tmp_path, monkeypatch, options):
    whole = train(data, tmp_path / "whole", **options)
    original = Trainer.step
    last = whole.progress.steps - 2

    def stopping(self, batch):
        if self.progress.steps == last:
            raise Stopped
        original(self, batch)

    monkeypatch.setattr(Trainer, "step", stopping)
    with pytest.raises(Stopped):
        train(data, tmp_path / "stopped", **options)
    monkeypatch.setattr(Trainer, "step", original)
    train(data, tmp_path / "stopped", resume=True, **options)
    assert_same_runs(tmp_path / "stopped", tmp_path / "whole")
    learning_rates = [figures["learning_rate"] for figures in whole.progress.history]
    assert (learning_rates[0] != learning_rates[-1]) == ("schedule" in options)
    state = load_checkpoint(tmp_path / "whole" / "last.pt", ACOUSTIC_MODEL)
    assert ("scaler" in state) == (options.get("precision") == "float16")


def test_other_precisions_learn_what_float32_learns(data, tmp_path, monkeypatch):
    """Over 20 seeds and corpora bfloat16 was off by 0.0017 at most, float16 by 0.0003."""
    # A scale at which no gradient overflows: each step of float16 that is skipped would put it behind.
    scaler = functools.partial(torch.amp.GradScaler, init_scale=128.0)
    monkeypatch.setattr("torch.amp.GradScaler", scaler)
    runs = {
        precision: train(data, tmp_path / precision, epochs=5, precision=precision).progress.history
        for precision in ("float32", "tf32", "bfloat16", "float16")
    }
    curves = {precision: [entry["train_fce"] for entry in history] for precision, history in runs.items()}
    assert not any(entry["skipped_steps"] for history in runs.values() for entry in history)
    assert curves["tf32"] == curves["float32"]  # a CPU has no TF32
    assert curves["bfloat16"] == pytest.approx(curves["float32"], rel=0.02)  # rounded to 2^-8
    assert curves["float16"] == pytest.approx(curves["float32"], rel=0.005)  # rounded to 2^-11


def test_the_first_steps_of_float16_lower_the_scale(data, tmp_path):
    """From 65536, at which gradients overflow; after that it learns."""
    history = train(data, tmp_path / "out", epochs=8, precision="float16").progress.history
    assert history[0]["skipped_steps"] > 0 and not history[-1]["skipped_steps"]
    assert history[-1]["train_fce"] < 0.7 * history[0]["train_fce"]


def test_a_gradient_that_overflows_in_float16_lowers_the_scale_and_is_no_failure():
    parameter = torch.nn.Parameter(torch.zeros(2))
    model = torch.nn.ParameterList([parameter])
    optimization = make_optimization(model, TrainingConfig(precision="float16"), torch.device("cpu"))
    scale = optimization.state_dict()["scaler"]["scale"]
    for expected in (scale / 2, scale / 4):
        norm = optimization.backward((parameter * torch.tensor([1e36, 1.0])).sum())
        assert optimization.step(1.0, norm.item()) == "scale lowered"
        assert optimization.state_dict()["scaler"]["scale"] == expected
        assert parameter.tolist() == [0.0, 0.0]
    norm = optimization.backward(parameter.sum())
    assert optimization.step(1.0, norm.item()) == "taken"
    torch.testing.assert_close(parameter.detach(), torch.full((2,), -1e-4))
    assert optimization.step(float("nan"), 1.0) == "not finite"


def test_workers_by_default():
    assert default_num_workers(torch.device("cpu")) == 0
    assert 1 <= default_num_workers(torch.device("cuda")) <= 4
