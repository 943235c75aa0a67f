"""Where an aligner's words get their phones from: a lang folder, a dictionary folder or a lexicon file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from asr_bn.decoding.fst_file import ARC, FstArrays
from asr_bn.decoding.lang_dir import LangDir, read_word_ids
from asr_bn.decoding.lexicon_fst import (
    LEXICON_FILES,
    SILENCE_PROBABILITY,
    Lexicon,
    Pronunciation,
    read_entries,
    with_places,
)
from asr_bn.kaldi_io.script_file import read_lines

FILES = (*LEXICON_FILES, "oov.txt", "L.fst", "words.txt", "phones.txt", "phones/optional_silence.txt")
Arc = tuple[int, int, float, int]
"""Phone, word, cost and next state."""
# Of so many pairs of state and word the arcs are remembered.
_MOST_KNOWN = 1 << 17


@dataclass(frozen=True)
class Pronunciations:
    """A transducer from phones to words (Kaldi's ``L.fst``), searched word by word.

    Attributes:
        path: of the lexicon, for errors.
        fst: without disambiguation symbols.
        word_ids: numbers of the words.
        phone_ids: numbers of the phones, as the transition model has them.
        silence_phone: may stand between words.
        oov_word: stands for words without a pronunciation; None refuses them.
    """

    path: Path
    fst: FstArrays
    word_ids: dict[str, int]
    phone_ids: dict[str, int]
    silence_phone: str
    oov_word: str | None = None

    def __post_init__(self) -> None:
        if self.silence_phone not in self.phone_ids:
            raise ValueError(f"{self.path}: the silence phone {self.silence_phone!r} is not in phones.txt")
        if self.oov_word is not None and not self.has(self.oov_word):
            raise ValueError(f"{self.path}: has no word {self.oov_word!r} to stand for unknown ones")

    @classmethod
    def read(
        cls,
        place: Path,
        phones_txt: Path | None = None,
        silence_phone: str | None = None,
        oov_word: str | None = None,
    ) -> "Pronunciations":
        """Read a lang folder (with ``L.fst``), a folder such as ``data/local/dict``, or a lexicon file.

        Args:
            place: the folder or file.
            phones_txt: the phones' numbers in the model; None takes those of the folder.
            silence_phone: None takes that of ``optional_silence.txt``, in a lang folder in ``phones``.
            oov_word: None takes that of ``oov.txt``, where there is one.

        Raises:
            OSError: a file is missing.
            ValueError: a file is malformed, has a phone that ``phones_txt`` lacks, or has no such OOV word.
        """
        if place.is_dir() and (place / "L.fst").is_file():
            return cls._of_lang(place, phones_txt, silence_phone, oov_word)
        folder = place if place.is_dir() else place.parent
        phones_txt = phones_txt or folder / "phones.txt"
        if place.is_dir() and silence_phone is None:
            lexicon = Lexicon.read(place, phones_txt)
        else:
            name = silence_phone or only_word(folder / "optional_silence.txt")
            if name is None:
                raise ValueError(
                    f"{place}: no optional_silence.txt beside it; name the phone (--silence-phone)"
                )
            file = place / "lexicon.txt" if place.is_dir() else place
            lexicon = Lexicon.read_file(file, phones_txt, name)
        word_ids = lexicon.word_ids()
        return cls(
            lexicon.path,
            lexicon.arrays(word_ids),
            word_ids,
            lexicon.phone_ids,
            lexicon.silence_phone,
            oov_word or only_word(folder / "oov.txt"),
        )

    @classmethod
    def _of_lang(
        cls, folder: Path, phones_txt: Path | None, silence_phone: str | None, oov_word: str | None
    ) -> "Pronunciations":
        lang = LangDir.read(folder, phones_txt)
        path = folder / "phones/optional_silence.txt"
        silence_phone = silence_phone or only_word(path)
        if silence_phone is None:
            raise ValueError(f"{path}: there is none; name the phone (--silence-phone)")
        fst = FstArrays.read(folder / "L.fst")
        oov_word = oov_word or only_word(folder / "oov.txt")
        word_ids = read_word_ids(folder)
        return cls(folder / "L.fst", fst, word_ids, lang.phone_ids, silence_phone, oov_word)

    def with_entries(self, path: Path) -> "Pronunciations":
        """Add the pronunciations of a file, ``word phones`` a line (``lexiconp.txt``: with probabilities).

        They begin where most words begin, and silence after them is as likely as none.

        Raises:
            OSError: no such file.
            ValueError: a malformed line, or a phone that the lexicon's ``phones.txt`` lacks.
        """
        entries = with_places([entry for entry, _ in read_entries(path)], self.phone_ids)
        for word, _, phones in entries:
            for phone in phones:
                if phone not in self.phone_ids:
                    raise ValueError(f"{path}: phone {phone!r} of {word!r} is not in phones.txt")
        first = max(self.word_ids.values()) + 1
        new = dict.fromkeys(word for word, _, _ in entries if word not in self.word_ids)
        word_ids = self.word_ids | {word: first + k for k, word in enumerate(new)}
        return replace(self, fst=self._extended(entries, word_ids), word_ids=word_ids)

    def _extended(self, entries: Sequence[Pronunciation], word_ids: dict[str, int]) -> FstArrays:
        sources, arcs = self._sources(), self.fst.arcs
        num_words = np.bincount(sources[arcs["olabel"] > 0], minlength=len(self.fst.finals))
        hubs = np.flatnonzero(num_words == num_words.max()).tolist()
        silence, half = self.phone_ids[self.silence_phone], -math.log(SILENCE_PROBABILITY)
        num_states, new_sources, new_arcs = len(self.fst.finals), list[int](), list[Arc]()
        for word, probability, phones in entries:
            symbols = [self.phone_ids[phone] for phone in phones]
            path = [num_states + k for k in range(len(symbols))]
            num_states += len(symbols)
            cost = -math.log(probability)
            new_sources += [*hubs, *path[:-1], path[-1], path[-1]]
            new_arcs += [(symbols[0], word_ids[word], cost, path[0]) for _ in hubs]
            new_arcs += [(phone, 0, 0.0, state) for phone, state in zip(symbols[1:], path[1:], strict=True)]
            new_arcs += [(0, 0, half, hubs[0]), (silence, 0, half, hubs[-1])]
        finals = np.full(num_states, np.inf, dtype=np.float32)
        finals[: len(self.fst.finals)] = self.fst.finals
        return FstArrays.from_arcs(
            self.fst.start,
            finals,
            np.concatenate([sources, np.array(new_sources, dtype=np.int64)]),
            np.concatenate([arcs, np.array(new_arcs, dtype=ARC)]),
        )

    def has(self, word: str) -> bool:
        """Return whether ``word`` has a pronunciation."""
        return self.word_ids.get(word, 0) in self._spoken

    def numbers(self, words: Sequence[str]) -> list[int]:
        """Return the words' numbers; one without a pronunciation has that of the OOV word.

        Raises:
            ValueError: there is no OOV word.
        """
        unknown = [word for word in words if not self.has(word)]
        if unknown and self.oov_word is None:
            raise ValueError(
                f"{unknown[0]!r} has no pronunciation in {self.path}; add one (--dict), or name a word that "
                "stands for unknown ones (--oov)"
            )
        return [self.word_ids[word if self.has(word) else self.oov_word or word] for word in words]

    def arcs(self, state: int, word: int) -> list[Arc]:
        """List the arcs of ``state`` whose output is ``word`` (0: none)."""
        if (state, word) not in self._known_arcs:
            if len(self._known_arcs) > _MOST_KNOWN:
                self._known_arcs.clear()
            keys, arcs = self._sorted_arcs
            first, end = np.searchsorted(keys, [_key(state, word), _key(state, word + 1)])
            self._known_arcs[state, word] = arcs[first:end].tolist()
        return self._known_arcs[state, word]

    @cached_property
    def _known_arcs(self) -> dict[tuple[int, int], list[Arc]]:
        return {}

    @cached_property
    def _spoken(self) -> set[int]:
        return set(np.unique(self.fst.arcs["olabel"]).tolist()) - {0}

    @cached_property
    def _sorted_arcs(self) -> tuple[NDArray[np.int64], NDArray[np.void]]:
        keys = _key(self._sources(), self.fst.arcs["olabel"].astype(np.int64))
        order = np.argsort(keys, kind="stable")
        return keys[order], self.fst.arcs[order]

    def _sources(self) -> NDArray[np.int64]:
        return np.repeat(np.arange(len(self.fst.finals)), np.diff(self.fst.first_arcs))


_Whole = TypeVar("_Whole", int, NDArray[np.int64])


def _key(state: _Whole, word: _Whole) -> _Whole:
    return (state << 32) + word


def only_word(path: Path) -> str | None:
    """Read a file such as ``oov.txt``; None where there is none."""
    if not path.is_file():
        return None
    return " ".join(line for _, line in read_lines(path)) or None
