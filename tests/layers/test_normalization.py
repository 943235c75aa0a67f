"""Frame-wise normalization and population statistics against NumPy and cases worked out by hand."""

import numpy as np
import pytest
import torch

from asr_bn import BatchNormLSTM
from asr_bn.layers.normalization import BLOCK_COLUMNS, _cancelling_rows, normalize_frames, projected_moments
from asr_bn.layers.population import estimate_population_stats
from asr_bn.layers.population_stats import PopulationStats
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.reference import row_moments


def test_projected_moments_ignore_a_large_common_offset():
    """|mean| 1000 times the deviation: float32 moments must not drown in rounding."""
    torch.manual_seed(0)
    x = torch.randn(5000, 4, dtype=torch.float64) + 1000.0
    weight = torch.randn(2, 3, 4, dtype=torch.float64)
    mean, variance, count = projected_moments(x.float(), weight.float())
    z = x.float().double().numpy() @ weight.float().double().numpy().transpose(0, 2, 1)
    np.testing.assert_allclose(variance, z.var(1), rtol=1e-4)
    np.testing.assert_allclose(mean, z.mean(1), rtol=1e-5, atol=1e-2)
    assert count.item() == 5000


@pytest.mark.parametrize("width", [3, BLOCK_COLUMNS + 5])  # one block, two blocks
def test_projected_moments_equal_those_of_the_projection_with_gradients(width):
    torch.manual_seed(0)
    x, weight = (torch.randn(size, width, dtype=torch.float64, requires_grad=True) for size in (40, 8))
    direction = torch.randn(2, 2, 4, dtype=torch.float64)
    moments = projected_moments(x, weight.view(2, 4, width))[:2]
    z = x @ weight.t()
    expected = z.mean(0).view(2, 4), z.var(0, correction=0).view(2, 4)
    for ours, theirs in zip(moments, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    ours, theirs = (
        torch.autograd.grad((torch.stack(values) * direction).sum(), (x, weight))
        for values in (moments, expected)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


CANCELLING = {
    "a common component": lambda x, w: (x + 1e3 * x[:, :1], w - w.mean(-1, keepdim=True)),
    "nearly equal features": lambda x, w: (
        torch.cat([x, x + 1e-3 * x.flip(1)], 1),
        torch.cat([w, -w], -1),
    ),
    "one of a hundred rows": lambda x, w: (x + 1e3 * x[:, :1], torch.cat([w, w[:1] - w[:1].mean()])),
}


@pytest.mark.parametrize("width", [12, 200])
@pytest.mark.parametrize("case", CANCELLING)
def test_nearly_dependent_features_lose_no_more_than_the_projection_itself(case, width):
    """Variance and gradients in float32 against float64, next to those of z, computed in float32 as well."""
    torch.manual_seed(0)
    x, weight = CANCELLING[case](torch.randn(400, width), torch.randn(100, width))
    direction = torch.randn(len(weight)) / len(x)

    def results(moments, dtype):
        inputs = [values.to(dtype).requires_grad_() for values in (x, weight)]
        variance = moments(*inputs)[1]
        loss = (variance.rsqrt() * direction.to(dtype)).sum()
        return [variance.detach(), *torch.autograd.grad(loss, inputs)]

    exact = results(projected_moments, torch.float64)
    itself = results(lambda x, w: row_moments(x @ w.t(), sync=False), torch.float32)
    for ours, theirs, true in zip(results(projected_moments, torch.float32), itself, exact, strict=True):
        errors = [((values - true).abs() / true.abs().max()).max().item() for values in (ours, theirs)]
        assert errors[0] <= 10 * errors[1] + 1e-6


def test_ordinary_rows_keep_the_fused_variance():
    """What cancels is computed twice, so it must be rare: no row of random weights on correlated features."""
    torch.manual_seed(0)
    x = torch.randn(1000, 123) @ torch.randn(123, 123).cumsum(1)
    covariance = torch.cov(x.t(), correction=0)
    weight = torch.randn(1000, 123)
    variance = ((weight @ covariance) * weight).sum(1)
    assert not len(_cancelling_rows(weight, covariance, variance, sync=False))


def test_moments_do_not_depend_on_the_precision_that_products_may_take():
    torch.manual_seed(0)
    x, weight = torch.randn(2000, 64) + 3.0, torch.randn(32, 64)
    expected = projected_moments(x, weight)
    products = torch.backends.mkldnn.matmul
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        actual = projected_moments(x, weight)
        assert products.fp32_precision == "bf16"
    finally:
        products.fp32_precision = before
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_projected_moments_gradients_by_finite_differences():
    x, weight = (torch.randn(size, 3, dtype=torch.float64, requires_grad=True) for size in (6, 4))
    assert torch.autograd.gradcheck(lambda x, w: projected_moments(x, w)[:2], (x, weight))


def test_frame_wise_normalization_as_equation_19_says():
    """Two utterances of lengths 2 and 1: step 0 has two values, step 1 has one and becomes beta."""
    layout = PackedLayout([2, 1])
    z = torch.tensor([[1.0], [3.0], [7.0]], dtype=torch.float64)
    gamma, beta = torch.tensor([2.0], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64)
    result, mean, variance, count = normalize_frames(z, gamma, beta, layout, eps=0.0 + 3.0)
    # Step 0: mean 2, variance 1, so (1 - 2) / sqrt(1 + 3) = -0.5, times 2, plus 0.5.
    assert result.flatten().tolist() == pytest.approx([-0.5, 1.5, 0.5])
    assert (mean.flatten().tolist(), variance.flatten().tolist(), count.tolist()) == ([2, 7], [1, 0], [2, 1])


def test_frame_wise_gradients_by_finite_differences():
    torch.manual_seed(0)
    layout = PackedLayout([4, 4, 3, 1])
    z, gamma, beta = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in [(layout.num_rows, 2), (2,), (2,)]
    )
    assert torch.autograd.gradcheck(
        lambda *inputs: normalize_frames(*inputs, layout, 1e-2)[0], (z, gamma, beta)
    )


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


def test_frame_wise_population_statistics_against_numpy():
    """Each step's statistics of W x over all sequences of two windows of different lengths."""
    torch.manual_seed(0)
    layer = BatchNormLSTM(3, 2, batch_first=True, norm="frame", dtype=torch.float64)
    windows = [torch.randn(4, 5, 3, dtype=torch.float64), torch.randn(6, 3, 3, dtype=torch.float64)]
    estimate_population_stats(layer, windows)
    mean, variance = layer.stats_l0.mean_and_variance(5)
    weight = layer.weight_ih_l0.detach().numpy()
    for step in range(5):
        z = np.concatenate([w[:, step].numpy() @ weight.T for w in windows if step < w.shape[1]])
        np.testing.assert_allclose(mean[step], z.mean(0), rtol=0, atol=1e-12)
        np.testing.assert_allclose(variance[step], z.var(0), rtol=0, atol=1e-12)


def test_state_dict_of_many_steps_loads_into_a_new_layer():
    layer, fresh = (BatchNormLSTM(3, 2, batch_first=True, norm="frame") for _ in range(2))
    x = torch.randn(4, 7, 3)
    layer(x)
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh.eval()(x)[0], layer.eval()(x)[0])


def test_estimation_ignores_dropout_and_leaves_everything_else_as_it_was():
    torch.manual_seed(0)
    layer = BatchNormLSTM(3, 2, 2, batch_first=True, norm="sequence", dropout=0.5).eval()
    batches = [torch.randn(4, 7, 3), torch.randn(2, 9, 3)]
    parameters = {name: value.clone() for name, value in layer.named_parameters()}
    results = []
    for _ in range(2):
        estimate_population_stats(layer, batches)
        results.append(layer(batches[0])[0])
    assert torch.equal(*results)
    assert (layer.dropout, layer.training, layer.stats_l0.momentum) == (0.5, False, 0.1)
    assert all(torch.equal(value, parameters[name]) for name, value in layer.named_parameters())


def test_estimation_without_batches_or_without_normalization_is_refused():
    with pytest.raises(ValueError, match="no mini-batches"):
        estimate_population_stats(BatchNormLSTM(3, 2, norm="sequence"), [])
    with pytest.raises(ValueError, match="no batch normalization"):
        estimate_population_stats(BatchNormLSTM(3, 2), [torch.zeros(2, 1, 3)])
