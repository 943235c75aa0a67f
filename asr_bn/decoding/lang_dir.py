"""A ``lang`` folder of Kaldi's ``prepare_lang.sh``: its lexicon and, of ``lang_test*``, its word graph."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_bn.decoding.arpa import BACKOFF, RESERVED, describe_left_out
from asr_bn.decoding.fst_file import Fst, FstArrays, kaldifst
from asr_bn.decoding.graph import to_kaldifst
from asr_bn.decoding.lattices.align_lexicon import ALIGN_LEXICON, AlignLexicon
from asr_bn.decoding.lexicon_fst import read_phone_ids
from asr_bn.kaldi_io.phone_table import read_phone_names
from asr_bn.kaldi_io.plain_text import parse_ints
from asr_bn.kaldi_io.utterance_id import prefix_errors
from asr_bn.system.arrays import IntVector

LANG_FILES = ("L_disambig.fst", "G.fst", "words.txt", "phones.txt", "phones/disambig.int")


@dataclass(frozen=True)
class LangDir:
    """A ``lang`` folder, as `Lexicon` a source of words and their pronunciations.

    Attributes:
        path: ``L_disambig.fst``.
        phone_ids: without disambiguation symbols.
    """

    path: Path
    phone_ids: dict[str, int]

    @classmethod
    def read(cls, folder: Path, phones_txt: Path | None = None) -> "LangDir":
        """Read ``folder/phones.txt``.

        Args:
            phones_txt: of the model; None takes the folder's.

        Raises:
            OSError: it is missing.
            ValueError: it is malformed, or a phone has another number than in ``phones_txt``.
        """
        phone_ids = read_phone_ids(folder / "phones.txt")
        theirs = phone_ids if phones_txt is None else read_phone_ids(phones_txt)
        for phone in phone_ids.keys() | theirs.keys():
            if phone_ids.get(phone) != theirs.get(phone):
                raise ValueError(
                    f"{folder}/phones.txt: {phone} is {phone_ids.get(phone)}, but {theirs.get(phone)} in"
                    f" {phones_txt}: the lang folder of another system"
                )
        return cls(folder / "L_disambig.fst", phone_ids)

    @staticmethod
    def is_one(folder: Path) -> bool:
        """Return whether ``folder`` is a lang folder, and not one of a dictionary."""
        return (folder / "L_disambig.fst").is_file()

    def word_ids(self) -> dict[str, int]:
        """Read the numbers of words and of Kaldi's own symbols; see `read_word_ids`."""
        return read_word_ids(self.path.parent)

    def align_lexicon(self, word_ids: dict[str, int]) -> AlignLexicon | None:
        """Read ``phones/align_lexicon.int``, which numbers words as ``word_ids`` does; None without it."""
        path = self.path.parent / ALIGN_LEXICON
        return AlignLexicon.read(path) if path.is_file() else None

    def fst(self, word_ids: dict[str, int]) -> tuple[Fst, list[int]]:
        """Read ``L_disambig.fst`` and its disambiguation symbols, the first of which is ``#0``.

        Raises:
            OSError: it is missing.
            ValueError: it is damaged, or has a word that is not in ``word_ids``; ``phones/disambig.int`` has
                other numbers than ``phones.txt``.
        """
        arrays = FstArrays.read(self.path)
        _check_labels(self.path, arrays.arcs["olabel"], word_ids)
        fst = to_kaldifst(arrays)
        kaldifst.arcsort(fst, sort_type="olabel")
        return fst, self._disambig()

    def _disambig(self) -> list[int]:
        path, phones_txt = self.path.with_name("phones") / "disambig.int", self.path.with_name("phones.txt")
        names = read_phone_names(phones_txt)
        expected = [number for number, name in names.items() if name.startswith("#")]
        if not path.is_file():
            return expected
        with prefix_errors(str(path)):
            found = parse_ints(path.read_bytes())
        if not set(found) <= set(expected) or _zero(names) not in found:
            raise ValueError(f"{path}: not the numbers of {BACKOFF}, #1, ... in {phones_txt}")
        return found


def read_word_ids(folder: Path) -> dict[str, int]:
    """Read ``words.txt`` of a lang folder.

    Raises:
        OSError: no such file.
        ValueError: it is malformed, or lacks ``<eps>`` as 0 or ``#0``.
    """
    word_ids = {name: number for number, name in read_phone_names(folder / "words.txt").items()}
    if word_ids.get("<eps>") != 0 or BACKOFF not in word_ids:
        raise ValueError(f"{folder}/words.txt: has no <eps> with the number 0, or no {BACKOFF}")
    return word_ids


def read_word_fst(
    folder: Path, word_ids: dict[str, int], spoken: Iterable[str], say: Callable[[str], None]
) -> Fst:
    """Read ``G.fst`` of a lang folder.

    Args:
        word_ids: of its ``words.txt``.
        spoken: the words of the lexicon; arcs of others are left out, and reported.

    Raises:
        OSError: it is missing.
        ValueError: it is damaged, has a word that is not in ``word_ids``, or none of its words is spoken.
    """
    path = folder / "G.fst"
    arrays = FstArrays.read(path)
    _check_labels(path, arrays.arcs["ilabel"], word_ids)
    possible = {word_ids[word] for word in spoken} | {word_ids.get(word, 0) for word in RESERVED}
    is_left_out = ~np.isin(arrays.arcs["ilabel"], list(possible))
    if is_left_out.any():
        lost = set(np.unique(arrays.arcs["ilabel"][is_left_out]).tolist())
        words = [word for word, number in word_ids.items() if number in lost]
        if is_left_out.sum() == np.isin(arrays.arcs["ilabel"], [0, word_ids[BACKOFF]], invert=True).sum():
            raise ValueError(f"{path}: none of its {len(words)} words is in the lexicon")
        say(describe_left_out(path, "arcs", int(is_left_out.sum()), words))
    fst = to_kaldifst(arrays)
    kaldifst.arcsort(fst, sort_type="ilabel")
    return fst


def _zero(names: dict[int, str]) -> int | None:
    return next((number for number, name in names.items() if name == BACKOFF), None)


def _check_labels(path: Path, labels: IntVector, word_ids: dict[str, int]) -> None:
    unknown = set(np.unique(labels).tolist()) - set(word_ids.values())
    if unknown:
        raise ValueError(f"{path}: has the word {min(unknown)}, which words.txt beside it lacks")
