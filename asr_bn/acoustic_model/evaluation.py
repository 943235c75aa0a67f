"""Framewise cross entropy (FCE, nats a frame) and frame error rate (FER, share of wrong frames)."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from asr_bn.acoustic_model.model import AcousticModel
from asr_bn.acoustic_model.out_of_memory import naming_batch
from asr_bn.data.batches import Batch
from asr_bn.layers.population import run_for_statistics


@dataclass
class FrameSums:
    """Sums over frames, from which the averages are taken last."""

    cross_entropy: float = 0.0
    errors: int = 0
    frames: int = 0

    @property
    def fce(self) -> float:
        """Nats a frame."""
        return self.cross_entropy / self.frames

    @property
    def fer(self) -> float:
        """Share of the frames whose most probable pdf is not the aligned one."""
        return self.errors / self.frames

    def add(self, log_posteriors: Tensor, pdf_ids: Tensor) -> Tensor:
        """Count rows ``[N, num_pdfs]`` against ``[N]``; return the summed cross entropy, for the gradient."""
        cross_entropy, errors = cross_entropy_and_errors(log_posteriors, pdf_ids)
        self.cross_entropy += cross_entropy.item()
        self.errors += int(errors)
        self.frames += len(pdf_ids)
        return cross_entropy


def cross_entropy_and_errors(log_posteriors: Tensor, pdf_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Summed cross entropy, with its gradient, and number of wrong frames of rows ``[N, num_pdfs]``."""
    # Under autocast on a CPU the rows are of half precision, in which sums would be rounded.
    if log_posteriors.dtype in (torch.float16, torch.bfloat16):
        log_posteriors = log_posteriors.float()
    cross_entropy = torch.nn.functional.nll_loss(log_posteriors, pdf_ids, reduction="sum")
    return cross_entropy, (log_posteriors.detach().argmax(1) != pdf_ids).sum()


def packed_pdf_ids(batch: Batch, device: torch.device) -> Tensor:
    """The pdf-ids of a batch in the row order of the model's packed output, shape ``[sum(lengths)]``."""
    pdf_ids = batch.pdf_ids.to(device, non_blocking=True)
    if not len(batch.lengths):
        return pdf_ids.flatten()
    return pack_padded_sequence(pdf_ids, batch.lengths, batch_first=True, enforce_sorted=False).data


def run_for_population_stats(model: AcousticModel, batch: Batch) -> None:
    """Run the model on a batch as far as its population statistics need."""
    run_for_statistics(model.layers, model, batch.feats.to(model.feats_mean.device), batch.lengths)


@torch.no_grad()
def evaluate(model: AcousticModel, batches: Iterable[Batch]) -> FrameSums:
    """FCE and FER of a model in evaluation mode, population statistics and all."""
    was_training, sums = model.training, FrameSums()
    model.eval()
    device = model.feats_mean.device
    for batch in batches:
        with naming_batch(batch):
            log_posteriors = model(batch.feats.to(device, non_blocking=True), batch.lengths).data
            sums.add(log_posteriors, packed_pdf_ids(batch, device))
    model.train(was_training)
    return sums
