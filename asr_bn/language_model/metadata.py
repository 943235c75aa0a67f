"""Metadata of an exported language model: enough to score a text with the file alone."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

from asr_bn.language_model.text import Unit
from asr_bn.language_model.vocabulary import EOS, Vocabulary

# The key of the ONNX metadata_props entry.
METADATA_KEY = "asr_bn_language_model"

GraphKind = Literal["window", "step"]
_RULE = (
    f"{EOS}, number 0, follows every sentence, is predicted and scored like any other token, and is what the "
    "first token of a text is predicted from"
)


@dataclass(frozen=True)
class LanguageModelMetadata:
    """Stored as JSON in the ONNX file.

    Attributes:
        graph: ``"window"`` for many time steps a call, ``"step"`` for one.
        words: the vocabulary by number, the end of sentence first.
        config: the experiment's configuration, sections ``model`` and ``training``.
        figures: cross entropies and perplexities of the final evaluation.
        versions: of the programs that made the model.
        checkpoint_sha256: of the checkpoint that was exported.
    """

    graph: GraphKind
    words: tuple[str, ...]
    config: dict[str, Any]
    figures: dict[str, float]
    versions: dict[str, str]
    checkpoint_sha256: str

    @property
    def vocabulary(self) -> Vocabulary:
        """The words by number and back."""
        return Vocabulary(self.words)

    @property
    def unit(self) -> Unit:
        """What a token is."""
        unit: Unit = self.config["training"]["unit"]
        return unit

    @property
    def num_steps(self) -> int:
        """Time steps of a window in training."""
        return int(self.config["training"]["num_steps"])

    @property
    def num_streams(self) -> int:
        """Streams that a text was cut into in training and evaluation."""
        return int(self.config["training"]["batch_size"])

    @property
    def carry_state(self) -> bool:
        """Whether a window starts from the states that the one before it ended in, or from zero."""
        return bool(self.config["training"]["carry_state"])

    def to_json(self) -> str:
        """Encode as one line of JSON; for other readers with derived fields and the end-of-sentence rule."""
        derived = {name: getattr(self, name) for name in _DERIVED}
        return json.dumps(dataclasses.asdict(self) | derived | {"end_of_sentence": EOS, "rule": _RULE})

    @classmethod
    def from_json(cls, text: str) -> "LanguageModelMetadata":
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: a field is missing, or of another type or size than in any model.
        """
        try:
            values = json.loads(text)
            for name in (*_DERIVED, "end_of_sentence", "rule"):
                values.pop(name, None)
            metadata = cls(**values | {"words": tuple(values["words"])})
            for name in _DERIVED:
                getattr(metadata, name)
        except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"the model's metadata do not fit this version of asr_bn: {error}") from error
        if not all(isinstance(word, str) for word in metadata.words):
            raise ValueError("the model's metadata: words, expected a list of texts")
        for name in ("num_steps", "num_streams"):
            if getattr(metadata, name) < 1:
                raise ValueError(
                    f"the model's metadata: {name} {getattr(metadata, name)}, expected at least 1"
                )
        return metadata


_DERIVED = ("unit", "num_steps", "num_streams", "carry_state")
