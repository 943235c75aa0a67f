"""Graphs with silence probabilities and of trigrams, against costs worked out without a graph."""

import gzip
import importlib.util
import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from asr_bn.decoding.build_graph import make_graph
from asr_bn.decoding.lexicon_fst import Lexicon
from tests.helpers.graph_costs import Sentences, check_costs
from tests.helpers.graphs import lexicon_dir
from tests.helpers.kaldi_fixtures import SYNTHETIC

pytest.importorskip("kaldi_decoder")
if importlib.util.find_spec("kaldilm") is None:  # imported only in processes of its own
    pytest.skip("no kaldilm", allow_module_level=True)

ALI = SYNTHETIC / "ali"
MONO = SYNTHETIC / "variants/mono/final.mdl"
Ngram = tuple[str, ...]

SILPROB = """say 1.0 0.9 0.6 1.4 S EY
say 0.5 0.3 1.5 0.7 S IY
open 1.0 0.05 0.2 1.9 OW P AH N
the 1.0 0.5 1.0 1.0 DH AH
"""


def test_silence_is_as_likely_after_each_word_as_silprob_txt_says(tmp_path: Path) -> None:
    folder = lexicon_dir(tmp_path / "dict")
    (folder / "lexicon.txt").write_text("it must not be read\n")
    (folder / "lexiconp_silprob.txt").write_text(SILPROB)
    (folder / "silprob.txt").write_text("<s> 0.8\n</s>_s 2.5\n</s>_n 0.1\noverall 0.2\n")
    (tmp_path / "grammar.txt").write_text("SENTENCE = say WORD | WORD the | open say\nWORD = open | the\n")
    make_graph(folder, ALI / "final.mdl", tmp_path / "g", None, tmp_path / "grammar.txt", ALI / "tree")
    lexicon = Lexicon.read(folder, ALI / "phones.txt")
    numbers = [tuple(map(float, line.split()[2:5])) for line in SILPROB.splitlines()]

    def silence_cost(chosen: Sequence[int], silences: Sequence[bool]) -> float:
        probability = 0.8 if silences[0] else 0.2
        for entry, before, after in zip(chosen, silences, silences[1:], strict=False):
            share, factor_after_silence, factor_after_speech = numbers[entry]
            probability *= factor_after_silence if before else factor_after_speech
            probability *= share if after else 1 - share
        return -math.log(probability * (2.5 if silences[-1] else 0.1))

    shares = {"say open": 1 / 6, "say the": 1 / 6, "open the": 1 / 6, "the the": 1 / 6, "open say": 1 / 3}
    check_costs(
        tmp_path / "g",
        Sentences(lexicon, ALI / "final.mdl", ALI / "tree"),
        lambda words: -math.log(shares[" ".join(words)]),
        silence_cost,
        [sentence.split() for sentence in shares],
        (14, 18, 22, 26, 30, 36, 44),
        beam=1000.0,
    )


@pytest.mark.parametrize(
    ("silprob", "message"),
    [
        ("<s> 0.8\n</s>_s 2.5\n", "no line for </s>_n"),
        ("<s> 1.8\n</s>_s 2.5\n</s>_n 1\n", "a probability outside 0 to 1"),
        ("<s> 0.8\n</s>_s inf\n</s>_n 1\n", "a probability outside 0 to 1"),
        ("<s> 0.8\n</s>_s 2.5\n</s>_n nan\n", "a probability outside 0 to 1"),
        ("<s> 0.8\n</s>_s 2.5\n<s> 0.9\n</s>_n 1\n", "line 3: <s> comes twice"),
        ("<s> x\n", "line 1: '<s> x', expected a name and a number"),
    ],
)
def test_silprob_txt_that_is_none_is_refused(tmp_path: Path, silprob: str, message: str) -> None:
    folder = lexicon_dir(tmp_path / "dict")
    (folder / "lexiconp_silprob.txt").write_text(SILPROB)
    (folder / "silprob.txt").write_text(silprob)
    with pytest.raises(ValueError, match=message):
        Lexicon.read(folder, ALI / "phones.txt")
    for numbers in ("1.5 0.6 1.4", "nan 0.6 1.4", "0.5 inf 1.4", "0.5 0.6 nan"):  # inf made an endless graph
        (folder / "lexiconp_silprob.txt").write_text(f"say 1.0 {numbers} S EY\n")
        with pytest.raises(
            ValueError, match=r"silprob\.txt, line 1: .*a probability of silence outside 0 to 1"
        ):
            Lexicon.read(folder, ALI / "phones.txt")


def pruned_trigrams(words: Sequence[str], total: int) -> dict[Ngram, tuple[float, float]]:
    """All unigrams and bigrams, and so many random trigrams: log10 of probability and backoff weight."""
    rng = random.Random(0)
    bigrams = list(itertools.product(["<s>", *words], [*words, "</s>"]))
    trigrams = [(*pair, word) for pair in bigrams if pair[1] != "</s>" for word in (*words, "</s>")]
    ngrams: list[Ngram] = [("<s>",), ("</s>",), *((word,) for word in words), *bigrams]
    ngrams += rng.sample(trigrams, total - len(ngrams))
    # Longer n-grams are likelier, so that a graph, which may back off where it need not, gains nothing by it.
    return {n: (-round(rng.uniform(3.3, 4) - len(n), 4), -round(rng.uniform(0.1, 1), 4)) for n in ngrams}


def arpa_text(ngrams: dict[Ngram, tuple[float, float]]) -> str:
    orders = [[ngram for ngram in ngrams if len(ngram) == order] for order in (1, 2, 3)]
    lines = ["\\data\\", *(f"ngram {k}={len(group)}" for k, group in enumerate(orders, start=1))]
    for order, group in enumerate(orders, start=1):
        lines += ["", f"\\{order}-grams:"]
        for ngram in group:
            probability, backoff = ngrams[ngram]
            has_backoff = order < 3 and ngram[-1] != "</s>"
            lines.append(f"{probability}\t{' '.join(ngram)}" + (f"\t{backoff}" if has_backoff else ""))
    return "\n".join([*lines, "", "\\end\\", ""])


def katz_cost(ngrams: dict[Ngram, tuple[float, float]], words: Sequence[str]) -> float:
    """Negated natural log of a sentence's probability, backing off where an n-gram is missing."""

    def log10(history: Ngram, word: str) -> float:
        if (*history, word) in ngrams:
            return ngrams[(*history, word)][0]
        return (ngrams[history][1] if history in ngrams else 0.0) + log10(history[1:], word)

    symbols = ["<s>", *words, "</s>"]
    return -math.log(10) * sum(
        log10(tuple(symbols[max(0, k - 2) : k]), symbols[k]) for k in range(1, len(symbols))
    )


@pytest.mark.parametrize("system", ["monophone", "tri4b"])
def test_a_trigram_model_of_100000_n_grams(tmp_path: Path, system: str) -> None:
    mdl, tree = (MONO, None) if system == "monophone" else (ALI / "final.mdl", ALI / "tree")
    folder = lexicon_dir(tmp_path / "dict")
    (folder / "phones.txt").write_bytes((ALI / "phones.txt").read_bytes())
    lexicon = Lexicon.read(folder)
    words = [word for word in lexicon.words() if word[0] not in "<!"]
    ngrams = pruned_trigrams(words, 100_000)
    with gzip.open(tmp_path / "tg.arpa.gz", "wt") as stream:
        stream.write(arpa_text(ngrams))
    make_graph(folder, mdl, tmp_path / "graph", tmp_path / "tg.arpa.gz", None, tree)
    rng = random.Random(1)
    others = [rng.choices(words, k=k) for k in (1, 1, 2, 2, 2)]
    check_costs(
        tmp_path / "graph",
        Sentences(lexicon, mdl, tree),
        lambda sentence: katz_cost(ngrams, sentence),
        lambda chosen, silences: len(silences) * math.log(2),
        others,
        (9, 14, 18, 22),
        beam=100.0,
    )
