"""The language models against ``torch.nn.LSTM`` in the same harness: tokens a second of training and scoring.

    python -m bench.ptb                       # the small model on the CPU
    python -m bench.ptb --config medium --device cuda

The contenders take turns on the same windows of random tokens; medians.  The bar is the batch-normalized
layer's time over that of ``nn.LSTM``, at most 1.3 on the CPU.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from asr_bn import __version__
from asr_bn.language_model.experiment import LanguageModelExperiment
from asr_bn.language_model.model import LanguageModel
from asr_bn.layers.recurrence.steps import State

NUM_WORDS = 10_000
CONF = Path(__file__).parents[1] / "recipes" / "ptb" / "conf"
PEER, BASELINE, OURS = "torch.nn.LSTM", "asr_bn, no norm", "asr_bn, frame-wise BN"
Run = Callable[[], None]


class PlainLayers(nn.Module):
    """``nn.LSTM`` behind the interface that the language model uses; full windows need no packing."""

    def __init__(self, size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(size, size, num_layers, dropout=dropout)

    def run(self, input: PackedSequence, state: State | None, lengths: None) -> tuple[PackedSequence, State]:
        """Run the layer with the signature of asr_bn's."""
        steps, batch = len(input.batch_sizes), int(input.batch_sizes[0])
        output, last = self.lstm(input.data.view(steps, batch, -1), state)
        return PackedSequence(output.reshape(steps * batch, -1), input.batch_sizes), last


def contenders(experiment: LanguageModelExperiment, device: torch.device) -> dict[str, LanguageModel]:
    """Return the three models, with the same sizes."""
    models = {
        BASELINE: LanguageModel(experiment.replace("model", norm="none").model, NUM_WORDS),
        OURS: LanguageModel(experiment.model, NUM_WORDS),
        PEER: LanguageModel(experiment.replace("model", norm="none").model, NUM_WORDS),
    }
    config = experiment.model
    peer = PlainLayers(config.hidden_size, config.num_layers, config.dropout)
    models[PEER].layers = peer  # type: ignore[assignment]
    return {name: model.to(device) for name, model in models.items()}


class Harness:
    """Training steps and scoring of one model on windows of random tokens, the state carried along."""

    def __init__(
        self, model: LanguageModel, experiment: LanguageModelExperiment, device: torch.device
    ) -> None:
        training = experiment.training
        self.model, self.state = model, None
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        shape = (2, training.num_steps * training.batch_size)
        self.tokens, self.targets = torch.randint(
            NUM_WORDS, shape, generator=torch.Generator().manual_seed(0)
        ).to(device)
        self.batch_sizes = torch.full((training.num_steps,), training.batch_size)
        self.batch_size, self.max_grad_norm = training.batch_size, training.max_grad_norm or float("inf")

    def train(self) -> None:
        """Do one step: forward, backward, clipping, update."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss()
        (loss / self.batch_size).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        self.optimizer.step()

    @torch.no_grad()
    def score(self) -> None:
        """Score one window in evaluation mode."""
        self.model.eval()
        self._loss()

    def _loss(self) -> Tensor:
        state: State | None = self.state
        logits, last = self.model(self.tokens, self.batch_sizes, state)
        self.state = tuple(values.detach() for values in last)  # type: ignore[assignment]
        return nn.functional.cross_entropy(logits, self.targets, reduction="sum")


def timed(run: Run, steps: int, device: torch.device) -> float:
    """Return the seconds a step."""
    start = time.perf_counter()
    for _ in range(steps):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps


def main() -> None:
    """Run the comparison and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="small", choices=["small", "medium", "large"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=15, help="steps of each contender in a round")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    experiment = LanguageModelExperiment.read(CONF / f"{options.config}.toml")
    harnesses = {n: Harness(m, experiment, device) for n, m in contenders(experiment, device).items()}
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.rounds + 1):
        for name, harness in harnesses.items():
            for kind, run in (("training", harness.train), ("scoring", harness.score)):
                times.setdefault((name, kind), []).append(timed(run, options.steps, device))
    card = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {options.threads} threads"
    print(f"asr_bn {__version__}, torch {torch.__version__}, {card}, {options.config} model")
    tokens = experiment.training.num_steps * experiment.training.batch_size
    for kind in ("training", "scoring"):
        peer = statistics.median(times[PEER, kind][1:])  # the first round warms up
        for name in harnesses:
            seconds = statistics.median(times[name, kind][1:])
            rate, ratio = tokens / seconds, seconds / peer
            print(f"{kind:9} {name:24} {rate:9.0f} tokens/s, {ratio:5.2f} of nn.LSTM's time")


if __name__ == "__main__":
    main()
