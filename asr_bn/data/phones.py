"""What the pdfs of a model mean: the phones that each belongs to, and its frames of each phone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr_bn.kaldi_io.transition_model import TransitionModel
from asr_bn.system.arrays import Doubles, IntVector

# Added to the frames of every phone of a pdf, as Kaldi's analyze-counts adds it for the priors.
_SMOOTHING = 0.5
_POSITIONS = ("_B", "_E", "_I", "_S")


@dataclass(frozen=True)
class PhoneTable:
    """The phones that share each pdf, and their shares of it.

    Attributes:
        num_pdfs: of the model.
        names: of the phones; a phone's place here is its column in phone posteriors.
        phones: int32 ``[num_pairs]``, places in ``names``, ascending; with ``pdf_ids`` each pair of a phone
            and one of its pdfs once.
        pdf_ids: int32, the same shape, ascending within a phone.
        shares: float64, the same shape: what part of the pdf is the phone's.  Those of a pdf sum to 1.
    """

    num_pdfs: int
    names: tuple[str, ...]
    phones: IntVector
    pdf_ids: IntVector
    shares: Doubles

    @classmethod
    def of(
        cls, model: TransitionModel, tid_counts: Sequence[int], phone_names: Mapping[int, str]
    ) -> "PhoneTable":
        """Make the table of a transition model, with all its phones in the order of their numbers.

        A phone's share of a pdf is that of its frames in ``tid_counts``, half a frame added to each phone:
        a pdf that never occurs is divided equally, and no phone is impossible.

        Args:
            tid_counts: frames of each transition-id, ``[num_transition_ids + 1]``.
            phone_names: by number; a phone without one is called by its number.

        Raises:
            ValueError: another number of counts.
        """
        if len(tid_counts) != model.num_transition_ids + 1:
            raise ValueError(
                f"{len(tid_counts) - 1} counts of transition-ids, the transition model has "
                f"{model.num_transition_ids}"
            )
        numbers, phones = np.unique(model.tid_to_phone[1:], return_inverse=True)
        frames = np.asarray(tid_counts[1:], dtype=np.float64)
        keys, frames = _sum_pairs(phones, model.tid_to_pdf[1:], frames, model.num_pdfs)
        pdf_ids, frames = keys % model.num_pdfs, frames + _SMOOTHING
        shares = frames / np.bincount(pdf_ids, frames, model.num_pdfs)[pdf_ids]
        names = tuple(phone_names.get(int(number), str(number)) for number in numbers)
        return cls._of_keys(model.num_pdfs, names, keys, shares)

    @classmethod
    def _of_keys(
        cls, num_pdfs: int, names: tuple[str, ...], keys: NDArray[np.int64], shares: Doubles
    ) -> "PhoneTable":
        phones, pdf_ids = np.divmod(keys, num_pdfs)
        return cls(num_pdfs, names, phones.astype(np.int32), pdf_ids.astype(np.int32), shares)

    def folded(self) -> "PhoneTable":
        """Return the table of phone classes, in which the phones of all word positions are one.

        ``AH_B``, ``AH_E``, ``AH_I`` and ``AH_S`` (and ``AH``, as ``SIL``) become ``AH``, their shares are
        added.  A name is only shortened if all four positions of it are there, as Kaldi's
        ``prepare_lang.sh`` makes them: a lexicon may have phones of its own that end in ``_B``.
        """
        present = set(self.names)
        classes = [_without_position(name, present) for name in self.names]
        names = tuple(dict.fromkeys(classes))
        place_of = {name: place for place, name in enumerate(names)}
        places = np.array([place_of[name] for name in classes])
        keys, shares = _sum_pairs(places[self.phones], self.pdf_ids, self.shares, self.num_pdfs)
        return self._of_keys(self.num_pdfs, names, keys, shares)

    def main_phones(self) -> IntVector:
        """Return the phone with the largest share of each pdf, ``[num_pdfs]``, as places in ``names``.

        Of equal ones it is the first; a pdf that no phone has gets -1.
        """
        main = np.full(self.num_pdfs, -1, dtype=np.int32)
        ascending = np.lexsort((-self.phones, self.shares))
        main[self.pdf_ids[ascending]] = self.phones[ascending]  # the last one of a pdf stays
        return main


def _sum_pairs(
    phones: NDArray[np.integer], pdf_ids: NDArray[np.integer], weights: Doubles, num_pdfs: int
) -> tuple[NDArray[np.int64], Doubles]:
    """Return each pair once, as ``phone * num_pdfs + pdf_id`` in ascending order, and its summed weights."""
    keys, places = np.unique(phones.astype(np.int64) * num_pdfs + pdf_ids, return_inverse=True)
    summed = np.bincount(places, weights).astype(np.float64, copy=False)  # typed as integers
    return keys, summed


def _without_position(name: str, present: set[str]) -> str:
    stem = name[:-2]
    return (
        stem if stem and name.endswith(_POSITIONS) and all(stem + p in present for p in _POSITIONS) else name
    )
