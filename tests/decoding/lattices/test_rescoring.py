"""Rescoring against decoding with a graph of the other language model, and costs worked out by hand."""

import importlib.util
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from asr_bn.decoding.arpa import BACKOFF
from asr_bn.decoding.fst_file import FstArrays
from asr_bn.decoding.graph import DecodingGraph
from asr_bn.decoding.graph_files import GraphFiles
from asr_bn.decoding.lang_dir import read_word_ids
from asr_bn.decoding.lattices.decoder import LatticeDecoder, LatticeOptions
from asr_bn.decoding.lattices.grammar_costs import GrammarCosts
from asr_bn.decoding.lattices.nbest_rescoring import NBestRescorer
from asr_bn.decoding.lattices.paths import n_best
from asr_bn.decoding.lattices.rescoring import rescore_lattice
from asr_bn.decoding.search_options import BeamOptions, ScoreWeights
from asr_bn.kaldi_io.compact_lattice import CompactLattice
from asr_bn.system.arrays import Floats
from tests.helpers.graph_costs import run
from tests.helpers.graphs import arpa_text, lexicon_dir
from tests.helpers.kaldi_fixtures import SYNTHETIC
from tests.helpers.lattices import slots

pytest.importorskip("kaldifst")
if importlib.util.find_spec("kaldilm") is None:  # imported only in processes of its own
    pytest.skip("no kaldilm", allow_module_level=True)

MONO = SYNTHETIC / "variants/mono"
WIDE = BeamOptions(beam=1000.0, max_active=1_000_000)
WORDS = ("bring", "my", "chair")
UNIGRAM = """\\data\\
ngram 1=5

\\1-grams:
-0.9\t</s>
-99\t<s>
-0.5\tbring
-0.8\tmy
-0.7\tchair

\\end\\
"""
_LN10 = math.log(10)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Graphs of a unigram and of a bigram model."""
    folder = tmp_path_factory.mktemp("graphs")
    lexicon = lexicon_dir(folder / "dict")
    (lexicon / "phones.txt").write_bytes((SYNTHETIC / "ali/phones.txt").read_bytes())
    for name, text in (("uni", UNIGRAM), ("bi", arpa_text(*WORDS))):
        (folder / f"{name}.arpa").write_text(text)
        said = run(lexicon, MONO / "final.mdl", folder / name, "--arpa", folder / f"{name}.arpa")
        assert not said.startswith("error"), said
    return {name: folder / name for name in ("uni", "bi")}


def grammar(folder: Path) -> GrammarCosts:
    return GraphFiles(folder).grammar_costs()


def lattice_of(folder: Path, scores: Floats) -> CompactLattice:
    decoder = LatticeDecoder(DecodingGraph.load(folder), WIDE, LatticeOptions(1.0, 12.0))
    return decoder.decode([scores], [ScoreWeights(1.0)]).lattice


def sentence_costs(lattice: CompactLattice) -> dict[tuple[int, ...], float]:
    paths = n_best(lattice, ScoreWeights(1.0), 500)
    return {path.words: path.graph_cost + path.acoustic_cost for path in paths}


def test_costs_of_sentences_are_those_of_the_arpa_file(graphs: dict[str, Path]) -> None:
    its = grammar(graphs["bi"])
    bring, my, chair = (read_word_ids(graphs["bi"])[word] for word in WORDS)
    seen = (0.4 + 0.3 + 0.2) * _LN10
    assert its.sentence([bring, my]) == pytest.approx(seen, abs=1e-4)
    # <s> backs off to "chair", and "chair" to the end.
    backed_off = (0.30 + 0.9 + 0.25 + 1.0) * _LN10
    assert its.sentence([chair]) == pytest.approx(backed_off, abs=1e-4)
    assert its.sentence([bring, 999]) == math.inf
    assert grammar(graphs["uni"]).sentence([my, my]) == pytest.approx((0.8 + 0.8 + 0.9) * _LN10, abs=1e-4)


def test_a_rescored_lattice_costs_what_a_graph_of_the_new_model_charges(graphs: dict[str, Path]) -> None:
    old, new = grammar(graphs["uni"]), grammar(graphs["bi"])
    compared = 0
    for seed in range(3):
        scores = 2 * np.random.default_rng(seed).normal(size=(25, 121)).astype(np.float32)
        rescored = sentence_costs(rescore_lattice(lattice_of(graphs["uni"], scores), old, new))
        expected = sentence_costs(lattice_of(graphs["bi"], scores))
        for words in rescored.keys() & expected.keys():
            # Minimization rounds costs to 1/1024 on its way.
            assert rescored[words] == pytest.approx(expected[words], abs=0.03)
            compared += 1
    assert compared > 10


def test_the_same_model_changes_nothing(graphs: dict[str, Path]) -> None:
    its = grammar(graphs["bi"])
    scores = np.random.default_rng(0).normal(size=(30, 121)).astype(np.float32)
    lattice = lattice_of(graphs["bi"], scores)
    before, after = (sentence_costs(each) for each in (lattice, rescore_lattice(lattice, its, its)))
    assert before.keys() == after.keys()
    np.testing.assert_allclose([after[words] for words in before], list(before.values()), atol=1e-4)


def test_sentences_that_the_new_model_refuses_are_left_out(graphs: dict[str, Path]) -> None:
    ids = read_word_ids(graphs["uni"])
    lattice = slots({ids["bring"]: 0.0, ids["the"]: 0.0}, {ids["my"]: 0.0})
    its = grammar(graphs["uni"])
    known = rescore_lattice(slots({ids["bring"]: 0.0}, {ids["my"]: 0.0}), its, its)
    everything = GrammarCosts(_loop(list(ids.values())), ids[BACKOFF])
    assert set(sentence_costs(rescore_lattice(lattice, everything, its))) == set(sentence_costs(known))
    assert rescore_lattice(slots({ids["the"]: 0.0}), everything, its).num_states == 0


def test_lists_are_rescored_by_share_of_a_sentence_model() -> None:
    """A model that charges 5 for each word ``b``, and 1 for anything else."""

    def costs(sentences: Sequence[Sequence[str]]) -> list[float]:
        return [sum(5.0 if word == "b" else 1.0 for word in words) for words in sentences]

    lattice = slots({1: 0.5, 2: 0.0}, {1: 0.0, 2: 0.25})
    rescorer = NBestRescorer(costs, {1: "a", 2: "b"}, GrammarCosts(_loop([1, 2], cost=0.75), 9))
    its = rescorer.rescore(lattice, ScoreWeights(1.0))
    for lm_scale in (0.0, 0.3, 1.0):
        expected = {
            (a, b): {1: 0.5, 2: 0.0}[a] + {1: 0.0, 2: 0.25}[b]
            + lm_scale * (costs(["a" if word == 1 else "b"] for word in (a, b))[0]
                          + costs([["a" if b == 1 else "b"]])[0] - 2 * 0.75)
            for a, b in itertools.product((1, 2), repeat=2)
        }  # fmt: skip
        found = sentence_costs(its.as_lattice(lm_scale))
        assert found == pytest.approx(expected)
        assert its.best(lm_scale, ScoreWeights(1.0)) == min(expected, key=lambda words: expected[words])


def test_a_missing_word_graph_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such word graph, whose costs are to be replaced"):
        GraphFiles(SYNTHETIC / "graph", tmp_path).grammar_costs()


def _loop(words: Sequence[int], cost: float = 0.0) -> FstArrays:
    """Accept every sequence of words, each at the same cost."""
    from asr_bn.decoding.fst_file import ARC

    arcs = np.array([(word, word, cost, 0) for word in words if word], dtype=ARC)
    return FstArrays.from_arcs(0, np.zeros(1, np.float32), np.zeros(len(arcs), np.int64), arcs)
