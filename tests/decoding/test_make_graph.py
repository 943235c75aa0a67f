"""Graphs made without Kaldi, against a Viterbi search over every sentence of a tiny language."""

import importlib.util
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from asr_bn.decoding.build_graph import make_graph
from asr_bn.decoding.grammar import Grammar
from asr_bn.decoding.graph import DecodingGraph
from asr_bn.decoding.lexicon_fst import Lexicon
from asr_bn.decoding.search_options import BeamOptions
from asr_bn.system.arrays import Floats
from tests.helpers.beam_search import BeamSearch
from tests.helpers.graph_costs import Sentences
from tests.helpers.graphs import arpa_text
from tests.helpers.kaldi_fixtures import SYNTHETIC

pytest.importorskip("kaldi_decoder")
if importlib.util.find_spec("kaldilm") is None:  # imported only in processes of its own
    pytest.skip("no kaldilm", allow_module_level=True)

MDL = SYNTHETIC / "variants" / "mono" / "final.mdl"
# "two" and "to" sound alike, "a" begins "add"; "a" has two pronunciations.
LEXICON = """a 1.0 AE_S
a 0.25 EY_S
add 1.0 AE_B D_E
to 1.0 T_B UW_E
two 1.0 T_B UW_E
"""
GRAMMAR = "# a comment\nSENTENCE = add NUMBER | a TAIL | a TAIL | a\nNUMBER = two | -\nTAIL = add | to add\n"
# Each sentence with its probability, by hand.
SENTENCES = {"add two": 0.125, "add": 0.125, "a add": 0.25, "a to add": 0.25, "a": 0.25}
ARPA = arpa_text("a", "add", "two")
BIGRAMS = {("<s>", "a"): -0.4, ("a", "add"): -0.3, ("add", "</s>"): -0.2}
UNIGRAMS = {"</s>": -1.0, "a": -0.6, "add": -0.7, "two": -0.9}
BACKOFFS = {"<s>": -0.30, "a": -0.20, "add": -0.10, "two": -0.25}


@pytest.fixture
def lexicon_dir(tmp_path):
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "lexiconp.txt").write_text(LEXICON)
    (folder / "optional_silence.txt").write_text("SIL\n")
    lines = (SYNTHETIC / "ali/phones.txt").read_text().splitlines()
    (folder / "phones.txt").write_text("\n".join(lines) + "\n")
    return folder


def cheapest(sentences: dict[str, float], lexicon: Lexicon, frames: Floats) -> tuple[float, str]:
    costs, half = Sentences(lexicon, MDL, None), math.log(2)
    return min(
        (cost + costs.cost(sentence.split(), frames, lambda _, silences: len(silences) * half), sentence)
        for sentence, cost in sentences.items()
    )


def check_against_every_sentence(
    graph_dir: Path, lexicon: Lexicon, sentences: dict[str, float], lengths: tuple[int, ...]
) -> None:
    search = BeamSearch(DecodingGraph.load(graph_dir), BeamOptions(beam=1000.0, max_active=1_000_000))
    random = np.random.default_rng(0)
    heard = set()
    for num_frames in lengths:
        for _ in range(4):
            scores = 4 * random.normal(size=(num_frames, 121)).astype(np.float32)
            path = search.decode(scores, 1.0)
            cost, sentence = cheapest(sentences, lexicon, -scores)
            assert path.is_complete == (cost < math.inf)
            if path.is_complete:
                # minimize_encoded rounds costs to 1/1024 on its way.
                assert path.graph_cost + path.acoustic_cost == pytest.approx(cost, abs=0.02)
                assert " ".join(path.words).replace("two", "to") == sentence.replace(
                    "two", "to"
                )  # they sound alike
                heard.add(sentence)
    assert len(heard) >= 3


def test_a_grammars_graph_finds_the_best_of_all_its_sentences(lexicon_dir, tmp_path):
    (tmp_path / "grammar.txt").write_text(GRAMMAR)
    make_graph(lexicon_dir, MDL, tmp_path / "graph", None, tmp_path / "grammar.txt")
    sentences = {sentence: -math.log(p) for sentence, p in SENTENCES.items()}
    check_against_every_sentence(tmp_path / "graph", Lexicon.read(lexicon_dir), sentences, (4, 7, 12, 16, 25))


def test_an_arpa_files_graph_finds_the_best_of_all_short_sentences(lexicon_dir, tmp_path):
    (lexicon_dir / "lexiconp.txt").write_text(
        "".join(line + "\n" for line in LEXICON.splitlines() if "to " not in line)
    )
    (tmp_path / "lm.arpa").write_text(ARPA)
    make_graph(lexicon_dir, MDL, tmp_path / "graph", tmp_path / "lm.arpa", None)
    sentences = {}
    for length in range(5):
        for words in itertools.product(("a", "add", "two"), repeat=length):
            pairs = itertools.pairwise(("<s>", *words, "</s>"))
            log10 = sum(BIGRAMS.get((h, w), BACKOFFS[h] + UNIGRAMS[w]) for h, w in pairs)
            sentences[" ".join(words)] = -math.log(10) * log10
    # A phone takes at least three frames, so that fewer than 15 hold no fifth word.
    check_against_every_sentence(tmp_path / "graph", Lexicon.read(lexicon_dir), sentences, (4, 7, 12, 14))


def test_disambiguation_symbols_go_to_homophones_and_prefixes(lexicon_dir):
    entries, highest = Lexicon.read(lexicon_dir).disambiguated()
    assert highest == 2
    assert [phones for _, _, phones in entries] == [
        ("AE_S",),
        ("EY_S",),
        ("AE_B", "D_E"),
        ("T_B", "UW_E", "#1"),
        ("T_B", "UW_E", "#2"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SENTENCE = a NUMBER\n", "no rule defines NUMBER"),
        ("SENTENCE = a PART\nPART = b SENTENCE\n", "SENTENCE leads back to itself"),
        ("sentence = a\n", "expected 'NAME = alternatives'"),
        ("OTHER = a\n", "no rule defines SENTENCE"),
        ("SENTENCE = a zebra\n", "word 'zebra' is not in the lexicon"),
        ("SENTENCE = a\nSENTENCE = b\n", "line 2: SENTENCE has a rule already"),
        (
            "SENTENCE = R0\n" + "".join(f"R{i} = a R{i + 1}\n" for i in range(3000)) + "R3000 = b\n",
            "rules 3002 deep, expected 100 at most",
        ),
        (
            "SENTENCE = R0\n" + "".join(f"R{i} = R{i + 1} R{i + 1}\n" for i in range(40)) + "R40 = a\n",
            "over 262144 states",
        ),
    ],
)
def test_a_grammar_that_is_none_is_refused(lexicon_dir, tmp_path, text, message):
    (tmp_path / "grammar.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        make_graph(lexicon_dir, MDL, tmp_path / "graph", None, tmp_path / "grammar.txt")
    assert not (tmp_path / "graph").exists()


def test_rules_that_many_rules_use_are_looked_at_once(lexicon_dir, tmp_path):
    levels = range(60)  # 2 ** 60 ways lead down, to two sentences
    rules = [f"{side}{i} = A{i + 1} | B{i + 1}\n" for i in levels for side in "AB"]
    (tmp_path / "grammar.txt").write_text("SENTENCE = A0\n" + "".join(rules) + "A60 = a\nB60 = a at\n")
    assert Grammar.read(tmp_path / "grammar.txt").words() == {"a", "at"}


def test_inputs_that_do_not_fit_are_refused(lexicon_dir, tmp_path):
    (tmp_path / "lm.arpa").write_text("not an ARPA file\n")
    with pytest.raises(ValueError, match=r"lm\.arpa: kaldilm cannot make a graph"):
        make_graph(lexicon_dir, MDL, tmp_path / "graph", tmp_path / "lm.arpa", None)
    with pytest.raises(ValueError, match="depend on the context of a phone"):
        make_graph(lexicon_dir, SYNTHETIC / "ali/final.mdl", tmp_path / "graph", tmp_path / "lm.arpa", None)
    (lexicon_dir / "lexiconp.txt").write_text("a 1.0 XX\n")
    with pytest.raises(ValueError, match="phone 'XX' of 'a' is not in"):
        make_graph(lexicon_dir, MDL, tmp_path / "graph", tmp_path / "lm.arpa", None)


def test_a_rule_used_in_two_places_leads_on_from_each(tmp_path):
    kaldifst = pytest.importorskip("kaldifst")
    rules = (
        "SENTENCE = a DIGIT b | c DIGIT d | DIGIT",
        "DIGIT = one | two DIGITS",
        "DIGITS = three | -",
    )
    (tmp_path / "grammar.txt").write_text("\n".join(rules) + "\n")
    grammar = Grammar.read(tmp_path / "grammar.txt")
    word_ids = {word: number for number, word in enumerate(sorted(grammar.words()), start=1)}
    fst = grammar.fst(word_ids)
    expected = {}
    for digit, share in (("one", 1 / 2), ("two three", 1 / 4), ("two", 1 / 4)):
        expected |= {f"a {digit} b": share / 3, f"c {digit} d": share / 3, digit: share / 3}
    for length in range(1, 5):
        for words in itertools.product(word_ids, repeat=length):
            line = kaldifst.make_linear_acceptor([word_ids[word] for word in words])
            path = kaldifst.shortest_path(kaldifst.compose(line, fst))
            probability = expected.get(" ".join(words))
            assert (path.num_states == 0) == (probability is None)
            if probability is not None:
                *_, weight = kaldifst.get_linear_symbol_sequence(path)
                assert float(weight.value) == pytest.approx(-math.log(probability), abs=1e-3)


def test_sentences_of_a_grammar_have_their_probabilities(tmp_path):
    kaldifst = pytest.importorskip("kaldifst")
    (tmp_path / "grammar.txt").write_text(GRAMMAR)
    grammar = Grammar.read(tmp_path / "grammar.txt")
    word_ids = {word: number for number, word in enumerate(sorted(grammar.words()), start=1)}
    fst = grammar.fst(word_ids)
    for sentence, probability in SENTENCES.items():
        line = kaldifst.make_linear_acceptor([word_ids[word] for word in sentence.split()])
        path = kaldifst.shortest_path(kaldifst.compose(line, fst))
        *_, weight = kaldifst.get_linear_symbol_sequence(path)
        assert float(weight.value) == pytest.approx(-math.log(probability), abs=1e-3)
