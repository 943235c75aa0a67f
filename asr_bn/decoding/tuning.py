"""Acoustic scale and word penalty, chosen on development data by the words that lattices have under each."""

import math
from collections.abc import Callable, Mapping, Sequence

from asr_bn.decoding.lattices.decoder import DEFAULT_SCALE
from asr_bn.decoding.references import References, Words
from asr_bn.decoding.search_options import ScoreWeights
from asr_bn.decoding.word_errors import WordErrors

# Kaldi's scoring tries 1/7 to 1/17; networks trained frame by frame may want more.
SCALES = tuple(1 / divisor for divisor in (20, 17, 15, 13, 11, 10, 9, 7, 5, 3))
# As Kaldi's score.sh.
PENALTIES = (0.0, 0.5, 1.0)

Errors = dict[ScoreWeights, WordErrors]


def candidates(acoustic_scale: float | None, word_penalty: float | None) -> list[ScoreWeights]:
    """List the weights to try: what is given stays, and a given scale without a penalty has none."""
    if acoustic_scale is not None:
        return [ScoreWeights(acoustic_scale, word_penalty or 0.0)]
    penalties = PENALTIES if word_penalty is None else (word_penalty,)
    return [ScoreWeights(scale, penalty) for penalty in penalties for scale in SCALES]


def count_errors_of(
    tried: Sequence[ScoreWeights], references: References, words_of: Callable[[ScoreWeights], Words]
) -> Errors:
    """Count errors with the first penalty and all scales, then with other penalties near the best scale."""
    first = [weights for weights in tried if weights.word_penalty == tried[0].word_penalty]
    errors = {weights: references.errors(words_of(weights)) for weights in first}
    best = best_weights(errors)
    if not errors[best].total:
        return errors
    place = first.index(best)
    near = {weights.acoustic_scale for weights in first[max(place - 1, 0) : place + 2]}
    others = [each for each in tried if each not in errors and each.acoustic_scale in near]
    return errors | {weights: references.errors(words_of(weights)) for weights in others}


def best_weights(errors: Mapping[ScoreWeights, WordErrors]) -> ScoreWeights:
    """Choose weights with the fewest errors; of equals the scale nearest to 0.1, then the lowest penalty."""

    def rank(weights: ScoreWeights) -> tuple[int, float, float]:
        distance = abs(math.log(weights.acoustic_scale / DEFAULT_SCALE))
        return errors[weights].total, distance, weights.word_penalty

    return min(errors, key=rank)


def describe_tuning(errors: Mapping[ScoreWeights, WordErrors]) -> dict[str, object]:
    """Sum up what was tried, for ``decode.json``; nothing where nothing was."""
    if not errors:
        return {}
    by_scale: dict[str, WordErrors] = {}
    for weights, value in errors.items():
        scale = f"{weights.acoustic_scale:.4f}"
        by_scale[scale] = min(value, by_scale.get(scale, value), key=lambda each: each.total)
    return {
        "wer_by_scale": {scale: share(value) for scale, value in by_scale.items()},
        "tried": [{**vars(weights), "wer": share(value)} for weights, value in errors.items()],
    }


def share(errors: WordErrors) -> float | None:
    """Return the word error rate; None where there are no words."""
    return errors.wer if math.isfinite(errors.wer) else None
