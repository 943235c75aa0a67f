"""Phones of pdfs: a case worked out by hand, and Kaldi's own list of transitions and alignments."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from asr_bn.data.kaldi_system import read_aligned
from asr_bn.data.phones import PhoneTable
from asr_bn.kaldi_io.int_vector_table import read_int_vectors
from asr_bn.kaldi_io.transition_model import TransitionModel
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd

POSITIONS = {number: f"AH_{position}" for number, position in enumerate("BEIS", start=5)}


def _model(*transitions: tuple[int, int]) -> TransitionModel:
    """A model whose transition-ids from 1 on have these phones and pdfs."""
    phones, pdfs = zip((-1, -1), *transitions, strict=True)
    arrays = [np.array(values, dtype=np.int32) for values in (pdfs, phones, np.zeros_like(phones))]
    return TransitionModel(max(pdfs) + 1, *arrays)


def _shares(table: PhoneTable) -> dict[tuple[str, int], float]:
    names = [table.names[place] for place in table.phones]
    return dict(zip(zip(names, table.pdf_ids.tolist(), strict=True), table.shares.tolist(), strict=True))


def test_a_shared_pdf_is_divided_by_frames_with_half_a_frame_for_each_phone() -> None:
    # pdf 0 is of phone 2 alone, though it has no frames; pdf 1 of phones 2 and 3; pdf 2 of 3 and 7, unseen.
    model = _model((2, 0), (2, 1), (2, 1), (3, 1), (3, 2), (7, 2))
    table = PhoneTable.of(model, [0, 0, 4, 2, 3, 0, 0], {0: "<eps>", 2: "A", 3: "B"})
    assert table.names == ("A", "B", "7")
    assert _shares(table) == pytest.approx(
        {("A", 0): 1.0, ("A", 1): 6.5 / 10, ("B", 1): 3.5 / 10, ("B", 2): 0.5, ("7", 2): 0.5}
    )
    assert table.main_phones().tolist() == [0, 0, 1]


def test_positions_are_folded_if_a_name_has_all_four() -> None:
    names = POSITIONS | {1: "SIL", 2: "A_B", 3: "A_E", 4: "AH", 9: "_B"}
    model = _model(*((number, number % 2) for number in sorted(names)))
    table = PhoneTable.of(model, [0, 3, 0, 1, 2, 2, 0, 5, 4, 1], names)
    folded = table.folded()
    assert folded.names == ("SIL", "A_B", "A_E", "AH", "_B")
    shares, before = _shares(folded), _shares(table)
    for pdf in (0, 1):
        members = [before.get((name, pdf), 0.0) for name in ("AH", *POSITIONS.values())]
        assert shares["AH", pdf] == pytest.approx(sum(members))
    assert folded.folded().names == folded.names


def test_a_pdf_without_a_phone_has_no_main_phone() -> None:
    table = PhoneTable.of(_model((1, 2), (1, 0)), [0, 1, 1], {1: "A"})
    assert table.main_phones().tolist() == [0, -1, 0]


def test_counts_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match="2 counts of transition-ids, the transition model has 1"):
        PhoneTable.of(_model((1, 0)), [0, 1, 1], {})


@pytest.mark.parametrize(
    ("ali_dir", "pdf_oracle", "phone_oracle"),
    [
        ("ali", "oracles/ali/pdf.txt.gz", "oracles/ali/phones_per_frame.txt.gz"),
        ("variants/chain", "variants/chain/pdf.txt.gz", "variants/chain/phones_per_frame.txt.gz"),
    ],
)
def test_shares_are_those_of_frames_counted_in_kaldis_outputs(
    ali_dir: str, pdf_oracle: str, phone_oracle: str
) -> None:
    """``ali-to-pdf`` and ``ali-to-phones --per-frame``, counted frame by frame."""
    _check_shares(SYNTHETIC / ali_dir, SYNTHETIC / pdf_oracle, SYNTHETIC / phone_oracle)


@needs_fsdd
def test_shares_on_real_speech() -> None:
    oracles = FSDD / "oracles/ali"
    _check_shares(
        FSDD / "exp/tri4b_ali_train", oracles / "train.pdf.txt.gz", oracles / "train.phones_per_frame.txt.gz"
    )


def _check_shares(ali_dir: Path, pdf_oracle: Path, phone_oracle: Path) -> None:
    pdf_ids, phones = dict(read_int_vectors(pdf_oracle)), dict(read_int_vectors(phone_oracle))
    frames: Counter[tuple[int, int]] = Counter()
    for utt_id, vector in pdf_ids.items():
        frames.update(zip(phones[utt_id].tolist(), vector.tolist(), strict=True))
    _, system = read_aligned(ali_dir)
    assert system is not None
    system = type(system)({}, system.transition_model_bytes, None, system.tid_counts)  # names are numbers
    shares = {(int(name), pdf): share for (name, pdf), share in _shares(system.phones).items()}
    assert frames.keys() <= shares.keys()
    sharing = Counter(pdf for _, pdf in shares)
    totals = Counter[int]()
    for (_, pdf), count in frames.items():
        totals[pdf] += count
    for (phone, pdf), share in shares.items():
        assert share == pytest.approx((frames[phone, pdf] + 0.5) / (totals[pdf] + 0.5 * sharing[pdf]))
    assert max(sharing.values()) > 1


@needs_fsdd
def test_phones_and_states_are_those_of_show_transitions() -> None:
    _, system = read_aligned(FSDD / "exp/tri4b_ali_train")
    assert system is not None
    model, pattern = system.transition_model(), r"phone = (\S+) hmm-state = (\d+) pdf = (\d+)"
    names, expected = system.phone_names, []
    state = ("", 0, 0)
    for line in (FSDD / "oracles/model/show-transitions.txt").read_text().splitlines():
        if found := re.search(pattern, line):
            state = (found[1], int(found[2]), int(found[3]))
        elif "Transition-id" in line:
            expected.append(state)
    columns = (model.tid_to_phone, model.tid_to_hmm_state, model.tid_to_pdf)
    rows = zip(*(column[1:].tolist() for column in columns), strict=True)
    assert [(names[phone], hmm_state, pdf) for phone, hmm_state, pdf in rows] == expected
    assert set(_shares(system.phones)) == {(name, pdf) for name, _, pdf in expected}
