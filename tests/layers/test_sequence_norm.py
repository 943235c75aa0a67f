"""Sequence-wise statistics against NumPy, float64 and finite differences."""

import numpy as np
import pytest
import torch

from asr_bn.layers.recurrence.reference import row_moments
from asr_bn.layers.sequence_norm import BLOCK_COLUMNS, _cancelling_rows, projected_moments


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
