"""Graphs of phones in context, against those of Kaldi's ``mkgraph.sh`` and against windows cut by hand."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.decoding.build_graph import make_graph
from asr_bn.decoding.context import in_context
from asr_bn.decoding.fst_file import ARC, FstArrays
from asr_bn.decoding.hmms import Hmm, Hmms
from asr_bn.decoding.lexicon_fst import Lexicon
from asr_bn.kaldi_io.context_dependency import ContextDependency
from tests.helpers.graphs import check_same_graph, grammar_of, lexicon_dir
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd

pytest.importorskip("kaldi_decoder")
if importlib.util.find_spec("kaldilm") is None:  # imported only in processes of its own
    pytest.skip("no kaldilm", allow_module_level=True)

ALI = SYNTHETIC / "ali"


def test_a_graph_is_made_again_when_one_of_its_sources_changes(tmp_path: Path) -> None:
    system = tmp_path / "exp"
    system.mkdir()
    for name in ("final.mdl", "phones.txt", "tree"):
        (system / name).write_bytes((ALI / name).read_bytes())
    (tmp_path / "grammar.txt").write_text("SENTENCE = open the door\n")
    places = [lexicon_dir(tmp_path / "dict"), system, tmp_path / "graph"]
    command = ["make-graph", *map(str, places), "--grammar", str(tmp_path / "grammar.txt")]
    for said in (" states, ", "made already"):
        assert said in CliRunner().invoke(app, command).stderr
    for name in ("phones.txt", "tree"):
        with (system / name).open("ab") as stream:
            stream.write(b"\n")
        assert " states, " in CliRunner().invoke(app, command).stderr, name


def test_a_grammars_graph_is_kaldis(tmp_path: Path) -> None:
    (tmp_path / "grammar.txt").write_text(grammar_of(SYNTHETIC / "graph/G.txt"))
    arguments = [
        lexicon_dir(tmp_path / "dict"),
        ALI,
        tmp_path / "graph",
        "--grammar",
        tmp_path / "grammar.txt",
    ]
    result = CliRunner().invoke(app, ["make-graph", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    check_same_graph(tmp_path / "graph", SYNTHETIC / "graph", ALI / "final.mdl", (20, 30, 50, 80, 150))


@needs_fsdd
def test_an_arpa_files_graph_is_kaldis(tmp_path: Path) -> None:
    system, local = FSDD / "exp/tri4b_ali_train", FSDD / "data/local"
    make_graph(local / "dict", system / "final.mdl", tmp_path, local / "bg.arpa", None, tree=system / "tree")
    check_same_graph(tmp_path, FSDD / "exp/tri4b/graph", system / "final.mdl", (5, 14, 40, 80, 150))


def test_a_model_without_its_tree_is_refused(tmp_path: Path) -> None:
    folder = lexicon_dir(tmp_path / "dict")
    (tmp_path / "grammar.txt").write_text("SENTENCE = open the door\n")
    options = (tmp_path / "graph", None, tmp_path / "grammar.txt")
    with pytest.raises(ValueError, match=r"final\.mdl: its pdfs depend on the context of a phone"):
        make_graph(folder, ALI / "final.mdl", *options)
    (tmp_path / "tree").write_text("ContextDependency 1 0 ToPdf CE 5 EndContextDependency ")
    with pytest.raises(ValueError, match="the pdf 5, and .* never: they are not of one system"):
        make_graph(folder, ALI / "final.mdl", *options, tree=tmp_path / "tree")
    assert not (tmp_path / "graph").exists()


def test_places_in_the_word_are_added_where_the_model_has_them(tmp_path: Path) -> None:
    lexicon = Lexicon.read(lexicon_dir(tmp_path / "dict"), ALI / "phones.txt")
    pronunciations = {word: " ".join(phones) for word, _, phones in lexicon.entries}
    assert pronunciations["again"] == "AH_B G_I EY_I N_E"
    assert pronunciations["!sil"] == "SIL_S"
    assert lexicon.silence_phone == "SIL"
    with (tmp_path / "dict/lexicon.txt").open("a") as stream:
        stream.write("strange AH XX\n")
    with pytest.raises(ValueError, match=r"phone 'XX_E' of 'strange' is not in .*phones\.txt"):
        Lexicon.read(tmp_path / "dict", ALI / "phones.txt")


class Windows:
    """In the place of a model: the HMM of a window has the window's phones as its transition-ids."""

    def in_context(self, window: tuple[int, ...], tree: ContextDependency) -> Hmm:
        del tree
        return Hmm(tuple(window), 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(("width", "position"), [(1, 0), (2, 0), (2, 1), (3, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("phones", [[], [7], [7, 8], [3, 4, 5, 6, 3, 3]])
def test_a_line_of_phones_becomes_its_windows(width: int, position: int, phones: list[int]) -> None:
    # A disambiguation symbol, 99, stands before the last phone.
    symbols = [*phones[:-1], 99, *phones[-1:]]
    arcs = np.array([(symbol, 100 + k, 1.0, k + 1) for k, symbol in enumerate(symbols)], dtype=ARC)
    finals = np.full(len(symbols) + 1, np.inf, dtype=np.float32)
    finals[-1] = 0.5
    line = FstArrays.from_arcs(0, finals, np.arange(len(symbols)), arcs)
    fst, labels = in_context(line, Windows(), ContextDependency(width, position, None), [99])  # type: ignore[arg-type]
    state, cost, read, words = fst.start, 0.0, [], []
    while fst.first_arcs[state] < fst.first_arcs[state + 1]:
        assert fst.first_arcs[state + 1] - fst.first_arcs[state] == 1
        assert fst.finals[state] == np.inf
        label, word, weight, state = fst.arcs[fst.first_arcs[state]].tolist()
        cost += weight
        read += [label] if label else []
        words += [word] if word else []
    assert cost + fst.finals[state] == len(symbols) + 0.5
    assert words == [100 + k for k in range(len(symbols))]
    assert labels.disambig == [1]
    assert 1 in read
    padded = [0] * position + phones + [0] * (width - 1 - position)
    expected = [tuple(padded[k : k + width]) for k in range(len(phones))]
    assert [labels.hmms[label].transitions for label in read if label != 1] == expected
    assert len(labels.hmms) == len(set(expected))


def test_hmms_of_every_phone_are_those_of_a_tree_that_asks_for_nothing_else(tmp_path: Path) -> None:
    """A monophone system's tree, written from its model, gives what the model alone gives."""
    hmms = Hmms.read(SYNTHETIC / "variants/mono/final.mdl")
    by_state = {state[:2]: state[2] for state in hmms.transitions}
    width = 1 + max(hmms.phones())
    phones = [
        "NULL"
        if phone not in hmms.phones()
        else f"TE -1 {len(hmms.topology[phone]) - 1} ( "
        + " ".join(f"CE {by_state[phone, k]}" for k in range(len(hmms.topology[phone]) - 1))
        + " )"
        for phone in range(width)
    ]
    text = f"ContextDependency 1 0 ToPdf TE 0 {width} ( {' '.join(phones)} ) EndContextDependency "
    (tmp_path / "tree").write_text(text)
    tree = ContextDependency.read(tmp_path / "tree")
    assert {phone: hmms.in_context((phone,), tree) for phone in hmms.phones()} == hmms.without_context()
