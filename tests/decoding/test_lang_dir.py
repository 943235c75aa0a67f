"""Graphs from Kaldi's lang folders and ``G.fst``, against Kaldi's own graphs."""

import importlib.util
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from asr_bn.decoding.lexicon_fst import Lexicon
from tests.helpers.graph_costs import run
from tests.helpers.graphs import check_same_graph, grammar_of, lexicon_dir
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd

kaldifst = pytest.importorskip("kaldifst")
pytest.importorskip("kaldi_decoder")
if importlib.util.find_spec("kaldilm") is None:  # imported only in processes of its own
    pytest.skip("no kaldilm", allow_module_level=True)

ALI = SYNTHETIC / "ali"


def symbols(path: Path) -> dict[str, int]:
    return {name: int(number) for name, number in (line.split() for line in path.read_text().splitlines())}


def write_fst(path: Path, lines: Sequence[Sequence[object]]) -> None:
    fst = kaldifst.compile("".join(" ".join(map(str, line)) + "\n" for line in lines))
    fst.write(str(path))


def write_lang(folder: Path) -> Path:
    """As ``prepare_lang.sh`` writes it, for the fixture's system and grammar: Kaldi numbered the words."""
    (folder / "phones").mkdir(parents=True)
    words, phones = symbols(SYNTHETIC / "graph/words.txt"), symbols(ALI / "phones.txt")
    for name, source in (("words.txt", SYNTHETIC / "graph/words.txt"), ("phones.txt", ALI / "phones.txt")):
        (folder / name).write_bytes(source.read_bytes())
    disambig = [number for name, number in phones.items() if name.startswith("#")]
    (folder / "phones/disambig.int").write_text("".join(f"{number}\n" for number in disambig))
    entries, highest = Lexicon.read(lexicon_dir(folder / "dict"), ALI / "phones.txt").disambiguated()
    half, count = math.log(2), itertools.count(4)
    lines: list[list[object]] = [[0, 1, 0, 0, half], [0, 2, 0, 0, half], [2, 3, phones["SIL"], 0]]
    lines.append([3, 1, phones[f"#{highest + 1}"], 0])
    for word, _, pronunciation in entries:
        state, output = 1, words[word]
        for phone in pronunciation[:-1]:
            target = next(count)
            lines.append([state, target, phones[phone], output])
            state, output = target, 0
        lines += [[state, target, phones[pronunciation[-1]], output, half] for target in (1, 2)]
    lines += [[1, 1, phones["#0"], words["#0"]], [1]]
    write_fst(folder / "L_disambig.fst", lines)
    g_txt = [line.split() for line in (SYNTHETIC / "graph/G.txt").read_text().splitlines()]
    write_fst(
        folder / "G.fst", [[*a[:2], words[a[2]], words[a[3]], *a[4:]] if len(a) > 2 else a for a in g_txt]
    )
    return folder


def test_a_lang_folders_graph_is_kaldis(tmp_path: Path) -> None:
    lang = write_lang(tmp_path / "lang_test")
    assert " states, " in run(lang, ALI, tmp_path / "graph")
    check_same_graph(tmp_path / "graph", SYNTHETIC / "graph", ALI / "final.mdl", (20, 50, 120))
    words = (tmp_path / "graph/words.txt").read_text().split()
    assert words == (SYNTHETIC / "graph/words.txt").read_text().split()


def test_g_fst_goes_with_a_dictionary_too_and_is_one_of_three(tmp_path: Path) -> None:
    lang = write_lang(tmp_path / "lang_test")
    assert " states, " in run(lang / "dict", ALI, tmp_path / "graph", "--lang", lang)
    check_same_graph(tmp_path / "graph", SYNTHETIC / "graph", ALI / "final.mdl", (20, 50, 120))
    grammar = tmp_path / "grammar.txt"
    grammar.write_text(grammar_of(SYNTHETIC / "graph/G.txt"))
    assert " states, " in run(lang, ALI, tmp_path / "other", "--grammar", grammar)
    check_same_graph(tmp_path / "other", SYNTHETIC / "graph", ALI / "final.mdl", (20, 50))
    refused = "error: a graph needs either an ARPA file, a grammar, or the G.fst of a lang folder"
    assert run(lang / "dict", ALI, tmp_path / "no") == refused
    assert run(lang / "dict", ALI, tmp_path / "no", "--lang", lang, "--grammar", grammar) == refused


def test_a_lang_folder_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    lang = write_lang(tmp_path / "lang_test")
    text = (lang / "phones.txt").read_text()
    (lang / "phones.txt").write_text(text.replace("SIL 1\n", "SIL 2\n").replace("SIL_B 2\n", "SIL_B 1\n"))
    assert "phones.txt: SIL" in (said := run(lang, ALI, tmp_path / "g")), said
    assert "the lang folder of another system" in said
    (lang / "phones.txt").write_text(text)
    words = (lang / "words.txt").read_text()
    (lang / "words.txt").write_text("".join(line + "\n" for line in words.splitlines() if "the " not in line))
    assert "which words.txt beside it lacks" in run(lang, ALI, tmp_path / "g")
    (lang / "words.txt").write_text(words.replace("<eps> 0\n", ""))
    assert "no <eps> with the number 0" in run(lang, ALI, tmp_path / "g")
    (lang / "words.txt").write_text(words)
    other = write_lang(tmp_path / "other")
    (other / "words.txt").write_text(f"{words}zebra {len(words.splitlines())}\n")
    assert "words.txt: other words than in" in run(lang, ALI, tmp_path / "g", "--lang", other)
    (lang / "phones/disambig.int").write_text("#0\n")
    assert "disambig.int: expected an integer, found '#0'" in run(lang, ALI, tmp_path / "g")
    disambig = [number for name, number in symbols(lang / "phones.txt").items() if name.startswith("#")]
    for numbers in ([], [1, 2], [*disambig, 9999], disambig[1:]):
        (lang / "phones/disambig.int").write_text(" ".join(map(str, numbers)))
        assert "disambig.int: not the numbers of #0, #1, ... in" in run(lang, ALI, tmp_path / "g")
    (lang / "phones/disambig.int").write_text(f"{disambig[0]}\n")
    assert "(no phone, nor a disambiguation symbol in the lexicon)" in run(lang, ALI, tmp_path / "g")
    (lang / "G.fst").unlink()
    assert "G.fst" in run(lang, ALI, tmp_path / "g")
    assert not (tmp_path / "g").exists()


def test_words_of_g_fst_that_the_lexicon_lacks_are_said(tmp_path: Path) -> None:
    lang = write_lang(tmp_path / "lang_test")
    lexicon = lang / "dict/lexicon.txt"
    text = lexicon.read_text()
    lexicon.write_text("".join(line + "\n" for line in text.splitlines() if line.split()[0] != "the"))
    said = run(lang / "dict", ALI, tmp_path / "graph", "--lang", lang)
    lost = sum(line.split()[2:3] == ["the"] for line in (SYNTHETIC / "graph/G.txt").read_text().splitlines())
    assert said.endswith(f"G.fst: {lost} arcs left out, words not in the lexicon: the\n")
    lexicon.write_text("!sil SIL\n")
    assert "words is in the lexicon" in run(lang / "dict", ALI, tmp_path / "graph", "--lang", lang)


@needs_fsdd
@pytest.mark.parametrize("lexicon", ["lang_test_bg", "local/dict"])
def test_a_real_lang_folders_graph_is_kaldis(tmp_path: Path, lexicon: str) -> None:
    system = FSDD / "exp/tri4b_ali_train"
    options = [] if lexicon == "lang_test_bg" else ["--lang", FSDD / "data/lang_test_bg"]
    run(FSDD / "data" / lexicon, system, tmp_path / "graph", *options)
    check_same_graph(tmp_path / "graph", FSDD / "exp/tri4b/graph", system / "final.mdl", (5, 14, 40, 80, 150))
    run(FSDD / "data/local/dict", system, tmp_path / "arpa", "--arpa", FSDD / "data/local/bg.arpa")
    assert (tmp_path / "graph/HCLG.fst").read_bytes() == (tmp_path / "arpa/HCLG.fst").read_bytes()
