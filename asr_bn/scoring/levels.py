"""Scores of phones: sums over the pdfs of each, of which shared ones are divided as in training."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from asr_bn.data.phones import PhoneTable
from asr_bn.scoring.metadata import ModelMetadata
from asr_bn.system.arrays import Floats

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Level = Literal["pdf", "phone", "phone-class"]
# Frames that are summed at a time, in float64.
_BLOCK_FRAMES = 256
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class ScoreColumns:
    """What the columns of scores are at a level.

    ``"pdf"`` is the network's own output.  ``"phone"`` has a column for each phone of the transition model
    (``AH_B``); ``"phone-class"`` one for the phones of all word positions together (``AH``), see
    :meth:`asr_bn.data.phones.PhoneTable.folded`.

    Attributes:
        names: of the columns; of pdfs the phone with the largest share of each, None where they are unknown.
        log_priors: of the columns, from the training alignments.
    """

    names: tuple[str, ...] | None
    log_priors: Floats
    _shares: "csr_matrix | None" = None  # [num_columns, num_pdfs]

    @classmethod
    def of(cls, metadata: ModelMetadata, level: Level) -> "ScoreColumns":
        """Return the columns of a model's scores.

        Raises:
            ValueError: the model does not know its phones, which ``level`` needs.
        """
        if level == "pdf":
            return cls(_names_of_pdfs(metadata), metadata.log_priors)
        table = metadata.phones if level == "phone" else metadata.phones.folded()
        columns = cls(table.names, metadata.log_priors, _matrix(table))
        return cls(table.names, columns.log_posteriors(metadata.log_priors[None])[0], columns._shares)

    def log_posteriors(self, scores: Floats) -> Floats:
        """Sum log posteriors of pdfs ``[num_frames, num_pdfs]`` to ``[num_frames, num_columns]``.

        A frame's posteriors sum to 1 within float32's rounding.  Log priors may be summed in the same way.
        """
        if self._shares is None:
            return scores
        sums = np.empty((len(scores), self._shares.shape[0]), dtype=np.float32)
        for start in range(0, len(scores), _BLOCK_FRAMES):
            posteriors = np.exp(scores[start : start + _BLOCK_FRAMES], dtype=np.float64)
            phones = (self._shares @ posteriors.T).T
            # Rounding aside, what is missing to 1 belongs to pdfs that no phone has.
            phones /= np.maximum(phones.sum(axis=1, keepdims=True), _TINY)
            sums[start : start + _BLOCK_FRAMES] = np.log(np.maximum(phones, _TINY))
        return sums


def _names_of_pdfs(metadata: ModelMetadata) -> tuple[str, ...] | None:
    if metadata.system is None:
        return None
    table = metadata.phones
    return tuple(table.names[phone] if phone >= 0 else "" for phone in table.main_phones().tolist())


def _matrix(table: PhoneTable) -> "csr_matrix":
    from scipy.sparse import csr_matrix

    return csr_matrix((table.shares, (table.phones, table.pdf_ids)), (len(table.names), table.num_pdfs))
