"""The lexicon as a transducer from phones to words (L), with disambiguation symbols.

Source: Kaldi ``utils/lang/make_lexicon_fst.py`` (``--sil-disambig``) and ``utils/add_lex_disambig.pl``.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr_bn.kaldi_io.phone_table import read_phone_names
from asr_bn.kaldi_io.plain_text import parse_float, split_words
from asr_bn.kaldi_io.script_file import read_lines

Pronunciation = tuple[str, float, tuple[str, ...]]
_BACKOFF_DISAMBIG = "#0"


@dataclass(frozen=True)
class Lexicon:
    """Pronunciations, the phones' numbers, and the silence that may stand between words.

    Attributes:
        entries: word, probability, phones.
        phone_ids: as in the transition model's ``phones.txt``, without disambiguation symbols.
        silence_phone: optional before, between and after words.
        silence_probability: of it, at each place.
    """

    entries: Sequence[Pronunciation]
    phone_ids: dict[str, int]
    silence_phone: str
    silence_probability: float = 0.5

    @classmethod
    def read(cls, folder: Path, phones_txt: Path | None = None) -> "Lexicon":
        """Read ``lexiconp.txt`` (or ``lexicon.txt``), ``optional_silence.txt`` and the phones' numbers.

        A lexicon of plain phones gets the places in the word (``_B``, ``_I``, ``_E``, ``_S``) where the
        numbered phones have them, as ``utils/prepare_lang.sh`` does.

        Args:
            folder: such as Kaldi's ``data/local/dict``.
            phones_txt: the phones' numbers; None takes the folder's ``phones.txt``.

        Raises:
            OSError: one is missing.
            ValueError: a malformed line, or a phone that ``phones.txt`` lacks.
        """
        phones_txt = phones_txt or folder / "phones.txt"
        with_probabilities = (folder / "lexiconp.txt").exists()
        path = folder / ("lexiconp.txt" if with_probabilities else "lexicon.txt")
        entries = [_parse(line, with_probabilities, f"{path}, line {n}") for n, line in read_lines(path)]
        if not entries:
            raise ValueError(f"{path}: no pronunciations in it")
        names = read_phone_names(phones_txt)
        phone_ids = {phone: number for number, phone in names.items() if number and not phone.startswith("#")}
        silence = " ".join(line for _, line in read_lines(folder / "optional_silence.txt"))
        marked = [(word, probability, _with_places(phones)) for word, probability, phones in entries]
        entries = max((entries, marked), key=lambda form: _count_known(phone_ids, form))
        for word, _, phones in [("optional_silence.txt", 1.0, (silence,)), *entries]:
            unknown = [phone for phone in phones if phone not in phone_ids]
            if unknown:
                raise ValueError(f"{path}: phone {unknown[0]!r} of {word!r} is not in {phones_txt}")
        return cls(entries, phone_ids, silence)

    def words(self) -> list[str]:
        """Every word, sorted as ``sort`` does with ``LC_ALL=C``."""
        return sorted({word for word, _, _ in self.entries}, key=str.encode)

    def disambiguated(self) -> tuple[list[Pronunciation], int]:
        """Entries, ``#1``, ``#2``, ... after those that are another word's or begin one; the highest."""
        counts = Counter(phones for _, _, phones in self.entries)
        prefixes = {phones[:length] for phones in counts for length in range(1, len(phones))}
        used: Counter[tuple[str, ...]] = Counter()
        entries, highest = [], 0
        for word, probability, phones in self.entries:
            if counts[phones] > 1 or phones in prefixes:
                used[phones] += 1
                highest = max(highest, used[phones])
                phones = (*phones, f"#{used[phones]}")
            entries.append((word, probability, phones))
        return entries, highest

    def fst(self, word_ids: dict[str, int]) -> tuple[Any, list[int]]:
        """The transducer, and its disambiguation symbols: ``#0``, ``#1``, ..., silence's."""
        import kaldifst

        entries, highest = self.disambiguated()
        first = max(self.phone_ids.values()) + 1
        disambig = {f"#{k}": first + k for k in range(highest + 2)}
        labels = self.phone_ids | disambig
        fst = kaldifst.StdVectorFst()
        start, loop, silence, after_silence = (fst.add_state() for _ in range(4))
        fst.start = start
        fst.set_final(loop, 0.0)
        quiet, spoken = -math.log(self.silence_probability), -math.log(1 - self.silence_probability)

        def add(source: int, phone: str | None, word: int, cost: float, target: int) -> None:
            label = 0 if phone is None else labels[phone]
            fst.add_arc(source, kaldifst.StdArc(label, word, cost, target))

        add(start, None, 0, spoken, loop)
        add(start, None, 0, quiet, silence)
        add(silence, self.silence_phone, 0, 0.0, after_silence)
        add(after_silence, f"#{highest + 1}", 0, 0.0, loop)
        for word, probability, phones in entries:
            state, output, cost = loop, word_ids[word], -math.log(probability)
            for phone in phones[:-1]:
                target = fst.add_state()
                add(state, phone, output, cost, target)
                state, output, cost = target, 0, 0.0
            add(state, phones[-1], output, cost + spoken, loop)
            add(state, phones[-1], output, cost + quiet, silence)
        kaldifst.add_self_loops(fst, [disambig["#0"]], [word_ids[_BACKOFF_DISAMBIG]])
        kaldifst.arcsort(fst, sort_type="olabel")
        return fst, list(disambig.values())


def _count_known(phone_ids: dict[str, int], entries: Sequence[Pronunciation]) -> int:
    return sum(phone in phone_ids for _, _, phones in entries for phone in phones)


def _with_places(phones: tuple[str, ...]) -> tuple[str, ...]:
    places = "S" if len(phones) == 1 else "B" + "I" * (len(phones) - 2) + "E"
    return tuple(f"{phone}_{place}" for phone, place in zip(phones, places, strict=True))


def _parse(line: str, with_probabilities: bool, where: str) -> Pronunciation:
    word, *rest = split_words(line)
    try:
        probability = parse_float(rest.pop(0)) if with_probabilities else 1.0
    except (ValueError, IndexError) as error:
        raise ValueError(f"{where}: expected 'word probability phones', found {line[:60]!r}") from error
    if not rest or not 0 < probability <= 1:
        raise ValueError(f"{where}: {word!r} has no phones, or a probability outside 0 to 1")
    return word, probability, tuple(rest)
