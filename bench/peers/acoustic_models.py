"""The acoustic model on other people's batch-normalized recurrent layers."""

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor, nn

from asr_bn.acoustic_model.experiment import ModelConfig
from bench.peers.python_loop import PythonLoopLSTM


class PeerModel(nn.Module):
    """Recurrent layers over a padded batch, and an output layer over its real frames."""

    def __init__(self, layers: nn.Module, frames_first: bool, hidden_size: int, num_pdfs: int) -> None:
        super().__init__()
        self.layers, self.frames_first = layers, frames_first
        self.output = nn.Linear(2 * hidden_size, num_pdfs)

    def forward(self, feats: Tensor, mask: Tensor) -> Tensor:
        """Return real frames' log posteriors, from ``[batch, frames, features]`` and ``[batch, frames]``."""
        x = feats.transpose(0, 1) if self.frames_first else feats
        hidden = self.layers(x)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        hidden = hidden.transpose(0, 1) if self.frames_first else hidden
        return nn.functional.log_softmax(self.output(hidden[mask]), dim=1)


def peers(model: ModelConfig, feats: Tensor, num_pdfs: int) -> dict[str, Callable[[], PeerModel]]:
    """Return makers of peers of the same sizes, by name; SpeechBrain's only where it is installed."""
    sizes = (feats.shape[2], model.hidden_size, model.num_layers)
    made: dict[str, Callable[[], PeerModel]] = {
        "BN-LSTM as a Python loop": lambda: PeerModel(
            PythonLoopLSTM(*sizes), True, model.hidden_size, num_pdfs
        )
    }
    if importlib.util.find_spec("speechbrain") is not None:
        made["SpeechBrain LiGRU with BN (two gates)"] = lambda: PeerModel(
            _ligru(model, feats), False, model.hidden_size, num_pdfs
        )
    return made


def _ligru(model: ModelConfig, feats: Tensor) -> nn.Module:
    from speechbrain.nnet.RNN import LiGRU

    layers: nn.Module = LiGRU(
        model.hidden_size,
        feats.shape,
        num_layers=model.num_layers,
        normalization="batchnorm",
        bidirectional=True,
    )
    return layers


def training_step(model: PeerModel, feats: Tensor, mask: Tensor, pdf_ids: Tensor) -> Callable[[], None]:
    """Run forward, backward and an SGD step, on the real frames alone."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        log_posteriors = model(feats, mask)
        loss = nn.functional.nll_loss(log_posteriors, pdf_ids[mask], reduction="sum") / len(feats)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step
