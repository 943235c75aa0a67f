"""What search processes do: align a text with an utterance's scores, or find its words in a graph."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from asr_bn.data.kaldi_system import KaldiSystem
from asr_bn.decoding.alignment.aligner import Aligner, AlignOptions
from asr_bn.decoding.alignment.boundaries import boundary_times
from asr_bn.decoding.alignment.fit import LEAST_CONFIDENCE, doubt
from asr_bn.decoding.alignment.lexicon import Pronunciations
from asr_bn.decoding.alignment.outputs import describe, describe_phones
from asr_bn.decoding.alignment.result import FrameTimes
from asr_bn.decoding.no_path import NoPath
from asr_bn.decoding.search_options import ScoreWeights
from asr_bn.decoding.transcriber import Transcriber, Transcript
from asr_bn.kaldi_io.phone_table import read_phone_names
from asr_bn.scoring.metadata import ModelMetadata
from asr_bn.system.arrays import Floats
from serve.limits.refusal import Refusal, shown

T = TypeVar("T")
Found = dict[str, object]
"""An answer, as JSON has it."""
_MOST_NAMED = 5


@dataclass(frozen=True)
class SearchFiles:
    """What is searched with.

    Attributes:
        lang: a lang folder, a dictionary folder or a lexicon file; None aligns nothing.
        graph: a graph's folder; None transcribes nothing.
        weights: of the graph's search and lattices.
        posterior_scale: of the words' confidences there.
        max_cells: frames times HMM states of an alignment at most.
    """

    lang: Path | None
    graph: Path | None
    weights: ScoreWeights
    posterior_scale: float
    max_cells: int

    def open(self, metadata: ModelMetadata) -> "Searcher":
        """Load everything for a model.

        Raises:
            OSError: a file is missing.
            ValueError: one is damaged or of another system, or the model does not know its phones.
        """
        if metadata.system is None:
            raise ValueError("the model does not know its phones, which alignments and transcripts need")
        system, priors = metadata.system, metadata.log_priors
        if self.lang is not None and not system.phone_names:
            folder = self.lang if self.lang.is_dir() else self.lang.parent
            system = replace(system, phone_names=read_phone_names(folder / "phones.txt"))
        aligner = transcriber = None
        if self.lang is not None:
            aligner = Aligner.of(_pronunciations(self.lang, system), system, priors, AlignOptions())
        if self.graph is not None:
            scale = self.posterior_scale
            transcriber = Transcriber.open(self.graph, system, priors, self.weights, scale)
        return Searcher(aligner, transcriber, FrameTimes.of(metadata.fbank), len(priors), self.max_cells)


def _pronunciations(lang: Path, system: KaldiSystem) -> Pronunciations:
    with tempfile.TemporaryDirectory() as folder:
        system.write(Path(folder))
        return Pronunciations.read(lang, Path(folder) / "phones.txt")


@dataclass(frozen=True)
class Searcher:
    """Searches utterances, one at a time.

    Attributes:
        aligner, transcriber: None where the server has none.
        times: of frames.
        num_pdfs: columns of the scores.
        max_cells: frames times HMM states of an alignment at most.
    """

    aligner: Aligner | None
    transcriber: Transcriber | None
    times: FrameTimes
    num_pdfs: int
    max_cells: int

    def search(self, text: Sequence[str] | None, log_posteriors: Floats) -> Found:
        """Align ``text`` with ``log_posteriors``, ``[num_frames, num_pdfs]``, or without one transcribe.

        Raises:
            Refusal: as `align` and `transcribe`; 422 a score is infinite.
        """
        if not np.isfinite(log_posteriors).all():
            raise Refusal(422, "the features are so large that the model's scores are not finite")
        return self.transcribe(log_posteriors) if text is None else self.align(text, log_posteriors)

    def align(self, text: Sequence[str], log_posteriors: Floats) -> Found:
        """Find when the words and phones of a text are spoken.

        Raises:
            Refusal: 413 too long a text for so many frames, 422 unknown words, or no way through.
        """
        aligner = _given(self.aligner)
        _check_words(aligner.lexicon, text)
        with _refusing():
            graph = aligner.graph(text)
        num_cells = len(log_posteriors) * graph.hmms.num_nodes
        if num_cells > self.max_cells:
            told = f"{len(log_posteriors)} frames and {graph.hmms.num_nodes} states of the text's phones"
            raise Refusal(413, f"{told}, this server aligns up to {self.max_cells} of their product")
        with _refusing():
            found = aligner.align_graph("", graph, log_posteriors)
        described = describe(found, boundary_times(found, self.times))
        return described | {"doubt": doubt(found, LEAST_CONFIDENCE) or None}

    def transcribe(self, log_posteriors: Floats) -> Found:
        """Find the words that are spoken.

        Raises:
            Refusal: 422 the graph has no path of that length.
        """
        transcriber = _given(self.transcriber)
        with _refusing():
            found = transcriber.transcribe("", log_posteriors)
        return describe_transcript(found, self.times.shift)

    def warm_up(self) -> None:
        """Import and remember what every search needs."""
        scores = np.full((50, self.num_pdfs), -np.log(self.num_pdfs), dtype=np.float32)
        if self.aligner is not None:
            lexicon = self.aligner.lexicon
            with suppress(Refusal):
                self.align([next(filter(lexicon.has, lexicon.word_ids))], scores)
        if self.transcriber is not None:
            with suppress(Refusal):
                self.transcribe(scores)


def describe_transcript(found: Transcript, frame_shift_s: float) -> Found:
    """Convert to JSON: times in seconds, as in ``hyp.ctm``; None where they are not known."""
    answer, path = found.answer, found.answer.path
    spans = answer.spans if answer.spans is not None else [None] * len(answer.words)
    words = [
        {
            "word": word,
            "start": None if span is None else round(span[0] * frame_shift_s, 4),
            "end": None if span is None else round(span[1] * frame_shift_s, 4),
            "confidence": round(confidence, 4),
        }
        for word, confidence, span in zip(answer.words, answer.confidences, spans, strict=True)
    ]
    frames = {frame for phone in found.phones for frame in (phone.start, phone.end)}
    seconds = {frame: frame * frame_shift_s for frame in frames}
    doubts = {
        not found.is_complete: "no path reached the end of the graph; its best partial one is taken",
        not words: "no words are found in it",
    }
    return {
        "text": " ".join(answer.words),
        "duration": round(len(path.transition_ids) * frame_shift_s, 4),
        "graph_cost": path.graph_cost,
        "acoustic_cost": path.acoustic_cost,
        "words": words,
        "phones": describe_phones(found.phones, seconds),
        "doubt": doubts.get(True),
    }


def _given(part: T | None) -> T:
    assert part is not None  # the server asks for nothing that it was not started with
    return part


@contextmanager
def _refusing() -> Iterator[None]:
    """Tell the client that there is no path.  Other errors of the library are ours, and may name files."""
    try:
        yield
    except NoPath as error:
        raise Refusal(422, str(error)) from error


def _check_words(lexicon: Pronunciations, text: Sequence[str]) -> None:
    unknown = [word for word in dict.fromkeys(text) if not lexicon.has(word)]
    if unknown and lexicon.oov_word is None:
        named = ", ".join(shown(word) for word in unknown[:_MOST_NAMED])
        others = f" and {len(unknown) - _MOST_NAMED} others" if len(unknown) > _MOST_NAMED else ""
        raise Refusal(422, f"text: {named}{others}: no pronunciation in this server's lexicon")
