"""Decoding a corpus: from features to lattices."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from asr_bn.decoding.lattices.decoder import NO_LATTICE
from asr_bn.decoding.references import Words
from asr_bn.decoding.search_options import ScoreWeights
from asr_bn.decoding.workers import SearchJob, decode_all
from asr_bn.kaldi_io.compact_lattice import CompactLattice
from asr_bn.kaldi_io.lattice_table import open_lattice_archive, read_lattices
from asr_bn.scoring.corpus import score_blocks
from asr_bn.scoring.inputs import ScoringInput
from asr_bn.scoring.scorer import AcousticScorer, floor_priors, to_output


@dataclass(frozen=True)
class DecodedCorpus:
    """Lattices in an archive, and what is kept of them in memory.

    Attributes:
        archive: of the lattices; utterances without frames have none.
        weights: those that were tried.
        words: by utterance, under each of them.
        num_partial: utterances in which no path reached the end of the graph.
    """

    archive: Path
    weights: Sequence[ScoreWeights]
    words: dict[str, list[tuple[str, ...]]]
    num_partial: int

    def words_with(self, weights: ScoreWeights) -> Words:
        """Return the words of the best paths under ``weights``, one of those that were tried."""
        index = self.weights.index(weights)
        return {utt_id: each[index] for utt_id, each in self.words.items()}

    def lattices(self) -> Iterator[tuple[str, CompactLattice]]:
        """Yield all lattices; those of utterances without frames are empty."""
        lattices = read_lattices(f"ark:{self.archive}")
        found = next(lattices, None)
        for utt_id in self.words:
            if found is not None and found[0] == utt_id:
                yield found
                found = next(lattices, None)
            else:
                yield utt_id, NO_LATTICE


@dataclass(frozen=True)
class CorpusDecoder:
    """Scores and decodes data folders.

    Attributes:
        scorer: the acoustic model; its session with one thread.
        job: graph and search.
        source: how audio is read.
        num_jobs: calls of the model, and processes of the search, at a time.
        prior_scale, prior_floor: of the log likelihoods.
    """

    scorer: AcousticScorer
    job: SearchJob
    source: ScoringInput
    num_jobs: int
    prior_scale: float = 1.0
    prior_floor: float = 0.0

    @property
    def frame_shift_s(self) -> float:
        """Seconds from frame to frame."""
        return self.scorer.metadata.fbank.frame_shift_ms / 1000

    def decode(self, data_dir: str, weights: Sequence[ScoreWeights], archive: Path) -> DecodedCorpus:
        """Write the lattice of every utterance; utterances without frames have no words."""
        feats, total = self.source.feats([data_dir])
        log_priors = floor_priors(self.scorer.metadata.log_priors, self.prior_floor)
        empty: list[str] = []
        log_likelihoods = (
            scores.mapped(lambda rows: to_output(rows, log_priors, "log_likelihood", self.prior_scale))
            for scores in score_blocks(self.scorer, feats, self.num_jobs, empty.append)
        )
        words: dict[str, list[tuple[str, ...]]] = {}
        num_partial = 0
        with open_lattice_archive(archive) as lattices:
            decoded = decode_all(self.job, log_likelihoods, weights, self.num_jobs)
            for utt_id, found in tqdm(decoded, "decode", total, unit="utt", delay=2):
                lattices.write(utt_id, found.lattice)
                words[utt_id] = found.words
                num_partial += not found.is_complete
                if not found.is_complete:
                    _say(utt_id, "no path reached the end of the graph; its best partial one is taken")
                if not found.is_rescored:
                    _say(utt_id, "the new language model accepts no path; the graph's costs stay")
        if not words:
            raise ValueError(f"{data_dir}: nothing to decode ({len(empty)} utterances without frames)")
        for utt_id in empty:
            _say(utt_id, "no frames (shorter than one frame): no words")
            words[utt_id] = [()] * len(weights)
        return DecodedCorpus(archive, weights, words, num_partial)


def _say(utt_id: str, remark: str) -> None:
    print(f"{utt_id}: {remark}", file=sys.stderr)
