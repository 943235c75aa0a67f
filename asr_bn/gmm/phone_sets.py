"""The phones of a system, as a lang folder, a dictionary folder or a lexicon has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_bn.decoding.alignment.lexicon import Pronunciations, only_word
from asr_bn.decoding.lexicon_fst import read_entries, read_phone_ids
from asr_bn.kaldi_io.plain_text import split_words
from asr_bn.kaldi_io.script_file import read_lines

_SILENCE, _SPEECH, _EXTRA = "silence_phones.txt", "nonsilence_phones.txt", "extra_questions.txt"
FILES = (
    _SILENCE,
    _SPEECH,
    _EXTRA,
    *(f"phones/{name}.txt" for name in ("sets", "silence", "extra_questions")),
)


@dataclass(frozen=True)
class PhoneSets:
    """Phones by number.

    Attributes:
        phone_ids: of all phones, and of a lang folder's no others.
        silences: silence and noises, which have no context and five states.
        sets: phones that share a root of the decision tree, each sorted; every phone is in one.
        questions: more sets that the tree may ask for.
    """

    phone_ids: dict[str, int]
    silences: Sequence[int]
    sets: Sequence[Sequence[int]]
    questions: Sequence[frozenset[int]]

    @classmethod
    def read(cls, place: Path, silence_phone: str | None = None) -> "PhoneSets":
        """Read a lang folder (``phones/sets.txt``), a folder such as ``data/local/dict``, or a lexicon file.

        A dictionary folder's phones have the numbers of its ``phones.txt`` or, without one, those in which
        they stand in ``silence_phones.txt`` and ``nonsilence_phones.txt``; phones of one line share a root.

        Args:
            silence_phone: of a lexicon file, whose other phones are speech.

        Raises:
            OSError: a file is missing.
            ValueError: a file is malformed or empty, or names a phone twice or one without a number.
        """
        if place.is_dir() and (place / "L.fst").is_file():
            folder, names = place / "phones", ("silence.txt", "sets.txt", _EXTRA)
            silences = {phone for line in _lines(folder / names[0]) for phone in line}
            lines, phones_txt = _lines(folder / names[1]), place / "phones.txt"
        elif place.is_dir():
            folder, phones_txt, of_silence = place, place / "phones.txt", _lines(place / _SILENCE)
            silences = {phone for line in of_silence for phone in line}
            lines = of_silence + _lines(place / _SPEECH)
        else:
            folder, phones_txt = place.parent, place.parent / "-"
            silence = silence_phone or only_word(folder / "optional_silence.txt")
            if silence is None:
                raise ValueError(
                    f"{place}: no optional_silence.txt beside it; name the phone (--silence-phone)"
                )
            silences = {silence}
            spoken = {phone for (_, _, phones), _ in read_entries(place) for phone in phones}
            lines = [[phone] for phone in [*silences, *sorted(spoken - silences)]]
        extra = folder / _EXTRA
        questions = _lines(extra) if place.is_dir() and extra.is_file() else []
        return cls._numbered(place, phones_txt, lines, silences, questions)

    @classmethod
    def _numbered(
        cls, place: Path, phones_txt: Path, lines: list[list[str]], silences: set[str], extra: list[list[str]]
    ) -> "PhoneSets":
        phones = [phone for line in lines for phone in line]
        twice = {phone for phone in phones if phones.count(phone) > 1}
        if twice:
            raise ValueError(f"{place}: the phone {min(twice)!r} is listed twice")
        if not phones_txt.is_file():
            ids = {phone: number for number, phone in enumerate(phones, start=1)}
        else:
            ids = read_phone_ids(phones_txt)
        unknown = [phone for line in [*lines, *extra, silences] for phone in line if phone not in ids]
        if unknown:
            raise ValueError(f"{place}: the phone {unknown[0]!r} has no number in phones.txt")
        if not set(phones) - silences:
            raise ValueError(f"{place}: has no phones besides silence")
        return cls(
            {phone: number for phone, number in ids.items() if phone in set(phones)},
            sorted(ids[phone] for phone in silences),
            sorted(sorted(ids[phone] for phone in line) for line in lines),
            [frozenset(ids[phone] for phone in line) for line in extra],
        )

    @property
    def speech(self) -> list[int]:
        """The phones that are no silences, sorted."""
        return sorted(set(self.phone_ids.values()) - set(self.silences))

    def phones_txt(self, place: Path) -> str:
        """Return the text of ``phones.txt``: the folder's own, or a new one."""
        own = place / "phones.txt"
        if own.is_file():
            return own.read_text(encoding="utf-8")
        return "".join(f"{phone} {number}\n" for phone, number in {"<eps>": 0, **self.phone_ids}.items())

    def check(self, lexicon: Pronunciations) -> None:
        """Refuse a lexicon that does not fit.

        Raises:
            ValueError: it has another phone, or its optional silence is none of the silences.
        """
        if self.phone_ids.get(lexicon.silence_phone) not in self.silences:
            name = lexicon.silence_phone
            raise ValueError(f"{lexicon.path}: {name!r} may stand between words, but is not in {_SILENCE}")
        used = set(np.unique(lexicon.fst.arcs["ilabel"]).tolist()) - {0}
        strange = sorted(used - set(self.phone_ids.values()))
        if strange:
            name = next(phone for phone, number in lexicon.phone_ids.items() if number == strange[0])
            raise ValueError(f"{lexicon.path}: the phone {name!r} is neither in {_SILENCE} nor in {_SPEECH}")


def _lines(path: Path) -> list[list[str]]:
    lines = [split_words(line) for _, line in read_lines(path)]
    if not any(lines):
        raise ValueError(f"{path}: no phones in it")
    return [line for line in lines if line]
