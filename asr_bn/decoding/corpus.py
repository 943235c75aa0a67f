"""Decoding a corpus: from features to words, acoustic scale and word penalty chosen on development data."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from asr_bn.decoding.beam_search import NOTHING, Hypothesis, ScoreWeights
from asr_bn.decoding.references import References, TuningData, Words
from asr_bn.decoding.word_errors import WordErrors
from asr_bn.decoding.workers import SearchJob, decode_all
from asr_bn.kaldi_io.int_vector_table import write_int_vectors
from asr_bn.scoring.corpus import score_blocks
from asr_bn.scoring.inputs import ScoringInput
from asr_bn.scoring.scorer import AcousticScorer, floor_priors, to_output
from asr_bn.system.files import write_json, write_text

# Kaldi's scoring tries 1/7 to 1/17; networks trained frame by frame may need more.
SCALES = tuple(1 / divisor for divisor in (20, 17, 15, 13, 11, 10, 9, 7, 5, 3))
DEFAULT_SCALE = 0.1
# As in Kaldi's score.sh; 0 is tried with the scales.
PENALTIES = (0.5, 1.0)
Summary = dict[str, object]
"""What ``decode.json`` holds."""


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

    def decode(self, data_dir: str, weights: Sequence[ScoreWeights]) -> dict[str, list[Hypothesis]]:
        """Decode every utterance with each of ``weights``; utterances without frames have no words."""
        feats, total = self.source.feats([data_dir])
        log_priors = floor_priors(self.scorer.metadata.log_priors, self.prior_floor)
        empty: list[str] = []
        log_likelihoods = (
            scores.mapped(lambda rows: to_output(rows, log_priors, "log_likelihood", self.prior_scale))
            for scores in score_blocks(self.scorer, feats, self.num_jobs, empty.append)
        )
        decoded = decode_all(self.job, log_likelihoods, weights, self.num_jobs)
        hypotheses = dict(tqdm(decoded, "decode", total, unit="utt", delay=2))
        if not hypotheses:
            raise ValueError(f"{data_dir}: nothing to decode ({len(empty)} utterances without frames)")
        for utt_id in empty:
            print(f"{utt_id}: no frames (shorter than one frame): no words", file=sys.stderr)
            hypotheses[utt_id] = [NOTHING] * len(weights)
        return hypotheses


def decode_tuned(
    decoder: CorpusDecoder,
    data_dir: Path,
    tuning: TuningData | None,
    acoustic_scale: float | None = None,
    word_penalty: float | None = None,
) -> tuple[dict[str, Hypothesis], Summary]:
    """Decode ``data_dir`` with the best weights; return its hypotheses and a summary of the weights.

    Args:
        tuning: the development data; None takes ``acoustic_scale``, or 0.1.
        acoustic_scale: used as it is; None chooses the one with the fewest word errors on ``tuning``.
        word_penalty: None chooses it there too, or is 0 where the scale is given.
    """
    if tuning is None or acoustic_scale is not None:
        best = ScoreWeights(acoustic_scale or DEFAULT_SCALE, word_penalty or 0.0)
        return _only(decoder.decode(str(data_dir), [best]), 0), _summary_of(best, None, {})
    errors, hypotheses = tune(decoder, str(tuning.folder), tuning.references, word_penalty)
    best = best_weights(errors)
    if tuning.folder != data_dir:
        hypotheses = _only(decoder.decode(str(data_dir), [best]), 0)
    return hypotheses, _summary_of(best, tuning.folder, errors)


def tune(
    decoder: CorpusDecoder, data_dir: str, references: References, word_penalty: float | None
) -> tuple[dict[ScoreWeights, WordErrors], dict[str, Hypothesis]]:
    """Count errors with all scales, then with penalties near the best; return the best hypotheses too."""
    weights = [ScoreWeights(scale, word_penalty or 0.0) for scale in SCALES]
    hypotheses = decoder.decode(data_dir, weights)
    errors = errors_by_weights(references, hypotheses, weights)
    best = best_weights(errors)
    kept = _only(hypotheses, weights.index(best))
    if word_penalty is not None or not errors[best].total:
        return errors, kept
    index = SCALES.index(best.acoustic_scale)
    near = SCALES[max(index - 1, 0) : index + 2]
    weights = [ScoreWeights(scale, penalty) for scale in near for penalty in PENALTIES]
    hypotheses = decoder.decode(data_dir, weights)
    errors |= errors_by_weights(references, hypotheses, weights)
    best = best_weights(errors)
    return errors, _only(hypotheses, weights.index(best)) if best in weights else kept


def _summary_of(
    best: ScoreWeights, tuned_on: Path | None, errors: Mapping[ScoreWeights, WordErrors]
) -> Summary:
    summary: Summary = {"acoustic_scale": best.acoustic_scale, "word_penalty": best.word_penalty}
    summary["tuned_on"] = None if tuned_on is None else str(tuned_on)
    if errors:
        by_scale: dict[str, WordErrors] = {}
        for weights, value in errors.items():
            scale = f"{weights.acoustic_scale:.4f}"
            by_scale[scale] = min(value, by_scale.get(scale, value), key=lambda each: each.total)
        summary["wer_by_scale"] = {scale: _share(value) for scale, value in by_scale.items()}
        summary["tried"] = [{**vars(weights), "wer": _share(value)} for weights, value in errors.items()]
    return summary


def _only(hypotheses: Mapping[str, list[Hypothesis]], index: int) -> dict[str, Hypothesis]:
    return {utt_id: paths[index] for utt_id, paths in hypotheses.items()}


def _words(hypotheses: Mapping[str, Hypothesis]) -> Words:
    return {utt_id: path.words for utt_id, path in hypotheses.items()}


def best_weights(errors: Mapping[ScoreWeights, WordErrors]) -> ScoreWeights:
    """Choose weights with the fewest errors; of equals the scale nearest to 0.1, then the lowest penalty."""

    def rank(weights: ScoreWeights) -> tuple[int, float, float]:
        distance = abs(math.log(weights.acoustic_scale / DEFAULT_SCALE))
        return errors[weights].total, distance, weights.word_penalty

    return min(errors, key=rank)


def errors_by_weights(
    references: References, hypotheses: Mapping[str, list[Hypothesis]], weights: Sequence[ScoreWeights]
) -> dict[ScoreWeights, WordErrors]:
    """Count errors with each of ``weights``."""
    each = [_words(_only(hypotheses, index)) for index in range(len(weights))]
    return {weight: references.errors(words) for weight, words in zip(weights, each, strict=True)}


def write_hypotheses(
    out_dir: Path,
    hypotheses: Mapping[str, Hypothesis],
    references: References | None,
    summary: Summary,
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
    errors = None if references is None else references.errors(_words(hypotheses))
    if errors is not None:
        write_text(out_dir / "wer.txt", f"{errors}\n")
        summary |= describe(errors)
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


def describe(errors: WordErrors) -> Summary:
    """Convert errors to JSON; ``wer`` is a share, or null where no reference has a word."""
    return {
        "wer": _share(errors),
        "errors": errors.total,
        "words": errors.num_words,
        "insertions": errors.insertions,
        "deletions": errors.deletions,
        "substitutions": errors.substitutions,
    }


def _share(errors: WordErrors) -> float | None:
    return errors.wer if errors.num_words else None
