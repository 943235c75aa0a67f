"""Population statistics are not ordinary buffers: casts, moves, checkpoints, averages of models."""

import copy
import io
import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from asr_bn import BatchNormLSTM
from asr_bn.layers.population_stats import PopulationStats

NORMS = ("sequence", "frame", "recurrent")
NO_STATISTICS = "no population statistics"


def make(norm: str = "sequence", **options: object) -> BatchNormLSTM:
    torch.manual_seed(0)
    return BatchNormLSTM(5, 3, batch_first=True, norm=norm, eps=0.1, **options)


def features(frames: int = 6) -> Tensor:
    return torch.randn(4, frames, 5, generator=torch.Generator().manual_seed(1))


def trained(norm: str = "sequence", frames: int = 6) -> BatchNormLSTM:
    layer = make(norm)
    layer(features(frames))
    return layer


CASTS = {
    "half and back": lambda layer: layer.half().float(),
    "to bfloat16 and back": lambda layer: layer.to(torch.bfloat16).to("cpu", torch.float32),
    "float": lambda layer: layer.float(),
    "type": lambda layer: layer.type(torch.float32),
    "double": lambda layer: layer.double(),
    "copies": lambda layer: copy.deepcopy(nn.Sequential(layer).half())[0],
    "assigned": lambda layer: load(layer, {k: v.half() for k, v in layer.state_dict().items()}, assign=True),
}


def load(layer: nn.Module, state: dict[str, Tensor], **options: bool) -> nn.Module:
    fresh = make(layer.norm)
    fresh.load_state_dict(state, **options)
    return fresh


@pytest.mark.parametrize("cast", CASTS)
@pytest.mark.parametrize("norm", NORMS)
def test_statistics_stay_in_float64(norm, cast):
    layer = trained(norm)
    before = copy.deepcopy(layer.stats_l0.state_dict())
    after = CASTS[cast](layer).stats_l0
    assert all(buffer.dtype == torch.float64 for buffer in after.buffers())
    if cast != "assigned":  # which were rounded before
        assert all(torch.equal(buffer, before[name]) for name, buffer in after.named_buffers())


@pytest.mark.parametrize("norm", NORMS)
def test_reset_parameters_forgets_them(norm):
    layer = trained(norm)
    layer.reset_parameters()
    with pytest.raises(RuntimeError, match=NO_STATISTICS):
        layer.eval()(features())


@pytest.mark.parametrize("norm", NORMS)
def test_a_layer_from_the_meta_device_has_none(norm):
    """Neither as ``to_empty`` leaves it, nor once each module's ``reset_parameters`` has been called."""
    layer = make(norm, device="meta").to_empty(device="cpu")
    assert all(not buffer.any() and buffer.dtype == torch.float64 for buffer in layer.buffers())
    for buffer in layer.buffers():
        buffer.fill_(1e30)
    layer.stats_l0.reset_parameters()
    with pytest.raises(RuntimeError, match=NO_STATISTICS):
        layer.eval()(features())


@pytest.mark.parametrize("norm", NORMS)
def test_what_inference_mode_gathers_trains_on(norm):
    layer = make(norm)
    with torch.inference_mode():
        layer(features(9))
    layer(features())[0].sum().backward()
    expected = make(norm)
    for frames in (9, 6):
        expected(features(frames))
    assert all(torch.equal(a, b) for a, b in zip(layer.buffers(), expected.buffers(), strict=True))


@pytest.mark.parametrize("norm", ["frame", "recurrent"])
def test_buffers_keep_their_shape_for_windows_of_any_length(norm):
    layer = make(norm, max_steps=8)
    shapes = [buffer.shape for buffer in layer.buffers()]
    for frames in (3, 8, 20):
        layer(features(frames))
        assert [buffer.shape for buffer in layer.buffers()] == shapes
    assert layer.stats_l0.num_steps == 8


def test_the_last_step_pools_all_later_ones():
    """Three steps of two values each, of which the last two are one set: 1, 3 and then 5, 7, 9, 15."""
    stats = PopulationStats(1, momentum=None, max_steps=2)
    stats.update(
        torch.tensor([[2.0], [6.0], [12.0]]), torch.tensor([[1.0], [1.0], [9.0]]), torch.tensor([2] * 3)
    )
    mean, variance = stats.mean_and_variance(3)
    assert mean.flatten().tolist() == [2.0, 9.0, 9.0]
    assert variance.flatten().tolist() == pytest.approx([1.0, 14.0, 14.0])


def test_steps_of_a_single_sequence_take_those_of_the_last_step_of_more():
    stats = PopulationStats(1, momentum=None, max_steps=5)
    stats.update(
        torch.tensor([[1.0], [2.0], [7.0]]), torch.tensor([[1.0], [4.0], [0.0]]), torch.tensor([3, 2, 1])
    )
    mean, variance = stats.mean_and_variance(5)
    assert (mean.flatten().tolist(), variance.flatten().tolist()) == ([1.0] + [2.0] * 4, [1.0] + [4.0] * 4)
    stats.update(
        torch.tensor([[1.0], [2.0], [9.0]]), torch.tensor([[1.0], [4.0], [0.0]]), torch.tensor([3, 2, 1])
    )
    assert stats.mean_and_variance(5)[1].flatten().tolist() == [1.0, 4.0, 1.0, 1.0, 1.0]  # of 7 and 9


@pytest.mark.parametrize("norm", ["frame", "recurrent"])
def test_statistics_of_nothing_but_a_single_sequence_are_refused(norm):
    layer = make(norm)
    layer(features()[:1])
    with pytest.raises(RuntimeError, match="a single frame, which have no variance"):
        layer.eval()(features())


@pytest.mark.parametrize(("norm", "use_buffers"), list(itertools.product(NORMS, (False, True))))
def test_averages_of_models_hold_them(norm, use_buffers):
    """Copies of the model's own, or averages of the sums: by hand, with weights 0.9 and 0.1."""
    layer = make(norm)
    average = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=use_buffers)
    expected = [buffer.clone() for buffer in layer.buffers()]
    for step, frames in enumerate((4, 6, 5)):
        layer(features(frames))
        average.update_parameters(layer)
        keep = 0.9 if use_buffers and step else 0.0
        expected = [keep * a + (1 - keep) * b for a, b in zip(expected, layer.buffers(), strict=True)]
    torch.testing.assert_close(list(average.module.buffers()), expected, rtol=1e-12, atol=0.0)
    assert average.eval()(features())[0].isfinite().all()


@pytest.mark.parametrize(("norm", "saved"), list(itertools.product(("frame", "recurrent"), (4, 12))))
def test_checkpoints_of_other_numbers_of_steps_load(norm, saved):
    """As older versions wrote them: as many steps as the longest window of training had."""
    layer = trained(norm, frames=saved)
    state = {k: v[:saved] if "stats" in k else v for k, v in layer.state_dict().items()}
    stream = io.BytesIO()
    torch.save(state, stream)
    for assign in (False, True):
        fresh = make(norm, max_steps=8)
        fresh.load_state_dict(torch.load(io.BytesIO(stream.getvalue())), assign=assign)
        assert fresh.stats_l0.num_steps == saved
        assert len(fresh.stats_l0.count) == max(saved, 8)
        assert torch.equal(fresh.eval()(features(15))[0], layer.eval()(features(15))[0])
        fresh.train()(features(15))


def test_a_checkpoint_of_time_steps_is_none_of_sequence_wise_normalization():
    with pytest.raises(RuntimeError, match="size mismatch for stats_l0.count"):
        make("sequence").load_state_dict(trained("frame").state_dict())


def test_pooled_statistics_hold_what_lies_between_batches():
    """Two batches without any spread of their own: all variance is between them, weighted by frames."""
    stats = PopulationStats(1, momentum=None)
    for value, count in ((0.0, 3), (4.0, 1)):
        stats.update(torch.tensor([[value]]), torch.tensor([[0.0]]), torch.tensor([count]))
    mean, variance = stats.mean_and_variance()
    assert (mean.item(), variance.item()) == (1.0, 3.0)  # of 0, 0, 0, 4


def test_running_statistics_forget_by_momentum():
    stats = PopulationStats(1, momentum=0.25)
    stats.update(torch.tensor([[1.0]]), torch.tensor([[0.0]]), torch.tensor([4]))
    stats.update(torch.tensor([[3.0]]), torch.tensor([[0.0]]), torch.tensor([1]))
    assert stats.count.item() == 4 * 0.75 + 1
    assert stats.mean_and_variance()[0].item() == pytest.approx((3 * 1 + 1 * 3) / 4)


def test_steps_beyond_the_longest_window_take_the_last_ones_statistics():
    stats = PopulationStats(1, momentum=None, max_steps=9)
    stats.update(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.5], [0.25]]), torch.tensor([2, 2]))
    mean, variance = stats.mean_and_variance(4)
    assert mean.flatten().tolist() == [1.0, 2.0, 2.0, 2.0]
    assert variance.flatten().tolist() == [0.5, 0.25, 0.25, 0.25]


def test_a_short_window_updates_only_the_steps_it_has():
    stats = PopulationStats(1, momentum=None, max_steps=3)
    stats.update(torch.tensor([[1.0], [2.0]]), torch.zeros(2, 1), torch.tensor([2, 2]))
    stats.update(torch.tensor([[3.0]]), torch.zeros(1, 1), torch.tensor([2]))
    assert stats.mean_and_variance(2)[0].flatten().tolist() == [2.0, 2.0]
    assert stats.count.tolist() == [4.0, 2.0, 0.0]


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_gradient_checkpointing_counts_a_batch_once(norm, use_reentrant):
    plain, checkpointed, gradients = make(norm), make(norm), []
    for layer in (plain, checkpointed):
        x = features().requires_grad_()
        if layer is plain:
            output, _ = layer(x)
        else:
            output, _ = checkpoint(layer, x, use_reentrant=use_reentrant)
        output.square().sum().backward()
        gradients.append([x.grad, *(parameter.grad for parameter in layer.parameters())])
    for ours, theirs in zip(*gradients, strict=True):
        assert torch.equal(ours, theirs)
    assert all(torch.equal(a, b) for a, b in zip(checkpointed.buffers(), plain.buffers(), strict=True))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("momentum", [None, 0.5])
def test_momentum_can_be_set_later(norm, momentum):
    """As with nn.BatchNorm1d; it equals a layer that was made with it."""
    changed, expected = make(norm), make(norm, momentum=momentum)
    changed.momentum = momentum
    for layer in (changed, expected):
        for factor in (1.0, 2.0):
            layer(factor * features())
    assert changed.momentum == momentum
    assert all(torch.equal(a, b) for a, b in zip(changed.buffers(), expected.buffers(), strict=True))


@pytest.mark.parametrize("damaged", [torch.tensor(5.0), "text", torch.zeros(1, 2)], ids=str)
@pytest.mark.parametrize("norm", NORMS)
def test_damaged_statistics_are_named(norm, damaged):
    state = trained(norm).state_dict()
    state["stats_l0.sum"] = damaged
    with pytest.raises(RuntimeError, match=r"stats_l0\.sum"):
        make(norm).load_state_dict(state)


@pytest.mark.parametrize("norm", NORMS)
def test_a_momentum_of_zero_freezes_statistics(norm):
    """As nn.BatchNorm1d: a new mini-batch has no weight."""
    layer = trained(norm)
    before = copy.deepcopy(layer.stats_l0.state_dict())
    layer.momentum = 0.0
    layer(2.0 * features())
    assert all(torch.equal(buffer, before[name]) for name, buffer in layer.stats_l0.named_buffers())
