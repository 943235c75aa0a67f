"""Answers from lattices: words, alignments, costs, n-best lists, confidences and times, and their files."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from asr_bn.decoding.lattices.confidence import word_confidences
from asr_bn.decoding.lattices.paths import LatticePath, best_paths, n_best
from asr_bn.decoding.lattices.word_times import WordTimes
from asr_bn.decoding.search_options import ScoreWeights
from asr_bn.kaldi_io.compact_lattice import CompactLattice
from asr_bn.kaldi_io.int_vector_table import write_int_vectors
from asr_bn.system.arrays import IntVector
from asr_bn.system.files import write_text

_NO_PATH = LatticePath((), (), np.zeros(0, dtype=np.int32), 0.0, 0.0)


@dataclass(frozen=True)
class Answer:
    """What is known of an utterance.

    Attributes:
        path: the best path.
        confidences: of its words.
        spans: first frame and end of each word; None where they are not known.
        others: the n best paths, the best one first.
    """

    utt_id: str
    words: tuple[str, ...]
    path: LatticePath
    confidences: Sequence[float]
    spans: Sequence[tuple[int, int]] | None
    others: Sequence[LatticePath]


@dataclass(frozen=True)
class AnswerMaker:
    """Makes answers.

    Attributes:
        names: of words.
        weights: of costs.
        posterior_scale: of the confidences.
        num_best: length of the n-best lists.
        times: finds words in alignments; None where the pronunciations are not known.
    """

    names: Mapping[int, str]
    weights: ScoreWeights
    posterior_scale: float = 1.0
    num_best: int = 0
    times: WordTimes | None = None

    def answer(self, utt_id: str, lattice: CompactLattice) -> Answer:
        """Look at a lattice; an empty one has no words."""
        if not lattice.num_states:
            return Answer(utt_id, (), _NO_PATH, (), (), ())
        (path,) = best_paths(lattice, [self.weights])
        confidences = word_confidences(lattice, path, self.weights, self.posterior_scale)
        spans = None if self.times is None else self.times.frames(path.transition_ids, path.words)
        others = list(n_best(lattice, self.weights, self.num_best))
        return Answer(utt_id, self.spelled(path), path, confidences, spans, others)

    def spelled(self, path: LatticePath) -> tuple[str, ...]:
        """Return the words of a path."""
        return tuple(self.names[word] for word in path.words)

    def describe(self, path: LatticePath) -> dict[str, object]:
        """Return a path's words and costs; ``cost`` is what the weights make of the others."""
        cost = path.graph_cost + self.weights.acoustic_scale * path.acoustic_cost
        return {
            "words": " ".join(self.spelled(path)),
            "graph_cost": path.graph_cost,
            "acoustic_cost": path.acoustic_cost,
            "cost": cost + self.weights.word_penalty * len(path.words),
        }


@dataclass
class Written:
    """What was written: words by utterance, lines of the other files, and how many frames there were."""

    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    costs: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    ctm: list[str] = field(default_factory=list)
    num_frames: int = 0

    def add(self, answer: Answer, maker: AnswerMaker, frame_shift_s: float) -> None:
        """Add an answer."""
        path = answer.path
        self.words[answer.utt_id] = answer.words
        self.costs.append(f"{answer.utt_id} {path.graph_cost:.7g} {path.acoustic_cost:.7g}\n")
        paths = [json.dumps(maker.describe(path)) for path in answer.others]
        self.lists.append(f"{json.dumps(answer.utt_id)}: [" + ",\n  ".join(paths) + "]")
        self.ctm += _ctm_lines(answer, frame_shift_s)
        self.num_frames += len(path.transition_ids)
        if answer.spans is None and maker.times is not None:
            print(f"{answer.utt_id}: its words are not found in its phones: no times", file=sys.stderr)


def write_answers(
    out_dir: Path, answers: Iterable[Answer], maker: AnswerMaker, frame_shift_s: float
) -> Written:
    """Write ``ali.ark`` (transition-ids), ``costs.txt``, ``nbest.json``, ``hyp.ctm`` and ``hyp.txt``.

    ``hyp.ctm`` has, as Kaldi's: utterance, channel 1, start and duration in seconds, word, confidence.
    Without the words' pronunciations there is none.
    """
    written = Written()

    def alignments() -> Iterator[tuple[str, IntVector]]:
        for answer in answers:
            written.add(answer, maker, frame_shift_s)
            if len(answer.path.transition_ids):
                yield answer.utt_id, answer.path.transition_ids

    write_int_vectors(f"ark:{out_dir / 'ali.ark'}", alignments())
    write_text(out_dir / "costs.txt", "".join(written.costs))
    if maker.num_best:
        write_text(out_dir / "nbest.json", "{" + ",\n ".join(written.lists) + "}\n")
    if maker.times is not None:
        write_text(out_dir / "hyp.ctm", "".join(written.ctm))
    lines = (" ".join([utt_id, *words]) for utt_id, words in written.words.items())
    write_text(out_dir / "hyp.txt", "".join(f"{line}\n" for line in lines))
    return written


def _ctm_lines(answer: Answer, frame_shift_s: float) -> Iterator[str]:
    if answer.spans is None:
        return
    for word, confidence, (start, end) in zip(answer.words, answer.confidences, answer.spans, strict=True):
        seconds = f"{start * frame_shift_s:.3f} {(end - start) * frame_shift_s:.3f}"
        yield f"{answer.utt_id} 1 {seconds} {word} {confidence:.4f}\n"
