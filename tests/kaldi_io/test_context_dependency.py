"""Decision trees: a real one against the model that Kaldi made with it, and one written by hand."""

from pathlib import Path

import numpy as np
import pytest

from asr_bn.kaldi_io.context_dependency import ContextDependency
from asr_bn.kaldi_io.model_stream import open_model
from asr_bn.kaldi_io.transition_model import read_topology_and_states
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd

# Phone 1 is silence. The second state of the others depends on what comes before them.
BY_HAND = """ContextDependency 2 1 ToPdf TE 1 3 ( NULL CE 0 TE -1 2 ( CE 1 SE 0 [ 0 1 ]
{ CE 2 CE 3 }
) )
EndContextDependency
"""


def check_against_model(folder: Path) -> None:
    """All that the tree answers, and nothing else, are the transition-states that Kaldi made of it."""
    tree = ContextDependency.read(folder / "tree")
    with open_model(folder / "final.mdl") as stream:
        topology, states = read_topology_and_states(stream)
    random = np.random.default_rng(0)
    phones = np.array(sorted(topology))
    windows = random.choice(np.concatenate([[0], phones]), size=(100_000, tree.context_width))
    windows[:, tree.central_position] = random.choice(phones, size=len(windows))
    answers = set()
    for window in windows.tolist():
        phone = window[tree.central_position]
        for number, state in enumerate(topology[phone][:-1]):
            forward = tree.pdf_id(window, state.forward_pdf_class)
            answers.add((phone, number, forward, tree.pdf_id(window, state.self_loop_pdf_class)))
    assert answers == set(states)
    for phone, hmm_states in topology.items():
        for number, state in enumerate(hmm_states[:-1]):
            pdfs = {row[2] for row in states if row[:2] == (phone, number)}
            assert tree.possible_pdfs(phone, state.forward_pdf_class) == pdfs
    assert tree.encode() == (folder / "tree").read_bytes()


def test_a_tree_answers_what_its_model_has() -> None:
    check_against_model(SYNTHETIC / "ali")


@needs_fsdd
def test_a_tree_of_real_speech_answers_what_its_model_has() -> None:
    check_against_model(FSDD / "exp/tri4b_ali_train")


@needs_fsdd
def test_the_text_form_is_the_same_tree() -> None:
    text, binary = FSDD / "oracles/model/tree.txt", FSDD / "exp/tri4b_ali_train/tree"
    assert ContextDependency.read(text) == ContextDependency.read(binary)


def test_a_tree_by_hand(tmp_path: Path) -> None:
    (tmp_path / "tree").write_text(BY_HAND)
    tree = ContextDependency.read(tmp_path / "tree")
    assert (tree.context_width, tree.central_position) == (2, 1)
    asked = [((0, 1), 0), ((2, 1), 1), ((0, 2), 0), ((2, 2), 0), ((0, 2), 1), ((1, 2), 1), ((2, 2), 1)]
    assert [tree.pdf_id(window, pdf_class) for window, pdf_class in asked] == [0, 0, 1, 1, 2, 2, 3]
    # No such phone, no such state.
    assert [tree.pdf_id(window, 0) for window in ((1, 0), (1, 3))] == [None, None]
    assert tree.pdf_id((1, 2), 2) is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Dependency 2 1", "Dependency 2 2", "place 2 of a window of 2 phones"),
        ("SE 0", "SE 5", "a question for place 5 of 2 phones"),
        ("CE 3", "XX 3", "expected CE, SE, TE or NULL in the tree, found 'XX'"),
        ("TE 1 3", "TE 1 -3", "corrupt: -3 answers of a question"),
        ("ContextDependency 2", "TransitionModel 2", "expected ContextDependency, found 'TransitionModel'"),
        ("EndContextDependency", "", "cut short"),
    ],
)
def test_a_damaged_tree_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "tree").write_text(BY_HAND.replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as error:
        ContextDependency.read(tmp_path / "tree")
    assert str(tmp_path / "tree") in str(error.value)


def test_endless_questions_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tree").write_text("ContextDependency 1 0 ToPdf " + "SE 0 [ 1 ] { " * 100_000)
    with pytest.raises(ValueError, match="deeper than 400 questions"):
        ContextDependency.read(tmp_path / "tree")
