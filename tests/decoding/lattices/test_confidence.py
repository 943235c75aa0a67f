"""Confidences and their calibration against sums over all paths, and cases worked out by hand."""

import itertools
import math

import numpy as np
import pytest

from asr_bn.decoding.lattices.calibration import Calibration, choose_scale, right_words
from asr_bn.decoding.lattices.confidence import word_confidences
from asr_bn.decoding.lattices.paths import best_paths, n_best
from asr_bn.decoding.search_options import ScoreWeights
from asr_bn.kaldi_io.compact_lattice import Arc, CompactLattice
from tests.helpers.lattices import slots

ONE = ScoreWeights(1.0)


def confidences(lattice: CompactLattice, scale: float = 1.0) -> list[float]:
    (path,) = best_paths(lattice, [ONE])
    return word_confidences(lattice, path, ONE, scale)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_in_slots_a_word_is_as_likely_as_its_arc(scale: float) -> None:
    """Each slot has words of its own, so that there is only one way to match them."""
    rng = np.random.default_rng(0)
    costs = [{3 * k + n: float(rng.random()) for n in (1, 2, 3)} for k in range(4)]
    expected = []
    for slot in costs:
        weights = [math.exp(-scale * cost) for cost in slot.values()]
        expected.append(max(weights) / sum(weights))
    np.testing.assert_allclose(confidences(slots(*costs), scale), expected, atol=1e-9)


def test_paths_side_by_side_are_summed_up() -> None:
    """Not cut into pieces: three paths from start to end, whose words all have the same places."""
    paths = {(1, 2, 3): 0.0, (1, 5, 3): 0.7, (4, 2, 6): 1.1}
    arcs: list[Arc] = []
    finals = {}
    for k, (words, cost) in enumerate(paths.items()):
        states = [0, *(3 * k + n for n in (1, 2, 3))]
        pairs = itertools.pairwise(states)
        arcs += [(a, b, word, 0.0, 0.0, b"") for (a, b), word in zip(pairs, words, strict=True)]
        finals[states[-1]] = cost, 0.0, b""
    lattice = CompactLattice.of_arcs(sorted(arcs, key=lambda arc: arc[0]), finals, 10)
    total = sum(math.exp(-cost) for cost in paths.values())
    expected = [
        sum(math.exp(-cost) for words, cost in paths.items() if words[place] == best) / total
        for place, best in enumerate((1, 2, 3))
    ]
    np.testing.assert_allclose(confidences(lattice), expected, atol=1e-9)


def test_a_missing_word_is_a_deletion_and_moves_no_other() -> None:
    """Half of the probability goes to a path without the second of three words."""
    lattice = slots({1: 0.0}, {2: 0.0, 0: 0.0}, {3: 0.0})
    (path,) = (each for each in n_best(lattice, ONE, 2) if each.words == (1, 2, 3))
    np.testing.assert_allclose(word_confidences(lattice, path, ONE, 1.0), [1.0, 0.5, 1.0])


def test_the_only_path_is_certain_and_a_steep_scale_makes_the_best_so() -> None:
    assert confidences(slots({1: 5.0}, {2: -3.0})) == pytest.approx([1.0, 1.0])
    assert confidences(slots({1: 0.0, 2: 0.5}), scale=100.0) == pytest.approx([1.0])
    assert confidences(slots({1: 0.0, 2: 0.5}), scale=1e-9) == pytest.approx([0.5])


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    values, right = np.round(rng.random(60), 1), rng.random(60) < 0.6
    pairs = [(a > b) + 0.5 * (a == b) for a in values[right] for b in values[~right]]
    found = Calibration.of(values.tolist(), right.tolist())
    assert found.area_under_curve() == pytest.approx(np.mean(pairs))
    assert Calibration.of([0.5], [True]).area_under_curve() is None


def test_the_calibration_error_of_a_hand_worked_case() -> None:
    """Bin 0.9 to 1: three words, 0.95 on average, 2 right; bin 0.2 to 0.3: one word of 0.25, wrong."""
    found = Calibration.of([0.92, 0.95, 0.98, 0.25], [True, True, False, False])
    assert found.expected_error() == pytest.approx((3 * 0.95 - 2 + 0.25) / 4)
    entropy = -(math.log(0.92) + math.log(0.95) + math.log(0.02) + math.log(0.75)) / 4
    assert found.cross_entropy() == pytest.approx(entropy)


def test_the_scale_that_confidences_were_made_with_is_chosen() -> None:
    rng = np.random.default_rng(0)
    gaps = 3 * rng.random(20_000)
    right = rng.random(len(gaps)) < 1 / (1 + np.exp(-2.0 * gaps))

    def with_scale(scale: float) -> Calibration:
        return Calibration(1 / (1 + np.exp(-scale * gaps)), right)

    assert choose_scale(with_scale) == 2.0
    assert choose_scale(lambda scale: Calibration.of([], [])) == 1.0


def test_right_words_are_those_that_an_alignment_matches() -> None:
    pytest.importorskip("kaldialign")
    assert right_words(["a", "b", "c"], ["a", "x", "c", "d"]) == [True, False, True, False]
    assert right_words([], ["a"]) == [False]
    assert right_words(["a"], []) == []
