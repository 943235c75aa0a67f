"""What an exported model says of itself: enough to compute its features and scale its posteriors."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr_bn.features.fbank_options import FbankOptions

# The key of the ONNX metadata_props entry.
METADATA_KEY = "asr_bn"


@dataclass(frozen=True)
class ModelMetadata:
    """Stored as JSON in the ONNX file.

    Attributes:
        fbank: options of the static features.
        delta_order: 2, deltas and delta-deltas follow the static features.
        num_pdfs: columns of the output.
        pdf_counts: frames of each pdf in the training alignments, ``[num_pdfs]``.
        config: the experiment's configuration.
        figures: FCE and FER of the final evaluation.
        versions: of the programs that made the model.
        checkpoint_sha256: of the checkpoint that was exported.
    """

    fbank: FbankOptions
    delta_order: int
    num_pdfs: int
    pdf_counts: list[int]
    config: dict[str, Any]
    figures: dict[str, float]
    versions: dict[str, str]
    checkpoint_sha256: str

    @property
    def num_static(self) -> int:
        """Columns of the static features."""
        return self.fbank.num_features

    @property
    def num_features(self) -> int:
        """Columns of the model's input."""
        return self.num_static * (self.delta_order + 1)

    @property
    def log_priors(self) -> NDArray[np.float32]:
        """Log prior of each pdf, shape ``[num_pdfs]``; see :func:`asr_bn.alignments.log_priors`."""
        from asr_bn.alignments import log_priors

        return log_priors(np.array(self.pdf_counts, dtype=np.int64))

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self) | {"log_priors": self.log_priors.tolist()})

    @classmethod
    def from_json(cls, text: str) -> "ModelMetadata":
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: a field is missing.
        """
        values = json.loads(text)
        values.pop("log_priors", None)
        try:
            return cls(**values | {"fbank": FbankOptions(**values["fbank"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"the model's metadata do not fit this version of asr_bn: {error}") from error
