"""Decoding a corpus: from features to words, the acoustic scale chosen on development data."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from asr_bn.decoding.beam_search import NOTHING, Hypothesis
from asr_bn.decoding.word_errors import WordErrors, count_word_errors
from asr_bn.decoding.workers import SearchJob, decode_all
from asr_bn.files import write_json, write_text
from asr_bn.kaldi_io.int_vector_table import write_int_vectors
from asr_bn.kaldi_io.script_file import read_table
from asr_bn.posteriors import AcousticScorer, convert, floored
from asr_bn.scoring import score_all
from asr_bn.scoring_inputs import ScoringInput

# Kaldi's scoring tries 1/7 to 1/17; networks trained frame by frame may want more.
SCALES = tuple(1 / divisor for divisor in (20, 17, 15, 13, 11, 10, 9, 7, 5, 3))
DEFAULT_SCALE = 0.1


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

    def decode(self, data_dir: str, scales: Sequence[float]) -> dict[str, list[Hypothesis]]:
        """Hypotheses of every utterance, one for each scale; those without frames have no words."""
        feats, total = self.source.feats([data_dir])
        log_priors = floored(self.scorer.metadata.log_priors, self.prior_floor)
        empty: list[str] = []
        log_likelihoods = (
            (utt_id, convert(scores, log_priors, "log_likelihood", self.prior_scale))
            for utt_id, scores in score_all(self.scorer, feats, self.num_jobs, empty.append)
        )
        decoded = decode_all(self.job, log_likelihoods, scales, self.num_jobs)
        hypotheses = dict(tqdm(decoded, "decode", total, unit="utt", delay=2))
        if not hypotheses:
            raise ValueError(f"{data_dir}: nothing to decode ({len(empty)} utterances without frames)")
        for utt_id in empty:
            print(f"{utt_id}: no frames (shorter than one frame): no words", file=sys.stderr)
            hypotheses[utt_id] = [NOTHING] * len(scales)
        return hypotheses


def decode_tuned(
    decoder: CorpusDecoder, data_dir: Path, acoustic_scale: float | None, tune_data: Path | None
) -> tuple[dict[str, Hypothesis], dict[str, Any]]:
    """Hypotheses of ``data_dir`` with the best acoustic scale, and what there is to tell of the scale.

    Args:
        acoustic_scale: the scale; None chooses the one with the lowest WER on development data.
        tune_data: the development data; None takes ``data_dir``, or 0.1 if it has no text.

    Raises:
        ValueError: ``tune_data`` has no text.
    """
    tuned_on = tune_data or data_dir
    references = read_references(tuned_on) if acoustic_scale is None else None
    if tune_data is not None and acoustic_scale is None and references is None:
        raise ValueError(f"{tune_data}: has no text to tune the acoustic scale with")
    if references is None:
        scale = acoustic_scale or DEFAULT_SCALE
        return _only(decoder.decode(str(data_dir), [scale]), 0), {"acoustic_scale": scale, "tuned_on": None}
    tuning = decoder.decode(str(tuned_on), SCALES)
    errors = errors_by_scale(references, tuning, SCALES)
    scale = best_scale(errors)
    by_scale = {f"{candidate:.4f}": value.wer for candidate, value in errors.items()}
    summary = {"acoustic_scale": scale, "tuned_on": str(tuned_on), "wer_by_scale": by_scale}
    if tuned_on == data_dir:
        return _only(tuning, SCALES.index(scale)), summary
    return _only(decoder.decode(str(data_dir), [scale]), 0), summary


def _only(hypotheses: Mapping[str, list[Hypothesis]], index: int) -> dict[str, Hypothesis]:
    return {utt_id: paths[index] for utt_id, paths in hypotheses.items()}


def read_references(data_dir: Path) -> dict[str, list[str]] | None:
    """Words of ``data_dir/text``, or None where there is no such file."""
    path = data_dir / "text"
    if not path.exists():
        return None
    return {utt_id: line.split() for utt_id, line in read_table(path, value_needed=False).items()}


def word_errors(references: Mapping[str, Sequence[str]], hypotheses: Mapping[str, Hypothesis]) -> WordErrors:
    """Errors over the utterances that have a reference.

    Raises:
        ValueError: none has.
    """
    common = [utt_id for utt_id in hypotheses if utt_id in references]
    if not common:
        raise ValueError("no decoded utterance is in the reference text")
    counts = (count_word_errors(references[utt_id], hypotheses[utt_id].words) for utt_id in common)
    return sum(counts, WordErrors())


def best_scale(errors: Mapping[float, WordErrors]) -> float:
    """The scale with the fewest errors; of equals the one nearest to 0.1."""
    return min(errors, key=lambda scale: (errors[scale].total, abs(math.log(scale / DEFAULT_SCALE))))


def errors_by_scale(
    references: Mapping[str, Sequence[str]],
    hypotheses: Mapping[str, list[Hypothesis]],
    scales: Sequence[float],
) -> dict[float, WordErrors]:
    """Errors with each scale."""
    return {
        scale: word_errors(references, {utt_id: paths[k] for utt_id, paths in hypotheses.items()})
        for k, scale in enumerate(scales)
    }


def write_hypotheses(
    out_dir: Path,
    hypotheses: Mapping[str, Hypothesis],
    references: Mapping[str, Sequence[str]] | None,
    summary: dict[str, Any],
) -> WordErrors | None:
    """Write ``hyp.txt``, ``ali.ark`` (transition-ids), ``costs.txt``, ``wer.txt``, last ``decode.json``."""
    lines = [" ".join([utt_id, *path.words]) for utt_id, path in hypotheses.items()]
    write_text(out_dir / "hyp.txt", "".join(f"{line}\n" for line in lines))
    write_int_vectors(
        f"ark:{out_dir / 'ali.ark'}",
        ((utt_id, path.transition_ids) for utt_id, path in hypotheses.items() if len(path.transition_ids)),
    )
    costs = (f"{utt_id} {p.graph_cost:.7g} {p.acoustic_cost:.7g}\n" for utt_id, p in hypotheses.items())
    write_text(out_dir / "costs.txt", "".join(costs))
    errors = None if references is None else word_errors(references, hypotheses)
    if errors is not None:
        write_text(out_dir / "wer.txt", f"{errors}\n")
        summary = summary | describe(errors)
    partial = [
        utt_id for utt_id, path in hypotheses.items() if len(path.transition_ids) and not path.is_complete
    ]
    for utt_id in partial:
        print(
            f"{utt_id}: no path reached the end of the graph; its best partial one is taken", file=sys.stderr
        )
    num_frames = int(np.sum([len(path.transition_ids) for path in hypotheses.values()]))
    counts = {"num_utterances": len(hypotheses), "num_frames": num_frames, "num_partial": len(partial)}
    write_json(out_dir / "decode.json", summary | counts)
    return errors


def describe(errors: WordErrors) -> dict[str, Any]:
    """``errors`` as JSON; ``wer`` is a share."""
    return {
        "wer": errors.wer,
        "errors": errors.total,
        "words": errors.num_words,
        "insertions": errors.insertions,
        "deletions": errors.deletions,
        "substitutions": errors.substitutions,
    }
