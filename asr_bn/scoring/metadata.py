"""Metadata of an exported model: enough to compute its features and scale its posteriors."""

import dataclasses
import json
from dataclasses import dataclass

import numpy as np

from asr_bn.features.options import FbankOptions
from asr_bn.system.arrays import Floats

# The key of the ONNX metadata_props entry.
METADATA_KEY = "asr_bn"
# Far above those of any model; what is computed from a model's metadata stays small.
_MAX_PDFS, _MAX_DELTA_ORDER, _MAX_COLUMNS = 1_000_000, 8, 1 << 16


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
    config: dict[str, dict[str, object]]
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
    def log_priors(self) -> Floats:
        """Log prior of each pdf, shape ``[num_pdfs]``; see :func:`asr_bn.data.alignments.log_priors`."""
        from asr_bn.data.alignments import log_priors

        return log_priors(np.array(self.pdf_counts, dtype=np.int64))

    def to_json(self) -> str:
        """Encode as one line of JSON."""
        return json.dumps(dataclasses.asdict(self) | {"log_priors": self.log_priors.tolist()})

    @classmethod
    def from_json(cls, text: str) -> "ModelMetadata":
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: a field is missing, or of another type or size than in any model.
        """
        try:
            values = json.loads(text)
            values.pop("log_priors", None)
            metadata = cls(**values | {"fbank": FbankOptions(**values["fbank"])})
        except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"the model's metadata do not fit this version of asr_bn: {error}") from error
        metadata._check()
        return metadata

    def _check(self) -> None:
        counts = self.pdf_counts
        if type(self.num_pdfs) is not int or not 1 <= self.num_pdfs <= _MAX_PDFS:
            raise ValueError(f"the model's metadata: num_pdfs {self.num_pdfs!r}, expected 1 to {_MAX_PDFS}")
        if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
            raise ValueError("the model's metadata: pdf_counts, expected a list of counts")
        if len(counts) != self.num_pdfs:
            raise ValueError(f"the model's metadata: {len(counts)} pdf_counts, {self.num_pdfs} pdfs")
        if self.delta_order not in range(_MAX_DELTA_ORDER + 1):
            raise ValueError(f"the model's metadata: delta_order {self.delta_order!r}")
        if max(self.num_static, self.fbank.padded_window_size) > _MAX_COLUMNS:
            raise ValueError(f"the model's metadata: features of more than {_MAX_COLUMNS} columns or samples")
