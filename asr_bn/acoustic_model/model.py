"""The acoustic model: features with deltas in, framewise log posteriors out (paper, section 5.1)."""

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from asr_bn.acoustic_model.experiment import ExperimentConfig, ModelConfig
from asr_bn.features.deltas import delta_kernels
from asr_bn.features.options import FbankOptions
from asr_bn.layers.batch_norm import BatchNormLSTM
from asr_bn.layers.one_bias import keep_one_bias
from asr_bn.training.checkpoint import ACOUSTIC_MODEL, Checkpoint, contents_of, load_checkpoint


class Deltas(nn.Module):
    """Kaldi's ``add-deltas`` on a padded batch: regression filters over static features, edges repeated.

    Args:
        order: 2 gives deltas and delta-deltas, 0 the features as they are.
    """

    def __init__(self, order: int) -> None:
        super().__init__()
        self.kernels = [torch.from_numpy(kernel).float().tolist() for kernel in delta_kernels(order)]

    def forward(self, feats: Tensor, lengths: Tensor) -> Tensor:
        """Map ``[batch, frames, S]`` and ``lengths`` ``[batch]`` to ``[batch, frames, (order + 1) S]``."""
        reach = len(self.kernels[-1]) // 2
        frames = feats.shape[1]
        time = torch.arange(-reach, frames + reach, device=feats.device).clamp(min=0)
        time = torch.minimum(time, lengths.to(feats.device)[:, None] - 1)  # [batch, frames + 2 reach]
        extended = torch.gather(feats, 1, time[:, :, None].expand(-1, -1, feats.shape[2]))
        return torch.cat([_filter(extended, kernel, reach, frames) for kernel in self.kernels], dim=2)


def _filter(extended: Tensor, kernel: list[float], reach: int, frames: int) -> Tensor:
    first = reach - len(kernel) // 2
    terms = (extended[:, first + k : first + k + frames] * tap for k, tap in enumerate(kernel) if tap)
    return sum(terms, torch.zeros_like(extended[:, :frames]))


class AcousticModel(nn.Module):
    """Input normalization, stacked bidirectional LSTM layers, and a softmax over pdfs.

    Args:
        config: sizes and options.
        num_static: columns of the static features (41: energy and 40 log mel bins).
        num_pdfs: classes, from the alignments' ``final.mdl``.
        seed: of the initial weights, which are the same with and without a norm.
    """

    feats_mean: Tensor
    feats_std: Tensor

    def __init__(self, config: ModelConfig, num_static: int, num_pdfs: int, seed: int = 0) -> None:
        super().__init__()
        self.num_static, self.num_pdfs = num_static, num_pdfs
        self.deltas = Deltas(config.delta_order)
        num_features = num_static * (config.delta_order + 1)
        self.register_buffer("feats_mean", torch.zeros(num_features))
        self.register_buffer("feats_std", torch.ones(num_features))
        self.layers = BatchNormLSTM(
            num_features,
            config.hidden_size,
            config.num_layers,
            dropout=config.dropout,
            bidirectional=True,
            norm=None if config.norm == "none" else config.norm,
            peephole=config.peephole,
            eps=config.eps,
            momentum=config.stats_momentum,
        )
        self.output = nn.Linear(2 * config.hidden_size, num_pdfs)
        self.reset_parameters(seed)
        keep_one_bias(self.layers)

    def reset_parameters(self, seed: int) -> None:
        """Draw Glorot-uniform weights, each gate's matrix by itself; biases are 0, gamma is 1.

        A peephole is drawn as the diagonal of a matrix, after the matrices: these are the same without it.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in sorted(self.named_parameters(), key=lambda item: item[1].dim() < 2):
            if "gamma" in name:
                nn.init.ones_(parameter)
            elif "peephole" in name:
                bound = math.sqrt(3.0 / len(parameter))
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
            elif parameter.dim() == 1:
                nn.init.zeros_(parameter)
            else:
                for gate in parameter.data.chunk(4 if "layers." in name else 1):
                    nn.init.xavier_uniform_(gate, generator=generator)

    def forward(self, static_feats: Tensor, lengths: Tensor) -> PackedSequence:
        """Compute the log posteriors of a padded batch.

        Args:
            static_feats: shape ``[batch, frames, num_static]``.
            lengths: frames of every utterance, shape ``[batch]``, on the CPU.

        Returns:
            Packed rows of shape ``[sum(lengths), num_pdfs]``.
        """
        feats = (self.deltas(static_feats, lengths) - self.feats_mean) / self.feats_std
        packed = pack_padded_sequence(feats, lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = self.layers(packed)
        log_posteriors = nn.functional.log_softmax(self.output(hidden.data), dim=1)
        return PackedSequence(
            log_posteriors, hidden.batch_sizes, hidden.sorted_indices, hidden.unsorted_indices
        )


def load_model(path: Path) -> tuple[AcousticModel, Checkpoint]:
    """Read a checkpoint: its model, in evaluation mode on the CPU, and all that it holds.

    Raises:
        ValueError: the checkpoint is damaged, or does not hold such a model.
    """
    state = load_checkpoint(path, ACOUSTIC_MODEL)
    with contents_of(path):
        config = ExperimentConfig.from_dict(state["config"])
        fbank = FbankOptions(**state["description"]["fbank"])
        model = AcousticModel(config.model, fbank.num_features, state["description"]["num_pdfs"])
        model.load_state_dict(state["model"])
    return model.eval(), state
