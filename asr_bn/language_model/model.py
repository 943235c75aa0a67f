"""The language model: tokens in, scores of the token after each out."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from asr_bn.language_model.experiment import LanguageModelConfig, LanguageModelExperiment
from asr_bn.layers.batch_norm import BatchNormLSTM, BatchNormRNN
from asr_bn.layers.one_bias import keep_one_bias
from asr_bn.layers.recurrence.steps import State
from asr_bn.training.checkpoint import LANGUAGE_MODEL, Checkpoint, contents_of, load_checkpoint


class LanguageModel(nn.Module):
    """Look-up table, stacked recurrent layers, and a softmax's input (paper, section 5.2).

    Args:
        config: sizes and options.
        num_words: of the vocabulary.
        seed: of the initial weights, which are the same with and without a norm.
    """

    layers: BatchNormLSTM | BatchNormRNN

    def __init__(self, config: LanguageModelConfig, num_words: int, seed: int = 0) -> None:
        super().__init__()
        size = config.hidden_size
        self.embedding = nn.Embedding(num_words, size)
        self.layers = _recurrent_layers(config)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(size, num_words)
        self._initialize(config, torch.Generator().manual_seed(seed))
        keep_one_bias(self.layers)

    @torch.no_grad()
    def _initialize(self, config: LanguageModelConfig, generator: torch.Generator) -> None:
        # Matrices before biases, of which a normalized layer has fewer: so the matrices are the same in both.
        for name, values in sorted(self.named_parameters(), key=_order_of_drawing):
            if "gamma" in name:
                continue  # as the layer sets it
            if config.init == "uniform":
                values.uniform_(-config.init_range, config.init_range, generator=generator)
            elif name == "embedding.weight":
                values.normal_(generator=generator)
            elif values.dim() == 2:
                nn.init.xavier_uniform_(values, generator=generator)
            else:
                values.zero_()

    @property
    def device(self) -> torch.device:
        """The device of its parameters."""
        return self.output.bias.device

    def forward(
        self, tokens: Tensor, batch_sizes: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Compute the scores of the next token (logits), and the states of the layers.

        Args:
            tokens: rows ordered by time, then by stream, shape ``[N]``.
            batch_sizes: streams at each time step, shape ``[T]``, on the CPU.
            state: states to start from, each ``[num_layers, batch, hidden_size]``; None starts from zero.
                Those of streams that have no token here, the last ones, are left out.

        Returns:
            Logits, shape ``[N, num_words]``, and the last states.
        """
        embedded = self.dropout(self.embedding(tokens))
        first = None if state is None else tuple(values[:, : batch_sizes[0]] for values in state)
        hidden, last = self.layers.run_layers(PackedSequence(embedded, batch_sizes), first, None)
        return self.output(self.dropout(hidden.data)), last


def _order_of_drawing(parameter: tuple[str, Tensor]) -> tuple[bool, bool]:
    name, values = parameter
    return values.dim() < 2, "beta" in name


def _recurrent_layers(config: LanguageModelConfig) -> BatchNormLSTM | BatchNormRNN:
    layers = BatchNormLSTM if config.cell == "lstm" else BatchNormRNN
    return layers(
        config.hidden_size,
        config.hidden_size,
        config.num_layers,
        dropout=config.dropout,
        norm=None if config.norm == "none" else config.norm,
        eps=config.eps,
        momentum=config.stats_momentum,
        initial_gamma=config.initial_gamma,
    )


def load_model(path: Path) -> tuple[LanguageModel, Checkpoint]:
    """Read a checkpoint: its model, on the CPU, and all that it holds.

    Raises:
        ValueError: the checkpoint is damaged, or not of a language model.
    """
    state = load_checkpoint(path, LANGUAGE_MODEL)
    with contents_of(path):
        config = LanguageModelExperiment.from_dict(state["config"]).model
        model = LanguageModel(config, len(state["description"]["words"]))
        model.load_state_dict(state["model"])
    return model, state
