"""What an alignment says of an utterance: its phones and words, their times and how well they fit."""

from collections.abc import Sequence
from dataclasses import dataclass

from asr_bn.features.options import FbankOptions
from asr_bn.system.arrays import IntVector


@dataclass(frozen=True)
class FrameTimes:
    """Times of frames, in seconds.

    Attributes:
        shift, length: of the windows.
        snip_edges: the first window begins with the recording; otherwise windows are centred on their frames.
    """

    shift: float
    length: float
    snip_edges: bool

    @classmethod
    def of(cls, fbank: FbankOptions) -> "FrameTimes":
        """Take window and shift from the options of the features."""
        return cls(fbank.frame_shift_ms / 1000, fbank.frame_length_ms / 1000, fbank.snip_edges)

    def boundary(self, frame: int, num_frames: int) -> float:
        """Return the time between ``frame - 1`` and ``frame``: midway between the centres of their windows.

        The first frame begins with the recording, and the last one ends with its last window.
        """
        margin = (self.length - self.shift) / 2 if self.snip_edges else 0.0
        if frame == 0:
            return 0.0
        return frame * self.shift + margin * (2 if frame == num_frames else 1)


@dataclass(frozen=True)
class AlignedPhone:
    """A phone, from frame ``start`` to before ``end``.

    Attributes:
        phone: as in ``phones.txt``.
        name: without the place in its word.
        word: place of its word in the text, -1 for silence between words.
        confidence: mean posterior of the phone over its frames.
        log_posterior: mean log posterior of the phone.
        goodness: of pronunciation (GOP): ``log_posterior`` less that of the best phone, 0 or less.
        heard: name of that phone.
    """

    phone: str
    name: str
    word: int
    start: int
    end: int
    confidence: float
    log_posterior: float
    goodness: float
    heard: str

    @property
    def num_frames(self) -> int:
        """Its length."""
        return self.end - self.start


@dataclass(frozen=True)
class AlignedWord:
    """A word, from frame ``start`` to before ``end``; ``confidence`` is the mean of its frames'."""

    name: str
    start: int
    end: int
    confidence: float


@dataclass(frozen=True)
class AlignedUtterance:
    """An utterance's alignment.

    Attributes:
        transition_ids: int32 ``[num_frames]``.
        log_likelihood: scaled, of a frame on average.
        confidence: mean posterior of the aligned phones, over frames of words.
        silence_confidence: the same over frames of silence between them; 1 where there are none.
        speech: share of frames that the network takes for speech.
    """

    utt_id: str
    transition_ids: IntVector
    phones: Sequence[AlignedPhone]
    words: Sequence[AlignedWord]
    log_likelihood: float
    confidence: float
    silence_confidence: float
    speech: float

    @property
    def num_frames(self) -> int:
        """Its length."""
        return len(self.transition_ids)


def words_of(phones: Sequence[AlignedPhone], text: Sequence[str]) -> list[AlignedWord]:
    """Collect the words of ``text`` from their phones."""
    by_word: dict[int, list[AlignedPhone]] = {}
    for phone in phones:
        by_word.setdefault(phone.word, []).append(phone)
    return [
        AlignedWord(text[place], own[0].start, own[-1].end, mean_confidence(own))
        for place, own in sorted(by_word.items())
        if place >= 0
    ]


def mean_confidence(phones: Sequence[AlignedPhone]) -> float:
    """Average over frames; 1 where there are none."""
    num_frames = sum(phone.num_frames for phone in phones)
    return sum(phone.confidence * phone.num_frames for phone in phones) / num_frames if num_frames else 1.0
