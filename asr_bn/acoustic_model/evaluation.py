"""Framewise cross entropy (FCE, nats a frame) and frame error rate (FER, share of wrong frames)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from asr_bn.acoustic_model.model import AcousticModel
from asr_bn.data.batches import Batch
from asr_bn.data.phones import PhoneTable
from asr_bn.kaldi_io.matrix_table import MatrixScp
from asr_bn.layers.module_modes import evaluating
from asr_bn.layers.population_estimate import run_for_statistics
from asr_bn.scoring.corpus import score_all
from asr_bn.scoring.scorer import AcousticScorer
from asr_bn.system.arrays import IntVector
from asr_bn.training.out_of_memory import explain_out_of_memory
from asr_bn.training.progress import Figures, Sums


@dataclass(frozen=True)
class FrameSums(Sums):
    """Sums over frames."""

    errors: int = 0
    frames: int = 0

    @property
    def count(self) -> int:
        """Frames."""
        return self.frames

    @property
    def fce(self) -> float:
        """Nats a frame."""
        return self.cross_entropy / self.frames

    @property
    def fer(self) -> float:
        """Share of the frames whose most probable pdf is not the aligned one."""
        return self.errors / self.frames

    @classmethod
    def of(cls, log_posteriors: Tensor, pdf_ids: Tensor) -> Self:
        """Count rows ``[N, num_pdfs]`` against ``[N]``."""
        cross_entropy, errors = cross_entropy_and_errors(log_posteriors, pdf_ids)
        return cls(cross_entropy.item(), int(errors), len(pdf_ids))

    def figures(self, name: str) -> Figures:
        """Return FCE and FER of the set ``name``."""
        return {f"{name}_fce": self.fce, f"{name}_fer": self.fer}


@dataclass(frozen=True)
class PhoneFrameSums(FrameSums):
    """Sums over frames where phones are known.

    Attributes:
        phone_errors: frames whose most probable pdf is mostly another phone's than the aligned pdf is.
    """

    phone_errors: int = 0

    def figures(self, name: str) -> Figures:
        """Return FCE, FER and frame phone error rate of the set ``name``."""
        return super().figures(name) | {f"{name}_phone_fer": self.phone_errors / self.frames}


def describe_size(batch: Batch) -> str:
    """Describe a batch that does not fit in memory, and what to lower."""
    # A rank may have no utterance of a mini-batch.
    utterances, frames = len(batch.utt_ids), int(batch.lengths.max()) if len(batch.utt_ids) else 0
    return (
        f"a mini-batch of {utterances} utterances padded to {frames} frames "
        f"({utterances * frames} in all): lower [training] batch_size (or set batch_frames) or "
        "max_frames, or share the mini-batch among more processes (torchrun)"
    )


def cross_entropy_and_errors(log_posteriors: Tensor, pdf_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed cross entropy, with its graph, and the wrong frames of rows ``[N, num_pdfs]``."""
    # Under autocast on a CPU the rows are of half precision, in which sums would be rounded.
    if log_posteriors.dtype in (torch.float16, torch.bfloat16):
        log_posteriors = log_posteriors.float()
    cross_entropy = torch.nn.functional.nll_loss(log_posteriors, pdf_ids, reduction="sum")
    return cross_entropy, (log_posteriors.detach().argmax(1) != pdf_ids).sum()


def packed_pdf_ids(batch: Batch, device: torch.device) -> Tensor:
    """Return the pdf-ids of a batch in the order of the model's packed rows, shape ``[sum(lengths)]``."""
    pdf_ids = batch.pdf_ids.to(device, non_blocking=True)
    if not len(batch.lengths):
        return pdf_ids.flatten()
    return pack_padded_sequence(pdf_ids, batch.lengths, batch_first=True, enforce_sorted=False).data


def run_for_population_stats(model: AcousticModel, batch: Batch) -> None:
    """Run the model on a batch as far as its population statistics need."""
    run_for_statistics(model.layers, model, batch.feats.to(model.feats_mean.device), batch.lengths)


@torch.no_grad()
def evaluate(model: AcousticModel, batches: Iterable[Batch], phones: PhoneTable | None = None) -> FrameSums:
    """Sum cross entropy and errors of a model in evaluation mode, with its population statistics.

    Args:
        phones: of the pdfs: errors in phones without their word positions are counted too, and
            `PhoneFrameSums` are returned.
    """
    device = model.feats_mean.device
    main = None if phones is None else torch.from_numpy(phones.folded().main_phones()).to(device)
    sums: FrameSums = FrameSums() if main is None else PhoneFrameSums()
    with evaluating(model):
        for batch in batches:
            with explain_out_of_memory(describe_size(batch)):
                log_posteriors = model(batch.feats.to(device, non_blocking=True), batch.lengths).data
                pdf_ids = packed_pdf_ids(batch, device)
                found = FrameSums.of(log_posteriors, pdf_ids)
                if main is not None:
                    wrong = int((main[log_posteriors.argmax(1)] != main[pdf_ids]).sum())
                    found = PhoneFrameSums(**vars(found), phone_errors=wrong)
                sums += found
    return sums


def frame_error_rate(scorer: AcousticScorer, feats: MatrixScp, pdf_ids: Mapping[str, IntVector]) -> float:
    """Measure an exported model's frame error rate.

    Raises:
        ValueError: no utterance has both, or lengths differ.
    """
    wrong = total = 0
    for utt_id, scores in score_all(scorer, ((u, feats[u]) for u in feats if u in pdf_ids), 1):
        expected = pdf_ids[utt_id]
        if len(expected) != len(scores):
            raise ValueError(f"{utt_id}: {len(scores)} feature frames, {len(expected)} aligned pdf-ids")
        wrong, total = wrong + int((scores.argmax(1) != expected).sum()), total + len(scores)
    if not total:
        raise ValueError(f"{feats.path}: none of its utterances is aligned")
    return wrong / total
