"""ARPA files and lexicons as they are found."""

import gzip
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asr_bn.decoding.fst_file import FstArrays
from asr_bn.decoding.graph import DecodingGraph
from tests.helpers.graph_costs import run
from tests.helpers.graphs import arpa_text, lexicon_dir
from tests.helpers.kaldi_fixtures import SYNTHETIC

pytest.importorskip("kaldi_decoder")
if importlib.util.find_spec("kaldilm") is None:  # imported only in processes of its own
    pytest.skip("no kaldilm", allow_module_level=True)

ALI = SYNTHETIC / "ali"

ARPA = arpa_text("open", "the", "door")


@pytest.fixture
def graph_of(tmp_path: Path) -> Callable[..., str | bytes]:
    """Makes a graph from the text of an ARPA file (and a lexicon): its bytes, or what was said instead."""
    folder = lexicon_dir(tmp_path / "dict")

    def make(arpa: bytes, lexicon: str | None = None, name: str = "lm.arpa") -> str | bytes:
        (tmp_path / name).write_bytes(arpa)
        if lexicon is not None:
            (folder / "lexicon.txt").write_text(lexicon)
        said = run(folder, ALI, tmp_path / "graph", "--arpa", tmp_path / name)
        graph = tmp_path / "graph/HCLG.fst"
        if said.startswith("error: ") or "note: " in said:
            return said.replace(f"{tmp_path}/", "")
        return graph.read_bytes()

    return make


def test_an_arpa_file_is_read_as_it_is_found(graph_of: Callable[..., str | bytes]) -> None:
    plain = graph_of(ARPA.encode())
    assert isinstance(plain, bytes)
    assert graph_of(gzip.compress(ARPA.encode()), name="lm.arpa.gz") == plain
    assert graph_of(ARPA.replace("\n", "\r\n").encode()) == plain
    assert graph_of(("a comment\n\n" + ARPA.replace("\t", " ")).encode()) == plain


def test_words_that_the_lexicon_lacks_are_said_with_their_n_grams(
    graph_of: Callable[..., str | bytes],
) -> None:
    said = graph_of(ARPA.replace("the", "zhe").encode())
    assert isinstance(said, str)
    assert said.endswith(  # the unigram and two bigrams
        "\nnote: lm.arpa: 3 n-grams left out, words not in the lexicon: zhe\n"
    )
    said = graph_of(ARPA.replace("the", "zhe").replace("door", "dör").replace("open", "öpen").encode())
    assert said == "error: lm.arpa: none of its 3 words is in dict/lexicon.txt"


def test_a_unigram_that_comes_twice_counts_twice(
    graph_of: Callable[..., str | bytes], tmp_path: Path
) -> None:
    """``arpa2fst`` makes two arcs of it, and ``fstdeterminizestar --use-log`` adds them up."""
    half = f"{-0.6 - math.log10(2):.6f}\topen\t-0.20"
    twice = ARPA.replace("ngram 1=5", "ngram 1=6").replace("-0.6\topen\t-0.20", f"{half}\n{half}")
    said = graph_of(twice.encode())
    assert isinstance(said, str)
    assert said.endswith("\nnote: lm.arpa: several unigrams, whose probabilities add up as in Kaldi: open\n")
    arcs = FstArrays.read(tmp_path / "graph/HCLG.fst").arcs
    graph_of(ARPA.encode())
    plain = FstArrays.read(tmp_path / "graph/HCLG.fst").arcs
    np.testing.assert_array_equal(arcs["olabel"], plain["olabel"])
    np.testing.assert_allclose(arcs["weight"], plain["weight"], atol=2e-3)


def test_unicode_whitespace_in_a_word_is_said(graph_of: Callable[..., str | bytes]) -> None:
    said = graph_of(ARPA.encode(), "SIL SIL\nthe DH_S\nthe\u00a0door DH_S\n")
    assert isinstance(said, str)
    where = "note: dict/lexicon.txt: Unicode whitespace in words of the lexicon"
    assert f"{where}: the\u00a0door (validate_dict_dir.pl refuses it)\n" in said


@pytest.mark.parametrize(
    ("arpa", "message"),
    [
        (
            "\n".join(line for line in ARPA.splitlines() if "</s>" not in line),
            "has no </s>, so that no sentence ends",
        ),
        (
            "\n".join(line for line in ARPA.splitlines() if "<s>" not in line),
            "has no <s>, so that no sentence begins",
        ),
        ("\ufeff" + ARPA, "begins with a byte-order mark"),
        ("", "kaldilm cannot make a graph of it (line 1 []: \\data\\ section missing or empty.)"),
        (ARPA.replace("\\end\\\n", ""), "kaldilm cannot make a graph of it (line "),
        (ARPA.replace("ngram 1=", "ngram 0=1\nngram 1="), "line 2: n-grams of order 0"),
        (ARPA.replace("ngram 1=", "ngram 2000000000=1\nngram 1="), "line 2: n-grams of order 2000000000"),
        (ARPA.replace("-0.3\topen", "-0,3\topen"), "line 14: expected a number, found '-0,3'"),
        (ARPA.replace("-0.25", "-0.25x"), "line 10: expected a number, found '-0.25x'"),
    ],
)
def test_an_arpa_file_that_makes_no_graph_says_why(
    graph_of: Callable[..., str | bytes], arpa: str, message: str
) -> None:
    said = graph_of(arpa.encode())
    assert isinstance(said, str)
    assert said.startswith(f"error: lm.arpa: {message}")


@pytest.mark.parametrize("word", ["<eps>", "#0", "<s>", "</s>"])
def test_words_that_kaldi_keeps_for_itself_are_refused(
    tmp_path: Path, graph_of: Callable[..., str | bytes], word: str
) -> None:
    said = graph_of(ARPA.encode(), f"the DH AH\n{word} SIL\n")
    assert (
        said == f"error: dict/lexicon.txt, line 2: {word!r} is no word of a lexicon; Kaldi has it for itself"
    )
    (tmp_path / "dict/lexicon.txt").write_text("the DH AH\n")
    (tmp_path / "grammar.txt").write_text(f"SENTENCE = the {word}\n")
    said = run(tmp_path / "dict", ALI, tmp_path / "graph", "--grammar", tmp_path / "grammar.txt")
    assert said == f"error: the grammar's word {word!r} is not in the lexicon (1 missing)"


def test_a_lexicon_without_words_is_refused(graph_of: Callable[..., str | bytes]) -> None:
    assert graph_of(ARPA.encode(), "\n \n") == "error: dict/lexicon.txt: no pronunciations in it"


@pytest.mark.parametrize("name", ["final.mdl.gz", "final.mdl.txt.gz", "final.alimdl"])
def test_a_model_under_any_of_its_names_is_copied_unpacked(tmp_path: Path, name: str) -> None:
    system = tmp_path / "exp"
    system.mkdir()
    binary = (ALI / "final.mdl").read_bytes()
    text = (SYNTHETIC / "variants/final.mdl.txt.gz").read_bytes()
    contents = {"final.mdl.gz": gzip.compress(binary), "final.mdl.txt.gz": text, "final.alimdl": binary}
    (system / name).write_bytes(contents[name])
    for other in ("phones.txt", "tree"):
        (system / other).write_bytes((ALI / other).read_bytes())
    (tmp_path / "grammar.txt").write_text("SENTENCE = open the door\n")
    run(lexicon_dir(tmp_path / "dict"), system, tmp_path / "graph", "--grammar", tmp_path / "grammar.txt")
    copy = (tmp_path / "graph/final.mdl").read_bytes()
    assert copy == (gzip.decompress(text) if "txt" in name else binary)
    assert DecodingGraph.load(tmp_path / "graph").model.num_pdfs == 72
