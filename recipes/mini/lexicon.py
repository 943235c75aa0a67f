"""The pronunciation lexicon, from espeak-ng's own phonemes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from recipes.mini.phones import SILENCE, phone_of

Pronunciation = tuple[str, ...]
# A pronunciation heard in context enters the lexicon if it is this common among its word's tokens.
MINIMUM_COUNT = 2
MINIMUM_SHARE = 0.05


@dataclass(frozen=True)
class Lexicon:
    """For each word its pronunciations and how often each was heard (smoothed, so never zero)."""

    counts: dict[str, dict[Pronunciation, float]]

    def entries(self) -> list[tuple[str, float, Pronunciation]]:
        """Return ``(word, probability, phones)``; a word's best has 1, as in Kaldi's ``lexiconp.txt``."""
        return [
            (word, count / max(pronunciations.values()), pronunciation)
            for word, pronunciations in sorted(self.counts.items())
            for pronunciation, count in sorted(pronunciations.items())
        ]


def isolated_pronunciations(accent: str, words: Sequence[str]) -> dict[str, Pronunciation]:
    """Ask how espeak-ng's ``accent`` says each word alone.  It loads espeak-ng: use a process of its own."""
    from recipes.mini.espeak import Synthesizer

    synthesizer = Synthesizer(accent)
    return {
        word: without_silence(phone_of(mnemonic, accent) for mnemonic in synthesizer.pronounce(word))
        for word in words
    }


def without_silence(phones: Iterable[str]) -> Pronunciation:
    """Return the phones that are not pauses."""
    return tuple(phone for phone in phones if phone != SILENCE)


def build_lexicon(
    isolated: Iterable[Mapping[str, Pronunciation]],
    spoken: Iterable[tuple[Sequence[str], Pronunciation, Mapping[str, Pronunciation]]],
) -> Lexicon:
    """Merge the pronunciations of words alone with those heard in sentences.

    Args:
        isolated: for each accent, its pronunciation of every word alone.
        spoken: for each utterance its words, its phones, and its accent's pronunciations of words alone.
    """
    counts: dict[str, dict[Pronunciation, float]] = {}
    for pronunciations in isolated:
        for word, pronunciation in pronunciations.items():
            counts.setdefault(word, {}).setdefault(pronunciation, 1.0)
    heard: dict[str, Counter[Pronunciation]] = {}
    for words, phones, alone in spoken:
        pronunciations_heard = split_at_words(phones, [alone[word] for word in words])
        for word, pronunciation in zip(words, pronunciations_heard, strict=True):
            heard.setdefault(word, Counter())[pronunciation] += 1
    for word, variants in heard.items():
        enough = max(MINIMUM_COUNT, MINIMUM_SHARE * variants.total())
        for pronunciation, count in variants.items():
            if pronunciation in counts[word] or (pronunciation and count >= enough):
                counts[word][pronunciation] = counts[word].get(pronunciation, 0.0) + count
    return Lexicon(counts)


def split_at_words(phones: Sequence[str], expected: Sequence[Pronunciation]) -> list[Pronunciation]:
    """Cut ``phones`` into words, by aligning them to the words' ``expected`` pronunciations.

    A phone that nothing was expected for goes to the word that is being spoken.
    """
    word_of = [index for index, pronunciation in enumerate(expected) for _ in pronunciation]
    flat = [phone for pronunciation in expected for phone in pronunciation]
    words: list[list[str]] = [[] for _ in expected]
    current = 0
    for index, other in align_sequences(phones, flat):
        if other is not None:
            current = word_of[other]
        if index is not None:
            words[current].append(phones[index])
    return [tuple(word) for word in words]


def align_sequences(first: Sequence[str], second: Sequence[str]) -> list[tuple[int | None, int | None]]:
    """Return the pairs of a minimum edit distance alignment; None stands for a gap.

    Equal symbols cost 0, a gap 3, and a substitution 4 (5 between a vowel and a consonant).  So a
    substitution of like sounds is preferred to two gaps.
    """
    rows, columns = len(first) + 1, len(second) + 1
    cost = [[3 * column for column in range(columns)] for _ in range(rows)]
    for row in range(1, rows):
        cost[row][0] = 3 * row
        above, here = cost[row - 1], cost[row]
        for column in range(1, columns):
            here[column] = min(
                above[column - 1] + _substitution_cost(first[row - 1], second[column - 1]),
                above[column] + 3,
                here[column - 1] + 3,
            )
    pairs: list[tuple[int | None, int | None]] = []
    row, column = rows - 1, columns - 1
    while row or column:
        total = cost[row][column]
        if row and total == cost[row - 1][column] + 3:
            row -= 1
            pairs.append((row, None))
        elif column and total == cost[row][column - 1] + 3:
            column -= 1
            pairs.append((None, column))
        else:
            row, column = row - 1, column - 1
            pairs.append((row, column))
    return pairs[::-1]


def _substitution_cost(first: str, second: str) -> int:
    if first == second:
        return 0
    return 4 if (first[0] in "AEIOU") == (second[0] in "AEIOU") else 5
