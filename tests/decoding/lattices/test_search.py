"""Lattices against all paths of small graphs, one by one, and against Kaldi's own decoder."""

import gzip
import itertools
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from asr_bn.decoding.graph import DecodingGraph
from asr_bn.decoding.lattices import search
from asr_bn.decoding.lattices.arcs import FrameArcs
from asr_bn.decoding.lattices.decoder import LatticeDecoder, LatticeOptions
from asr_bn.decoding.lattices.determinize import determinize
from asr_bn.decoding.lattices.paths import best_paths, n_best
from asr_bn.decoding.lattices.search import LatticeSearch
from asr_bn.decoding.lattices.word_graph import WordGraph
from asr_bn.decoding.search_options import BeamOptions, ScoreWeights
from asr_bn.kaldi_io.compact_lattice import CompactLattice
from asr_bn.kaldi_io.matrix_table import read_matrices
from asr_bn.system.arrays import Floats
from tests.helpers.beam_search import BeamSearch
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd
from tests.helpers.lattices import all_sentences, random_graph

ORACLES = SYNTHETIC / "oracles" / "decode"
WIDE = BeamOptions(beam=1000.0, max_active=1_000_000)
COLUMNS = np.array([-1, 0, 1, 2], dtype=np.int32)
SCALE = 0.7


def lattice_of(seed: int, log_likelihoods: Floats, beam: float) -> CompactLattice:
    arcs = FrameArcs.of(random_graph(seed))
    (found,) = LatticeSearch(arcs, COLUMNS, WIDE, beam).search([log_likelihoods], SCALE)
    assert found.is_complete
    return determinize(WordGraph.of(found, arcs.chains, beam), beam)


Sentences = dict[tuple[int, ...], float]


@cache
def cases() -> list[tuple[int, Floats, Sentences]]:
    """Graphs that have a path of four frames, scores, and the costs of all sentences."""
    found = []
    for seed in range(30):
        scores = 2 * np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
        if expected := all_sentences(random_graph(seed), scores, SCALE):
            found.append((seed, scores, expected))
    return found


def test_a_wide_lattice_has_every_sentence_once_at_the_cost_of_its_best_path() -> None:
    assert len(cases()) > 20
    for seed, scores, expected in cases():
        paths = list(n_best(lattice_of(seed, scores, 1000.0), ScoreWeights(SCALE), 10_000))
        costs = [path.graph_cost + SCALE * path.acoustic_cost for path in paths]
        assert sorted(path.words for path in paths) == sorted(expected)
        np.testing.assert_allclose(costs, [expected[path.words] for path in paths], atol=1e-5)
        assert costs == sorted(costs)


def test_the_alignment_of_every_path_costs_what_the_path_costs() -> None:
    for seed, scores, _ in cases():
        for path in n_best(lattice_of(seed, scores, 1000.0), ScoreWeights(SCALE), 50):
            assert len(path.transition_ids) == len(scores)
            acoustic = -scores[np.arange(len(scores)), path.transition_ids - 1].sum()
            assert path.acoustic_cost == pytest.approx(acoustic, abs=1e-5)


@pytest.mark.parametrize("beam", [0.5, 2.0, 5.0])
def test_a_narrow_lattice_has_all_within_its_beam_and_no_wrong_cost(beam: float) -> None:
    for seed, scores, expected in cases():
        limit = min(expected.values()) + beam
        paths = list(n_best(lattice_of(seed, scores, beam), ScoreWeights(SCALE), 10_000))
        words = [path.words for path in paths]
        assert len(words) == len(set(words)) and set(words) <= set(expected)
        assert {each for each, cost in expected.items() if cost <= limit} <= set(words)
        for path in paths:
            cost = path.graph_cost + SCALE * path.acoustic_cost
            if expected[path.words] <= limit:
                assert cost == pytest.approx(expected[path.words], abs=1e-5)


def test_other_weights_find_the_best_path_under_them() -> None:
    tried = [ScoreWeights(*each) for each in itertools.product((0.2, 0.7, 1.5), (0.0, 0.5, -2.0))]
    for seed, scores, _ in cases():
        lattice = lattice_of(seed, scores, 1000.0)
        for weights, path in zip(tried, best_paths(lattice, tried), strict=True):
            first = next(n_best(lattice, weights, 1))
            assert (path.words, path.arcs) == (first.words, first.arcs)


@pytest.mark.parametrize("scale", ["0.1", "0.0833"])
def test_the_best_path_is_kaldis(scale: str) -> None:
    graph = DecodingGraph.load(SYNTHETIC / "graph", SYNTHETIC / "ali" / "final.mdl")
    decoder = LatticeDecoder(graph, BeamOptions(), LatticeOptions(float(scale)))
    tables = [read_table(ORACLES / f"acwt{scale}.{kind}.txt") for kind in ("words", "tid", "costs")]
    for utt_id, scores in read_matrices(f"ark:{ORACLES / 'loglikes.ark'}"):
        found = decoder.decode([scores], [ScoreWeights(float(scale))])
        (path,) = best_paths(found.lattice, [ScoreWeights(float(scale))])
        words, tids, costs = (table[utt_id] for table in tables)
        assert [list(each) for each in found.words] == [words]
        assert [str(tid) for tid in path.transition_ids] == tids
        np.testing.assert_allclose([path.graph_cost, path.acoustic_cost], np.array(costs, float), rtol=1e-6)
        assert found.is_complete


@needs_fsdd
def test_real_digits_have_kaldis_words_and_alignments() -> None:
    decoder = LatticeDecoder(
        DecodingGraph.load(FSDD / "exp/tri4b/graph"), BeamOptions(), LatticeOptions(0.1, 12.0)
    )
    words = read_table(FSDD / "oracles/hybrid/dev.hyp_acwt0.1.txt")
    tids = read_table(FSDD / "oracles/hybrid/dev3.bestpath_tid.txt")
    for utt_id, scores in read_matrices(f"ark:{FSDD / 'oracles/hybrid/dev3.loglikes.ark'}"):
        found = decoder.decode([scores], [ScoreWeights(0.1)])
        (path,) = best_paths(found.lattice, [ScoreWeights(0.1)])
        assert list(found.words[0]) == words[utt_id]
        assert [str(tid) for tid in path.transition_ids] == tids[utt_id]


def test_a_search_that_memory_ran_out_for_does_not_touch_the_next_one() -> None:
    seed, scores, _ = cases()[0]
    its_search = LatticeSearch(FrameArcs.of(random_graph(seed)), COLUMNS, WIDE, 1000.0)

    class Short(np.ndarray):  # type: ignore[type-arg]
        def __getitem__(self, key: object) -> object:
            raise MemoryError

    (expected,) = its_search.search([scores], SCALE)
    whole, its_search._place = its_search._place, its_search._place.view(Short)
    with pytest.raises(MemoryError):
        list(its_search.search([scores], SCALE))
    its_search._place = whole  # the same memory
    (found,) = its_search.search([scores], SCALE)
    np.testing.assert_array_equal(found.best_to, expected.best_to)
    assert (whole == -1).all()


def test_pieces_and_windows_give_the_same_lattice(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = DecodingGraph.load(SYNTHETIC / "graph", SYNTHETIC / "ali" / "final.mdl")
    decoder = LatticeDecoder(graph, BeamOptions(), LatticeOptions())
    scores = dict(read_matrices(f"ark:{ORACLES / 'loglikes.ark'}"))["f2-008"]
    whole = decoder.decode([scores], [ScoreWeights(0.1)])
    monkeypatch.setattr(search, "_WINDOW_FRAMES", 7)
    pieces = decoder.decode(np.split(scores, [1, 13, 60]), [ScoreWeights(0.1)])
    assert pieces.lattice.rows() == whole.lattice.rows()
    assert pieces.lattice.finals == whole.lattice.finals


def test_a_long_utterance_is_cut_where_all_paths_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = DecodingGraph.load(SYNTHETIC / "graph", SYNTHETIC / "ali" / "final.mdl")
    scores = np.concatenate([rows for _, rows in read_matrices(f"ark:{ORACLES / 'loglikes.ark'}")])
    weights = ScoreWeights(0.1)
    path = BeamSearch(graph, BeamOptions()).decode(scores, 0.1)
    decoder = LatticeDecoder(graph, BeamOptions(), LatticeOptions(0.1, 4.0))
    whole = decoder.decode([scores], [weights])
    monkeypatch.setattr(search, "_WINDOW_FRAMES", 20)
    monkeypatch.setattr(search, "_LONG_FRAMES", 40)
    cut = decoder.decode([scores], [weights])
    # The arcs between pieces have no word.
    assert (cut.lattice.word == 0).any()
    (best,) = best_paths(cut.lattice, [weights])
    assert cut.words == whole.words == [path.words]
    assert best.transition_ids.tolist() == path.transition_ids.tolist()
    assert best.graph_cost == pytest.approx(path.graph_cost, abs=1e-3)
    some, all_of_whole = (
        {each.words: each.graph_cost + 0.1 * each.acoustic_cost for each in n_best(lattice, weights, most)}
        for lattice, most in ((cut.lattice, 20), (whole.lattice, 50))
    )
    assert some == pytest.approx({words: all_of_whole[words] for words in some}, abs=1e-3)


def test_no_frames_too_few_frames_and_wrong_scores() -> None:
    graph = DecodingGraph.load(SYNTHETIC / "graph", SYNTHETIC / "ali" / "final.mdl")
    decoder = LatticeDecoder(graph, BeamOptions(), LatticeOptions())
    nothing = decoder.decode([np.zeros((0, 72), dtype=np.float32)], [ScoreWeights(0.1)])
    assert (nothing.lattice.num_states, nothing.words) == (0, [()])
    one = decoder.decode([np.zeros((1, 72), dtype=np.float32)], [ScoreWeights(0.1)])
    assert not one.is_complete
    with pytest.raises(ValueError, match=r"shape \[3, 20\], expected \[num_frames, 72\]"):
        decoder.decode([np.zeros((3, 20), dtype=np.float32)], [ScoreWeights(0.1)])
    with pytest.raises(ValueError, match="lattice beam -1.0: expected above 0"):
        LatticeOptions(lattice_beam=-1.0)


def test_a_circle_without_frames_is_refused() -> None:
    fst = random_graph(3)
    arcs = fst.arcs.copy()
    arcs["ilabel"], arcs["nextstate"] = 0, 0
    arcs["ilabel"][0] = 1
    with pytest.raises(ValueError, match="a circle of arcs that take no frame"):
        FrameArcs.of(type(fst)(fst.start, fst.finals, fst.first_arcs, arcs))


def read_table(path: Path) -> dict[str, list[str]]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return {line.split()[0]: line.split()[1:] for line in data.decode().splitlines()}
