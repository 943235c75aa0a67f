"""The GMM arithmetic against ``kaldi-hmm-gmm``'s own, and cases computed by hand."""

import numpy as np
import pytest

khg = pytest.importorskip("kaldi_hmm_gmm", reason="kaldi-hmm-gmm is not installed")

from asr_bn.gmm.mixtures import Mixture, accumulate, split, split_targets, to_am_diag_gmm, update  # noqa: E402


@pytest.fixture
def mixture() -> Mixture:
    rng = np.random.default_rng(0)
    return Mixture(np.array([0.2, 0.3, 0.5]), rng.normal(size=(3, 4)), rng.uniform(0.5, 2.0, size=(3, 4)))


def test_em_step_equals_kaldis(mixture: Mixture) -> None:
    feats = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
    model = to_am_diag_gmm([mixture])
    accumulators = khg.AccumAmDiagGmm()
    flags = khg.str_to_gmm_flags("mvw")
    accumulators.init(model, flags)
    log_likelihood = sum(accumulators.accumulate_for_gmm(model, frame, 0, 1.0) for frame in feats)
    # Their float32 sums against our float64.
    scores = mixture.log_likelihoods(feats)
    assert np.logaddexp.reduce(scores, axis=1).sum() == pytest.approx(log_likelihood, rel=1e-5)
    khg.mle_am_diag_gmm_update(khg.MleDiagGmmOptions(), accumulators, flags, model)
    ours = update(mixture, accumulate(mixture, feats), min_occupancy=10.0)
    theirs = model.get_pdf(0)
    np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-4)
    np.testing.assert_allclose(ours.means, theirs.means, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(1 / ours.variances, theirs.inv_vars, rtol=1e-3)


def test_statistics_add_up(mixture: Mixture) -> None:
    feats = np.random.default_rng(2).normal(size=(50, 4)).astype(np.float32)
    parts = accumulate(mixture, feats[:20]) + accumulate(mixture, feats[20:]) + accumulate(mixture, feats[:0])
    np.testing.assert_allclose(parts.squares, accumulate(mixture, feats).squares, rtol=1e-12)
    assert parts.counts.sum() == pytest.approx(50)


def test_rare_gaussians_go_but_never_all(mixture: Mixture) -> None:
    far = Mixture(mixture.weights, np.array([[0.0] * 4, [0.0] * 4, [99.0] * 4]), mixture.variances)
    feats = np.random.default_rng(3).normal(size=(100, 4)).astype(np.float32)
    updated = update(far, accumulate(far, feats), min_occupancy=10.0)
    assert updated.weights.shape == (2,) and updated.weights.sum() == pytest.approx(1.0)
    assert update(far, accumulate(far, feats[:3]), min_occupancy=10.0) is far


def test_split_targets_by_hand() -> None:
    # 16 ** 0.25 = 2, 81 ** 0.25 = 3, and the third has too few frames for two.
    assert split_targets([1600.0, 8100.0, 30.0], 6) == [2, 3, 1]
    assert split_targets([50.0, 50.0], 100) == [2, 2]
    assert split_targets([5.0, 5.0], 1) == [1, 1]


def test_split_targets_are_kaldis(mixture: Mixture) -> None:
    counts = np.random.default_rng(4).uniform(10, 5000, size=40).astype(np.float32)
    one = Mixture(np.ones(1), mixture.means[:1], mixture.variances[:1])
    for target in (20, 60, 150, 100_000):
        model = to_am_diag_gmm([one] * len(counts))
        model.split_by_count(
            state_occs=counts, target_components=target, perturb_factor=0.01, power=0.25, min_count=20.0
        )
        theirs = [model.num_gauss_in_pdf(pdf) for pdf in range(len(counts))]
        assert split_targets(counts.tolist(), target) == theirs


def test_splitting_keeps_weight_and_centre(mixture: Mixture) -> None:
    parts = split(mixture, 5, np.random.default_rng(0))
    assert parts.weights.tolist() == pytest.approx([0.2, 0.15, 0.25, 0.25, 0.15])
    np.testing.assert_allclose(parts.weights @ parts.means, mixture.weights @ mixture.means)
    np.testing.assert_array_equal(parts.means, split(mixture, 5, np.random.default_rng(0)).means)


def test_boosted_pdfs_only(mixture: Mixture) -> None:
    model = to_am_diag_gmm([mixture, mixture], boosted=[1], boost=1.25)
    frame = np.zeros(4, np.float32)
    gain = model.log_likelihood(1, frame) - model.log_likelihood(0, frame)
    assert gain == pytest.approx(np.log(1.25), abs=1e-5)
