"""Transition models: every form of Kaldi's files gives what ``ali-to-pdf`` and ``ali-to-phones`` used."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from asr_bn.decoding.hmms import Hmms
from asr_bn.kaldi_io.transition_model import TransitionModel
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("variants/final.mdl.txt.gz", "ali/final.mdl"),
        ("variants/transition_model.bin", "ali/final.mdl"),
        ("variants/transition_model.txt.gz", "ali/final.mdl"),
        ("variants/chain/transition_model.txt.gz", "variants/chain/final.mdl"),
    ],
)
def test_forms_of_the_same_model_agree(name: str, reference: str) -> None:
    one, other = TransitionModel.read(SYNTHETIC / name), TransitionModel.read(SYNTHETIC / reference)
    np.testing.assert_array_equal(one.tid_to_pdf, other.tid_to_pdf)
    np.testing.assert_array_equal(one.tid_to_phone, other.tid_to_phone)


@pytest.mark.parametrize(
    ("name", "num_pdfs", "num_tids"),
    [("ali", 72, 1196), ("variants/mono", 121, 1068), ("variants/chain", 78, 316)],
)
def test_sizes_are_those_of_hmm_info(name: str, num_pdfs: int, num_tids: int) -> None:
    model = TransitionModel.read(SYNTHETIC / name / "final.mdl")
    assert (model.num_pdfs, model.num_transition_ids) == (num_pdfs, num_tids)
    assert model.tid_to_pdf[0] == -1
    assert set(np.unique(model.tid_to_pdf[1:])) == set(range(num_pdfs))


@needs_fsdd
def test_every_transition_of_show_transitions() -> None:
    model = TransitionModel.read(FSDD / "exp/tri4b_ali_train/final.mdl")
    pdf, expected = -1, {}
    for line in (FSDD / "oracles/model/show-transitions.txt").read_text().splitlines():
        words = line.split()
        if words[0] == "Transition-state":
            pdf = int(words[words.index("pdf") + 2])
        else:
            expected[int(words[2])] = pdf
    assert {tid: int(model.tid_to_pdf[tid]) for tid in range(1, 909)} == expected


@needs_fsdd
def test_the_alignment_model_has_the_same_transitions() -> None:
    one = TransitionModel.read(FSDD / "exp/tri4b_ali_dev/final.alimdl")
    other = TransitionModel.read(FSDD / "exp/tri4b_ali_dev/final.mdl")
    np.testing.assert_array_equal(one.tid_to_pdf, other.tid_to_pdf)


@pytest.mark.parametrize("cut", [0, 1, 2, 40, 200, 1000, 4000])
def test_a_model_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "final.mdl"
    path.write_bytes((SYNTHETIC / "ali/final.mdl").read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"final\.mdl: "):
        TransitionModel.read(path)


def test_a_state_outside_the_topology_is_refused(tmp_path: Path) -> None:
    text = gzip.decompress((SYNTHETIC / "variants/transition_model.txt.gz").read_bytes()).decode()
    head, _, tail = text.partition("<Triples> ")
    count, _, rows = tail.partition("\n")
    first, _, rest = rows.partition("\n")
    phone, _, pdf = first.split()
    (tmp_path / "m").write_text(f"{head}<Triples> {count}\n{phone} 9 {pdf}\n{rest}")
    with pytest.raises(ValueError, match=f"state 9 of phone {phone}"):
        TransitionModel.read(tmp_path / "m")


def test_log_probabilities_in_double_precision(tmp_path: Path) -> None:
    """A Kaldi built with it writes DV; the marks and sizes are swapped by hand."""
    data = (SYNTHETIC / "variants/transition_model.bin").read_bytes()
    start = data.index(b"FV ") + 3 + 5
    end = start + 4 * int.from_bytes(data[start - 4 : start], "little")
    values = np.frombuffer(data[start:end], dtype="<f4").astype("<f8")
    head = data[:start].replace(b"FV ", b"DV ")
    (tmp_path / "double").write_bytes(head + values.tobytes() + data[end:])
    expected = Hmms.read(SYNTHETIC / "variants/transition_model.bin").transitions
    assert Hmms.read(tmp_path / "double").transitions == expected


@pytest.mark.parametrize(
    ("old", "new"), [(b"<Triples> ", b"<Triples>\v\f\t"), (b" <Transition> ", b"\v<Transition>\r\n")]
)
def test_words_of_a_text_model_end_where_c_ends_them(old: bytes, new: bytes, tmp_path: Path) -> None:
    data = gzip.decompress((SYNTHETIC / "variants/transition_model.txt.gz").read_bytes())
    assert old in data
    (tmp_path / "model").write_bytes(data.replace(old, new))
    model, expected = (
        TransitionModel.read(tmp_path / "model"),
        TransitionModel.read(SYNTHETIC / "ali/final.mdl"),
    )
    np.testing.assert_array_equal(model.tid_to_pdf, expected.tid_to_pdf)


@pytest.mark.parametrize("number", [b"5_5_8", b"\xb2", b"99999999999", b"5.0"])
def test_numbers_that_are_none(number: bytes, tmp_path: Path) -> None:
    data = gzip.decompress((SYNTHETIC / "variants/transition_model.txt.gz").read_bytes())
    (tmp_path / "model").write_bytes(data.replace(b"<Triples> 558", b"<Triples> " + number))
    with pytest.raises(ValueError, match="model: expected an integer, found"):
        TransitionModel.read(tmp_path / "model")
