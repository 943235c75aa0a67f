"""The lexicon as a transducer from phones to words (L), with disambiguation symbols.

Source: Kaldi ``utils/lang/make_lexicon_fst.py``, ``make_lexicon_fst_silprob.py`` (``--sil-disambig``) and
``utils/add_lex_disambig.pl``.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_bn.decoding.arpa import BACKOFF, BEGIN, END, RESERVED
from asr_bn.decoding.fst_file import ARC, Fst, FstArrays, kaldifst
from asr_bn.decoding.graph import to_kaldifst
from asr_bn.decoding.lattices.align_lexicon import AlignLexicon
from asr_bn.decoding.silence import SilenceProbabilities, WordSilence
from asr_bn.kaldi_io.phone_table import read_phone_names
from asr_bn.kaldi_io.plain_text import parse_float, split_words
from asr_bn.kaldi_io.script_file import read_lines

Pronunciation = tuple[str, float, tuple[str, ...]]
LEXICON_FILES = ("lexiconp_silprob.txt", "silprob.txt", "lexiconp.txt", "lexicon.txt", "optional_silence.txt")
SILENCE_PROBABILITY = 0.5
# How many numbers stand between a word and its phones.
_NUMBERS = {"lexiconp_silprob.txt": 4, "lexiconp.txt": 1, "lexicon.txt": 0}


@dataclass(frozen=True)
class Lexicon:
    """Pronunciations, the phones' numbers, and the silence that may stand between words.

    Attributes:
        path: its file, for errors.
        entries: word, probability, phones.
        phone_ids: as in the transition model's ``phones.txt``, without disambiguation symbols.
        silence_phone: optional before, between and after words.
        silences: how likely it is after each word; None is ``SILENCE_PROBABILITY`` everywhere.
    """

    path: Path
    entries: Sequence[Pronunciation]
    phone_ids: dict[str, int]
    silence_phone: str
    silences: SilenceProbabilities | None = None

    @classmethod
    def read(cls, folder: Path, phones_txt: Path | None = None) -> "Lexicon":
        """Read the lexicon, ``optional_silence.txt`` and the phones' numbers.

        ``lexiconp_silprob.txt`` (with ``silprob.txt``) goes before ``lexiconp.txt``, and that before
        ``lexicon.txt``.  A lexicon of plain phones gets the places in the word (``_B``, ``_I``, ``_E``,
        ``_S``) where the numbered phones have them.  All as ``utils/prepare_lang.sh`` does.

        Args:
            folder: such as Kaldi's ``data/local/dict``.
            phones_txt: the phones' numbers; None takes the folder's ``phones.txt``.

        Raises:
            OSError: one is missing.
            ValueError: no words, a malformed line, a word that Kaldi keeps for itself, or a phone that
                ``phones.txt`` lacks.
        """
        name = next((name for name in _NUMBERS if (folder / name).exists()), "lexicon.txt")
        silence = " ".join(line for _, line in read_lines(folder / "optional_silence.txt"))
        return cls.read_file(folder / name, phones_txt or folder / "phones.txt", silence)

    @classmethod
    def read_file(cls, path: Path, phones_txt: Path, silence: str) -> "Lexicon":
        """Read one file, whose form its name tells; `read` says the rest.

        Args:
            silence: the phone that may stand between words.
        """
        lines = read_entries(path)
        if not lines:
            raise ValueError(f"{path}: no pronunciations in it")
        by_word = [silence for _, silence in lines if silence is not None]
        silences = SilenceProbabilities.read(path.with_name("silprob.txt"), by_word) if by_word else None
        phone_ids = read_phone_ids(phones_txt)
        entries = with_places([entry for entry, _ in lines], phone_ids)
        for word, _, phones in [("optional_silence.txt", 1.0, (silence,)), *entries]:
            unknown = [phone for phone in phones if phone not in phone_ids]
            if unknown:
                raise ValueError(f"{path}: phone {unknown[0]!r} of {word!r} is not in {phones_txt}")
        return cls(path, entries, phone_ids, silence, silences)

    def words(self) -> list[str]:
        """Sort the words as ``sort`` does with ``LC_ALL=C``."""
        return sorted({word for word, _, _ in self.entries}, key=str.encode)

    def word_ids(self) -> dict[str, int]:
        """Number the words and Kaldi's own symbols."""
        return {name: number for number, name in enumerate(["<eps>", *self.words(), BACKOFF, BEGIN, END])}

    def align_lexicon(self, word_ids: dict[str, int]) -> AlignLexicon:
        """Number the pronunciations, and the silence between words."""
        found: dict[int, list[tuple[int, ...]]] = {0: [(self.phone_ids[self.silence_phone],)]}
        for word, _, phones in self.entries:
            numbers = tuple(self.phone_ids[phone] for phone in phones)
            found.setdefault(word_ids[word], []).append(numbers)
        return AlignLexicon(found)

    def disambiguated(self) -> tuple[list[Pronunciation], int]:
        """Append ``#1``, ``#2``, ... to pronunciations that are or begin another one.

        Returns:
            The entries, and the highest number used."""
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

    def fst(self, word_ids: dict[str, int]) -> tuple[Fst, list[int]]:
        """Build the transducer; also return its disambiguation symbols: ``#0``, ``#1``, ..., silence's.

        Raises:
            ValueError: a word that is not in ``word_ids``.
        """
        missing = [word for word, _, _ in self.entries if word not in word_ids]
        if missing:
            raise ValueError(f"{self.path}: {missing[0]!r} is not in words.txt ({len(missing)} missing)")
        entries, highest = self.disambiguated()
        first = max(self.phone_ids.values()) + 1
        disambig = {f"#{k}": first + k for k in range(highest + 2)}
        labels = self.phone_ids | disambig
        fst = to_kaldifst(self._arrays(entries, word_ids, labels, labels[f"#{highest + 1}"]))
        kaldifst.add_self_loops(fst, [disambig[BACKOFF]], [word_ids[BACKOFF]])
        kaldifst.arcsort(fst, sort_type="olabel")
        return fst, list(disambig.values())

    def arrays(self, word_ids: dict[str, int]) -> FstArrays:
        """Build Kaldi's ``L.fst``, which has no disambiguation symbols; every word needs a number."""
        return self._arrays(self.entries, word_ids, self.phone_ids, 0)

    def _arrays(
        self,
        entries: Sequence[Pronunciation],
        word_ids: dict[str, int],
        labels: dict[str, int],
        disambig: int,
    ) -> FstArrays:
        numbered = [
            (word_ids[word], -math.log(p), [labels[phone] for phone in phones]) for word, p, phones in entries
        ]
        if self.silences is None:
            return _with_silence(numbered, labels[self.silence_phone], disambig)
        return _with_silence_by_word(numbered, self.silences, labels[self.silence_phone], disambig)


_Numbered = Sequence[tuple[int, float, list[int]]]
"""Word, cost and phones of each pronunciation."""


class _Graph:
    """A transducer in the making, from state 0; arcs of infinite cost are left out."""

    def __init__(self, *finals: float) -> None:
        self._finals = list(finals)
        self._sources: list[int] = []
        self._arcs: list[tuple[int, int, float, int]] = []

    def add_state(self) -> int:
        self._finals.append(math.inf)
        return len(self._finals) - 1

    def arc(self, source: int, phone: int, word: int, cost: float, target: int) -> None:
        if cost < math.inf:
            self._sources.append(source)
            self._arcs.append((phone, word, cost, target))

    def arrays(self) -> FstArrays:
        finals = np.array(self._finals, dtype=np.float32)
        return FstArrays.from_arcs(
            0, finals, np.array(self._sources, dtype=np.int64), np.array(self._arcs, dtype=ARC)
        )

    def line(self, source: int, phones: Sequence[int], word: int, cost: float) -> tuple[int, int, float]:
        """Add arcs of ``phones``; return the state after them, and word and cost that no arc took."""
        for phone in phones:
            target = self.add_state()
            self.arc(source, phone, word, cost, target)
            source, word, cost = target, 0, 0.0
        return source, word, cost


def _with_silence(entries: _Numbered, silence: int, disambig: int) -> FstArrays:
    """States: start, between words, before silence, behind it."""
    quiet, spoken = -math.log(SILENCE_PROBABILITY), -math.log(1 - SILENCE_PROBABILITY)
    graph = _Graph(math.inf, 0.0, math.inf, math.inf)
    graph.arc(0, 0, 0, spoken, 1)
    graph.arc(0, 0, 0, quiet, 2)
    graph.arc(2, silence, 0, 0.0, 3)
    graph.arc(3, disambig, 0, 0.0, 1)
    for word, cost, phones in entries:
        state, output, rest = graph.line(1, phones[:-1], word, cost)
        graph.arc(state, phones[-1], output, rest + spoken, 1)
        graph.arc(state, phones[-1], output, rest + quiet, 2)
    return graph.arrays()


def _with_silence_by_word(
    entries: _Numbered, silences: SilenceProbabilities, silence: int, disambig: int
) -> FstArrays:
    """States: start, behind a word or the beginning without silence, behind silence."""
    ends = silences.end_factor_after_speech, silences.end_factor_after_silence
    graph = _Graph(math.inf, *map(_cost, ends))
    graph.arc(0, disambig, 0, _cost(1 - silences.begin), 1)
    graph.arc(0, silence, 0, _cost(silences.begin), 2)
    for (word, cost, phones), its in zip(entries, silences.words, strict=True):
        first = graph.add_state()
        graph.arc(1, phones[0], word, cost + _cost(its.factor_after_speech), first)
        graph.arc(2, phones[0], word, cost + _cost(its.factor_after_silence), first)
        last, _, _ = graph.line(first, phones[1:], 0, 0.0)
        graph.arc(last, disambig, 0, _cost(1 - its.after), 1)
        graph.arc(last, silence, 0, _cost(its.after), 2)
    return graph.arrays()


def _cost(probability: float) -> float:
    return -math.log(probability) if probability > 0 else math.inf


def _count_known(phone_ids: dict[str, int], entries: Sequence[Pronunciation]) -> int:
    return sum(phone in phone_ids for _, _, phones in entries for phone in phones)


def with_places(entries: Sequence[Pronunciation], phone_ids: dict[str, int]) -> Sequence[Pronunciation]:
    """Give plain phones their places in the word (``_B``, ...) where the numbered phones have them."""
    marked = [(word, probability, _with_places(phones)) for word, probability, phones in entries]
    return max((entries, marked), key=lambda form: _count_known(phone_ids, form))


def read_entries(path: Path) -> list[tuple[Pronunciation, WordSilence | None]]:
    """Read the lines of a lexicon, whose form its name tells; another name is one of ``lexicon.txt``.

    Raises:
        OSError: no such file.
        ValueError: a malformed line, or a word that Kaldi keeps for itself.
    """
    num_numbers = _NUMBERS.get(path.name, 0)
    return [_parse(line, num_numbers, f"{path}, line {number}") for number, line in read_lines(path)]


def _with_places(phones: tuple[str, ...]) -> tuple[str, ...]:
    places = "S" if len(phones) == 1 else "B" + "I" * (len(phones) - 2) + "E"
    return tuple(f"{phone}_{place}" for phone, place in zip(phones, places, strict=True))


def _parse(line: str, num_numbers: int, where: str) -> tuple[Pronunciation, WordSilence | None]:
    word, *rest = split_words(line)
    if word in RESERVED:
        raise ValueError(f"{where}: {word!r} is no word of a lexicon; Kaldi has it for itself")
    try:
        numbers = [parse_float(number) for number in rest[:num_numbers]]
        probability, *silence = numbers if num_numbers else [1.0]
        phones, by_word = tuple(rest[num_numbers:]), WordSilence(*silence) if silence else None
    except (ValueError, TypeError) as error:
        form = " ".join(["word", "probability", *["silence's numbers"][: num_numbers - 1], "phones"])
        raise ValueError(f"{where}: expected '{form}', found {line[:60]!r} ({error})") from error
    if not phones or not 0 < probability <= 1:
        raise ValueError(f"{where}: {word!r} has no phones, or a probability outside 0 to 1")
    return (word, probability, phones), by_word


def read_phone_ids(phones_txt: Path) -> dict[str, int]:
    """Read the numbers in ``phones.txt``, without ``<eps>`` and disambiguation symbols.

    Raises:
        OSError: no such file.
        ValueError: a line that is not a name and a number.
    """
    names = read_phone_names(phones_txt)
    return {phone: number for number, phone in names.items() if number and not phone.startswith("#")}
