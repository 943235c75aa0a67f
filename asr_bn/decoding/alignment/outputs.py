"""The folder that ``asr-bn align`` leaves: Kaldi's alignments, CTM files, TextGrids and JSON."""

import gzip
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from asr_bn.decoding.alignment.boundaries import NO_SHIFTS, Boundaries, BoundaryShifts, boundary_times
from asr_bn.decoding.alignment.fit import Report, lines
from asr_bn.decoding.alignment.result import AlignedPhone, AlignedUtterance, AlignedWord, FrameTimes
from asr_bn.decoding.alignment.textgrid import textgrid
from asr_bn.kaldi_io.int_vector_table import encode_int_vector
from asr_bn.system.files import atomic_stream, write_json, write_text

_STREAMS = ("ali.1.gz", "words.ctm", "phones.ctm", "align.json")
OUTPUTS = (*_STREAMS, "final.mdl", "phones.txt", "num_jobs")
Seconds = Mapping[int, float]
"""Time of each frame where a phone begins, and of the end."""


@dataclass(frozen=True)
class OutputFolder:
    """Where alignments go.

    Attributes:
        path: the folder.
        times: of the model's frames.
        shifts: subtracted from the times of boundaries; transition-ids stay as they are.
        boundaries: gets every utterance, to be compared with known times.
    """

    path: Path
    times: FrameTimes
    shifts: BoundaryShifts = NO_SHIFTS
    boundaries: Boundaries | None = None

    def write(self, utterances: Iterable[AlignedUtterance], report: Report) -> None:
        """Write every utterance as it comes; name those in ``report`` on standard error, and in two files.

        Archives get their names when all is written.

        Raises:
            OSError: a file cannot be written.
            ValueError: no utterance could be aligned.
        """
        with ExitStack() as stack:
            streams = [stack.enter_context(atomic_stream(self.path / name)) for name in _STREAMS]
            count = self._write_each(utterances, streams)
            write_text(self.path / "failed.txt", lines(report.failed))
            write_text(self.path / "poor.txt", lines(report.poor))
            report.say()
            if not count:
                raise ValueError(f"{self.path}: no utterance could be aligned")
        write_text(self.path / "num_jobs", "1\n")
        if self.boundaries is not None:
            write_json(self.path / "boundaries.json", self.boundaries.to_json())
        numbers = f"{count} utterances aligned, {len(report.poor)} fit badly, {len(report.failed)} failed"
        print(f"{self.path}: {numbers}", file=sys.stderr)

    def _write_each(self, utterances: Iterable[AlignedUtterance], streams: Sequence[IO[bytes]]) -> int:
        archive, words, phones, described = streams
        count = 0
        with gzip.GzipFile(fileobj=archive, filename="", mode="wb", mtime=0) as packed:
            head = {"frame_shift_s": self.times.shift, "frame_length_s": self.times.length}
            described.write(json.dumps(head)[:-1].encode() + b', "utterances": {')
            for count, utterance in enumerate(utterances, start=1):
                seconds = boundary_times(utterance, self.times, self.shifts)
                packed.write(f"{utterance.utt_id} ".encode() + encode_int_vector(utterance.transition_ids))
                words.write(_ctm(utterance.utt_id, utterance.words, seconds))
                phones.write(_ctm(utterance.utt_id, utterance.phones, seconds))
                described.write((",\n" if count > 1 else "\n").encode() + _json_entry(utterance, seconds))
                self._write_textgrid(utterance, seconds)
                if self.boundaries is not None:
                    self.boundaries.add(utterance, seconds)
            described.write(b"\n}}\n")
        return count

    def _write_textgrid(self, utterance: AlignedUtterance, seconds: Seconds) -> None:
        tiers = {
            "words": [(seconds[word.start], seconds[word.end], word.name) for word in utterance.words],
            "phones": [(seconds[phone.start], seconds[phone.end], phone.name) for phone in utterance.phones],
        }
        path = self.path / "textgrid" / f"{utterance.utt_id.replace('/', '%2F')}.TextGrid"
        write_text(path, textgrid(tiers, seconds[utterance.num_frames]))


def _ctm(utt_id: str, spans: Iterable[AlignedWord | AlignedPhone], seconds: Seconds) -> bytes:
    lines = (
        f"{utt_id} 1 {seconds[span.start]:.4f} {seconds[span.end] - seconds[span.start]:.4f} "
        f"{span.phone if isinstance(span, AlignedPhone) else span.name} {span.confidence:.4f}\n"
        for span in spans
    )
    return "".join(lines).encode()


def _json_entry(utterance: AlignedUtterance, seconds: Seconds) -> bytes:
    described = json.dumps(describe(utterance, seconds), allow_nan=False)
    return f"{json.dumps(utterance.utt_id)}: {described}".encode()


def describe(utterance: AlignedUtterance, seconds: Seconds) -> dict[str, object]:
    """Convert to JSON: times in seconds, confidences, and of each phone its goodness of pronunciation."""

    return {
        "duration": round(seconds[utterance.num_frames], 4),
        "confidence": round(utterance.confidence, 4),
        "silence_confidence": round(utterance.silence_confidence, 4),
        "speech": round(utterance.speech, 4),
        "log_likelihood": round(utterance.log_likelihood, 4),
        "words": [_span("word", word, seconds) for word in utterance.words],
        "phones": describe_phones(utterance.phones, seconds),
    }


def describe_phones(phones: Iterable[AlignedPhone], seconds: Seconds) -> list[dict[str, object]]:
    """Convert to JSON, as :func:`describe`; ``word`` is the place of a phone's word."""
    return [
        _span("phone", phone, seconds)
        | {"word": phone.word if phone.word >= 0 else None, "heard": phone.heard}
        | {"log_posterior": round(phone.log_posterior, 4), "goodness": round(phone.goodness, 4)}
        for phone in phones
    ]


def _span(kind: str, of: AlignedWord | AlignedPhone, seconds: Seconds) -> dict[str, object]:
    begin, end = round(seconds[of.start], 4), round(seconds[of.end], 4)
    return {kind: of.name, "start": begin, "end": end, "confidence": round(of.confidence, 4)}
