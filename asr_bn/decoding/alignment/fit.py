"""Which utterances a text fits badly, and which cannot be aligned at all."""

import sys
from dataclasses import dataclass, field

from asr_bn.decoding.alignment.result import AlignedUtterance

# Of words, and of silence between them, in an utterance that fits.
LEAST_CONFIDENCE = 0.5
# Of the frames of an utterance with words, some are speech.
_LEAST_SPEECH = 0.02
# A word counts as not spoken below this share of the least confidence; more such words than that share of all
# are told even where the others make up for them.
_LEAST_OF_A_WORD, _MOST_LOST_WORDS = 0.2, 0.25


@dataclass
class Report:
    """What went wrong, by utterance, in the order in which it was found.

    Attributes:
        least_confidence: of words and of silence between them, in an utterance that fits.
        failed: why an utterance has no alignment.
        poor: why an utterance with one is doubtful; the sentence begins with its confidence.
    """

    least_confidence: float
    failed: dict[str, str] = field(default_factory=dict)
    poor: dict[str, str] = field(default_factory=dict)

    def fail(self, utt_id: str, error: Exception) -> None:
        """Note that an utterance has no alignment; its id need not be in the error."""
        self.failed[utt_id] = " ".join(str(error).removeprefix(f"{utt_id}: ").split())

    def judge(self, utterance: AlignedUtterance) -> None:
        """Note an utterance that its text fits badly."""
        reason = doubt(utterance, self.least_confidence)
        if reason:
            self.poor[utterance.utt_id] = f"{utterance.confidence:.3f} {reason}"

    def say(self) -> None:
        """Name the utterances on standard error."""
        for utt_id, reason in self.poor.items():
            print(f"{utt_id}: {reason.split(' ', 1)[1]}", file=sys.stderr)
        for utt_id, reason in self.failed.items():
            print(f"{utt_id}: not aligned: {reason}", file=sys.stderr)


def doubt(utterance: AlignedUtterance, least_confidence: float) -> str:
    """Say why a text fits an utterance badly; empty where it does not."""
    if utterance.speech < _LEAST_SPEECH:
        return f"no speech is heard in it ({100 * utterance.speech:.1f} % of its frames)"
    if utterance.confidence < least_confidence:
        return f"its text fits badly: confidence {utterance.confidence:.3f} of its words"
    bar = _LEAST_OF_A_WORD * least_confidence
    lost = [word for word in utterance.words if word.confidence < bar]
    if len(lost) > _MOST_LOST_WORDS * len(utterance.words):
        names = f"{len(lost)} of its {len(utterance.words)} words, such as {lost[0].name!r},"
        return f"its text fits badly: {names} have a confidence below {bar:.3f}"
    if utterance.silence_confidence < least_confidence:
        silence = utterance.silence_confidence
        return f"more is spoken than its text has: confidence {silence:.3f} of the silence between words"
    return ""


def lines(reasons: dict[str, str]) -> str:
    """Format for a file: an utterance id and a reason a line."""
    return "".join(f"{utt_id} {reason}\n" for utt_id, reason in reasons.items())
