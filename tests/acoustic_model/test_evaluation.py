"""Frame phone errors: a case worked out by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from asr_bn.acoustic_model.evaluation import evaluate
from asr_bn.data.batches import Batch
from asr_bn.data.phones import PhoneTable
from asr_bn.kaldi_io.transition_model import TransitionModel

NAMES = {number: f"A_{position}" for number, position in enumerate("BEIS", start=1)} | {5: "B", 6: "C"}


class Echo(nn.Module):
    """Answers the features as log posteriors."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("feats_mean", torch.zeros(1))

    def forward(self, feats: Tensor, lengths: Tensor) -> PackedSequence:
        return pack_padded_sequence(feats.log(), lengths, batch_first=True, enforce_sorted=False)


def table() -> PhoneTable:
    """pdf 0 of A_B, pdf 1 of A_E, A_I and A_S, pdf 2 of B and more often of C, pdf 3 of B."""
    pairs = [(1, 0), (2, 1), (3, 1), (4, 1), (5, 2), (6, 2), (5, 3)]
    phones, pdfs = zip((-1, -1), *pairs, strict=True)
    arrays = [np.array(values, dtype=np.int32) for values in (pdfs, phones, np.zeros_like(phones))]
    return PhoneTable.of(TransitionModel(4, *arrays), [0, 1, 1, 1, 1, 3, 5, 1], NAMES)


def test_a_frame_is_wrong_if_its_pdf_is_mostly_of_another_phone() -> None:
    # Phones of the most probable pdfs A A C B | B C, of the aligned ones A A B C | B A.
    best, aligned = [[1, 0, 2, 3], [3, 2]], [[0, 0, 3, 2], [3, 1]]
    feats, pdf_ids = torch.full((2, 4, 4), 0.1), torch.zeros(2, 4, dtype=torch.int64)
    for row, (chosen, wanted) in enumerate(zip(best, aligned, strict=True)):
        feats[row, torch.arange(len(chosen)), torch.tensor(chosen)] = 0.7
        pdf_ids[row, : len(wanted)] = torch.tensor(wanted)
    batches = [Batch(["u0", "u1"], feats, pdf_ids, torch.tensor([4, 2]))] * 2
    sums = evaluate(Echo(), batches, table())  # type: ignore[arg-type]
    figures = sums.figures("dev")
    assert figures["dev_fer"] == pytest.approx(4 / 6)
    assert figures["dev_phone_fer"] == pytest.approx(3 / 6)
    without = evaluate(Echo(), batches).figures("dev")  # type: ignore[arg-type]
    assert without == {name: figures[name] for name in ("dev_fce", "dev_fer")}
