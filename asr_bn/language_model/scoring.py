"""Log probabilities of texts from an exported language model, by ONNX Runtime; PyTorch is not needed."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from asr_bn.language_model.metadata import METADATA_KEY, LanguageModelMetadata
from asr_bn.language_model.streams import Streams, Tokens
from asr_bn.onnx_io.session import base_options, open_session, parse_metadata
from asr_bn.system.arrays import Floats

# The metadata hold the vocabulary, of a million words at most.
MAX_METADATA_BYTES = 64 << 20


@dataclass(frozen=True)
class TextScore:
    """Log probability (natural) of a text of so many tokens, the ends of its sentences among them."""

    log_prob: float
    num_tokens: int

    @classmethod
    def of(cls, log_probs: Floats) -> "TextScore":
        """Sum the log probabilities of tokens."""
        return cls(float(log_probs.sum(dtype=np.float64)), len(log_probs))

    @property
    def perplexity(self) -> float:
        """``exp(-log_prob / num_tokens)``."""
        return math.exp(min(-self.log_prob / self.num_tokens, 700.0))


class LanguageScorer:
    """An exported language model, ready to score texts on the CPU.

    Texts go through the model in windows of the trained length, as in training and evaluation.  The first
    token of every window is time step 0, whose statistics are used.  A window starts from the states that
    the one before it ended in, or from zeros, as the model was trained.

    Args:
        session: of a ``model.onnx`` that :func:`asr_bn.language_model.onnx_export.export_graph` wrote.
        metadata: what the file says of itself.
    """

    def __init__(self, session: onnxruntime.InferenceSession, metadata: LanguageModelMetadata) -> None:
        self.session, self.metadata = session, metadata
        # Shapes [num_layers, batch, hidden_size] of h_0, and c_0 of an LSTM.
        self._states = {i.name: i.shape for i in session.get_inputs() if i.name in ("h_0", "c_0")}

    @classmethod
    def load(cls, path: Path, num_threads: int | None = None) -> "LanguageScorer":
        """Load a model file.

        Args:
            num_threads: None leaves it to ONNX Runtime.

        Raises:
            ValueError: not an ONNX model, not one of ours, or that of a single step.
            FileNotFoundError: there is no such file.
        """
        session, _ = open_session(path, base_options(num_threads), max_loose_bytes=MAX_METADATA_BYTES)
        return cls(session, _read_metadata(path, session))

    def score_text(
        self,
        text: Tokens,
        name: str,
        num_streams: int | None = None,
        on_progress: Callable[[int], object] = lambda num_tokens: None,
    ) -> Floats:
        """Score each token of a text as training does: log probabilities ``[num_tokens]``.

        Args:
            text: shape ``[num_tokens]``.
            name: of the text, for the message.
            num_streams: streams that the text is cut into (see :class:`Streams`); None takes as many as in
                training, which gives the figures of training.  One stream scores it as a single text.
            on_progress: called with the number of tokens scored since the last call.

        Raises:
            ValueError: the text has fewer tokens than there are streams.
        """
        streams = Streams.of(text, num_streams or self.metadata.num_streams, name)
        scored = []
        for log_probs in self._windows(streams.tokens, streams.targets):
            scored.append(log_probs)
            on_progress(log_probs.size)
        return streams.in_text_order(np.concatenate(scored))

    def score_sentences(
        self, sentences: Sequence[Tokens], on_progress: Callable[[int], object] = lambda num_tokens: None
    ) -> list[Floats]:
        """Score each token of each sentence, each sentence alone from zero states.

        Its first token is predicted from the end of a sentence.  Answers do not depend on the batch.

        Args:
            sentences: tokens of each, the end of the sentence last.
            on_progress: called with the number of tokens scored since the last call.
        """
        scored: list[Floats] = [np.empty(0, dtype=np.float32)] * len(sentences)
        by_length = sorted(range(len(sentences)), key=lambda k: -len(sentences[k]))
        for start in range(0, len(by_length), self.metadata.num_streams):
            together = by_length[start : start + self.metadata.num_streams]
            targets = np.zeros((len(sentences[together[0]]), len(together)), dtype=np.int64)
            for column, k in enumerate(together):
                targets[: len(sentences[k]), column] = sentences[k]
            tokens = np.concatenate([np.zeros_like(targets[:1]), targets[:-1]])
            log_probs = np.concatenate(list(self._windows(tokens, targets)))
            for column, k in enumerate(together):
                scored[k] = log_probs[: len(sentences[k]), column]
            on_progress(sum(len(scored[k]) for k in together))
        return scored

    def _windows(self, tokens: Tokens, targets: Tokens) -> Iterator[Floats]:
        """Log probabilities of the targets, both ``[num_steps, batch]``, window after window."""
        zeros = {
            name: np.zeros((layers, tokens.shape[1], size), dtype=np.float32)
            for name, (layers, _, size) in self._states.items()
        }
        states, outputs = zeros, ["log_probs", *(name.replace("_0", "_n") for name in zeros)]
        for start in range(0, len(tokens), self.metadata.num_steps):
            steps = slice(start, start + self.metadata.num_steps)
            inputs = {"tokens": tokens[steps], "first_step": np.array(0)} | states
            log_probs, *last = self.session.run(outputs, inputs)
            if self.metadata.carry_state:
                states = dict(zip(zeros, last, strict=True))
            yield np.take_along_axis(log_probs, targets[steps, :, None], axis=2)[:, :, 0]


def _read_metadata(path: Path, session: onnxruntime.InferenceSession) -> LanguageModelMetadata:
    properties, parse = session.get_modelmeta().custom_metadata_map, LanguageModelMetadata.from_json
    metadata = parse_metadata(path, properties, METADATA_KEY, parse, "language model")
    if metadata.graph != "window":
        raise ValueError(f"{path}: computes a single step a call, expected the model of a window, model.onnx")
    return metadata
