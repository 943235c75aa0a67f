"""Posteriors of phones from those of pdfs, whatever a phone's place in its word."""

from dataclasses import dataclass

import numpy as np

from asr_bn.data.kaldi_system import KaldiSystem
from asr_bn.system.arrays import Floats


@dataclass(frozen=True)
class PhoneClasses:
    """Phones without their places in the word: ``AH_B`` and ``AH_I`` are the class ``AH``.

    Attributes:
        names: of the classes.
        of_phone: class of each phone number that the model has.
        shares: float32 ``[num_pdfs, num_classes]``: which share of a pdf's posterior a class gets.
    """

    names: tuple[str, ...]
    of_phone: dict[int, int]
    shares: Floats

    @classmethod
    def of(cls, system: KaldiSystem) -> "PhoneClasses":
        """Find the classes of a system's phones; pdfs are shared as its training alignments have them."""
        table = system.phones
        classes = table.folded()
        shares = np.zeros((table.num_pdfs, len(classes.names)), dtype=np.float32)
        shares[classes.pdf_ids, classes.phones] = classes.shares
        numbers = np.unique(system.transition_model().tid_to_phone[1:]).tolist()
        places = {name: place for place, name in enumerate(classes.names)}
        of_phone = {
            number: places[name if name in places else name[:-2]]
            for number, name in zip(numbers, table.names, strict=True)
        }
        return cls(classes.names, of_phone, shares)

    def posteriors(self, log_posteriors: Floats) -> Floats:
        """Sum pdfs' posteriors to those of classes, ``[num_frames, num_classes]``."""
        sums: Floats = np.exp(log_posteriors) @ self.shares
        return sums
