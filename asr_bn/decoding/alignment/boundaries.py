"""Phone boundaries against known times, and the shifts that correct what is systematic in them.

Alignments that a network was trained on have habits (the closure before a burst counts as the plosive, or
not), which it learns.  Where some speech has known times, their median error by the phones on both sides
corrects other speech.  Source: Stolcke et al. 2014, "Highly accurate phonetic segmentation using boundary
correction models and system fusion".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path

import numpy as np

from asr_bn.decoding.alignment.result import AlignedUtterance, FrameTimes
from asr_bn.kaldi_io.plain_text import parse_float, split_words
from asr_bn.kaldi_io.script_file import read_lines
from asr_bn.system.files import read_json

TOLERANCES_MS = (20, 50)
# A pair of phones counts as much as so many boundaries before any phone and the second one.
_BACKOFF_COUNT = 5
# Shifts leave every phone so long, unless it is shorter before them.
_SHORTEST_S = 0.005

Span = tuple[float, float, str]
"""Begin and end in seconds, and the phone."""


@dataclass(frozen=True)
class BoundaryShifts:
    """Seconds to subtract from a boundary, by the phones before and after it.

    Attributes:
        pairs: of both.
        after: of the second one alone, for pairs that are not known.
    """

    pairs: Mapping[tuple[str, str], float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)

    def of(self, before: str, after: str) -> float:
        """Return the shift of a boundary; 0 where nothing is known."""
        return self.pairs.get((before, after), self.after.get(after, 0.0))

    @classmethod
    def fit(cls, errors: Mapping[tuple[str, str], Sequence[float]]) -> "BoundaryShifts":
        """Take median errors, in seconds; those of rare pairs lean on the second phone's."""
        by_after: dict[str, list[float]] = {}
        for (_, after), values in errors.items():
            by_after.setdefault(after, []).extend(values)
        medians = {after: float(np.median(values)) for after, values in by_after.items()}
        pairs = {
            (before, after): (len(values) * float(np.median(values)) + _BACKOFF_COUNT * medians[after])
            / (len(values) + _BACKOFF_COUNT)
            for (before, after), values in errors.items()
        }
        return cls(pairs, medians)

    @classmethod
    def read(cls, path: Path) -> "BoundaryShifts":
        """Read the shifts in a file that :meth:`Boundaries.to_json` made.

        Raises:
            OSError: no such file.
            ValueError: it is another file.
        """
        try:
            shifts: dict[str, dict[str, float]] = read_json(path, dict)["shifts_ms"]
            pairs = {_pair(names): float(ms) / 1000 for names, ms in shifts["pairs"].items()}
            return cls(pairs, {after: float(ms) / 1000 for after, ms in shifts["after"].items()})
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{path}: no boundary shifts in it, as --reference writes them ({error})"
            ) from error


NO_SHIFTS = BoundaryShifts()


def boundary_times(
    utterance: AlignedUtterance, times: FrameTimes, shifts: BoundaryShifts = NO_SHIFTS
) -> dict[int, float]:
    """Return the time of each frame where a phone begins, and of the end; shifts keep their order."""
    frames = [*(phone.start for phone in utterance.phones), utterance.num_frames]
    seconds = np.array([times.boundary(frame, utterance.num_frames) for frame in frames])
    shortest = min(_SHORTEST_S, float(np.diff(seconds).min()))
    for k, (before, after) in enumerate(pairwise(utterance.phones), start=1):
        seconds[k] -= shifts.of(before.name, after.name)
    steps = shortest * np.arange(len(frames))
    end = seconds[-1] - steps[-1]
    seconds = np.clip(np.maximum.accumulate(seconds - steps), 0.0, end) + steps
    return dict(zip(frames, seconds.tolist(), strict=True))


@dataclass
class Boundaries:
    """Boundaries whose time is known, and how far the aligned ones are from them.

    Attributes:
        known: spans of each utterance's phones, silence among them or not, with or without places in words.
        silence: the phone whose boundaries do not count but for those with other phones.
        num_known: boundaries of the utterances seen: beginnings of phones, and ends before silence.
        errors: seconds, aligned less known, by the phones on both sides; without those of phones that the
            alignment has not.
    """

    known: Mapping[str, Sequence[Span]]
    silence: str
    num_known: int = 0
    errors: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def add(self, utterance: AlignedUtterance, seconds: Mapping[int, float]) -> None:
        """Compare an utterance, whose boundaries are at ``seconds``; one without known times is left out."""
        names = {phone.phone: phone.name for phone in utterance.phones}
        known = (
            (begin, end, names.get(name, name)) for begin, end, name in self.known.get(utterance.utt_id, ())
        )
        spoken = [span for span in known if span[2] != self.silence]
        aligned = [(seconds[phone.start], seconds[phone.end], phone.name) for phone in utterance.phones]
        ends = _ends_before_silence(spoken)
        self.num_known += len(spoken) + sum(ends)
        places = [k for k, span in enumerate(aligned) if span[2] != self.silence]
        for index, other in _matches(spoken, [aligned[place] for place in places]):
            place = places[other]
            before = aligned[place - 1][2] if place else self.silence
            after = aligned[place + 1][2] if place + 1 < len(aligned) else self.silence
            begin, end, name = aligned[place]
            self.errors.setdefault((before, name), []).append(begin - spoken[index][0])
            if ends[index]:
                self.errors.setdefault((name, after), []).append(end - spoken[index][1])

    def to_json(self) -> dict[str, object]:
        """Describe shares within tolerances, with boundaries that were not found outside, and the shifts."""
        errors = np.array([error for values in self.errors.values() for error in values])
        shifts = BoundaryShifts.fit(self.errors)
        within = {
            f"within_{ms}_ms": float((np.abs(errors) <= ms / 1000 + 1e-9).sum() / max(1, self.num_known))
            for ms in TOLERANCES_MS
        }
        return {
            "num_boundaries": self.num_known,
            "num_found": len(errors),
            **within,
            "median_absolute_error_ms": round(1000 * float(np.median(np.abs(errors))), 2)
            if len(errors)
            else None,
            "shifts_ms": {
                "pairs": {" ".join(pair): round(1000 * s, 2) for pair, s in sorted(shifts.pairs.items())},
                "after": {name: round(1000 * shift, 2) for name, shift in sorted(shifts.after.items())},
            },
        }


def _pair(names: str) -> tuple[str, str]:
    before, after = split_words(names)
    return before, after


def _ends_before_silence(spoken: Sequence[Span]) -> list[bool]:
    gaps = [after[0] - before[1] > 1e-6 for before, after in pairwise(spoken)]
    return [*gaps, True] if spoken else []


def _matches(first: Sequence[Span], second: Sequence[Span]) -> Iterator[tuple[int, int]]:
    theirs, ours = ([span[2] for span in spans] for spans in (first, second))
    for block in SequenceMatcher(None, theirs, ours, autojunk=False).get_matching_blocks():
        for k in range(block.size):
            yield block.a + k, block.b + k


def read_ctm(path: Path) -> dict[str, list[Span]]:
    """Read the phones of each utterance: ``utterance channel begin duration phone`` a line.

    Raises:
        OSError: no such file.
        ValueError: another line.
    """
    spans: dict[str, list[Span]] = {}
    for number, line in read_lines(path):
        try:
            utt_id, _, begin, duration, name, *_ = split_words(line)
            start = parse_float(begin)
            spans.setdefault(utt_id, []).append((start, start + parse_float(duration), name))
        except ValueError as error:
            raise ValueError(
                f"{path}, line {number}: {line[:60]!r}, expected 'utterance channel begin duration phone'"
            ) from error
    return spans
