"""Frame-wise normalization against NumPy, finite differences and a case worked out by hand."""

import numpy as np
import pytest
import torch

from asr_bn import BatchNormLSTM
from asr_bn.layers.frame_norm import normalize_frames
from asr_bn.layers.population_estimate import estimate_population_stats
from asr_bn.layers.recurrence.packing import PackedLayout


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
