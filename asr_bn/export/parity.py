"""Parity of the exported model with the trained one."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from asr_bn.acoustic_model.model import AcousticModel
from asr_bn.kaldi_io.matrix_table import MatrixScp
from asr_bn.scoring.scorer import AcousticScorer

# Utterances compared in one ragged batch, beside each alone.
BATCH = 8

# A network may amplify rounding errors of its features.  Two right computations in float32 then differ by
# up to this many times the input sensitivity.
_SENSITIVITY_FACTOR = 10.0
_DRAWS = 4


@dataclass(frozen=True)
class Parity:
    """Largest differences in log posterior between PyTorch and ONNX Runtime.

    Attributes:
        max_difference: over all utterances, each alone and in a batch.
        utt_id: where it was.
        input_sensitivity: there; see the function of that name.
        batch_difference: between an utterance alone and in its batch.
        num_utterances: compared.
        unexplained: utterances whose difference rounding does not explain.
    """

    max_difference: float
    utt_id: str
    input_sensitivity: float
    batch_difference: float
    num_utterances: int
    unexplained: list[str]


@torch.no_grad()
def compare(model: AcousticModel, scorer: AcousticScorer, feats: MatrixScp, allowed: float) -> Parity:
    """Compare the PyTorch model with the exported one, on every utterance alone and in a ragged batch.

    Args:
        model: in evaluation mode.
        scorer: of the exported model.
        feats: static features.
        allowed: a larger difference must be explained by rounding (see `input_sensitivity`).

    Raises:
        ValueError: no utterance has a frame.
    """
    differences: dict[str, float] = {}
    unexplained, batch_difference = [], 0.0
    utt_ids = [utt_id for utt_id in feats if feats.num_frames(utt_id)]
    if not utt_ids:
        raise ValueError(f"{feats.path}: no utterance with frames to compare")
    for start in tqdm(range(0, len(utt_ids), BATCH), "parity", unit="batch", delay=2):
        group = utt_ids[start : start + BATCH]
        statics = [feats[utt_id] for utt_id in group]
        inputs = [scorer.with_deltas(static) for static in statics]
        answers = scorer.log_posteriors(inputs)
        for utt_id, static, single, batched in zip(group, statics, inputs, answers, strict=True):
            (alone,) = scorer.log_posteriors([single])
            batch_difference = max(batch_difference, float(np.abs(alone - batched).max()))
            expected = trained_log_posteriors(model, static)
            difference = max(float(np.abs(scores - expected).max()) for scores in (alone, batched))
            differences[utt_id] = difference
            if not is_explained(difference, allowed, model, static):
                unexplained.append(utt_id)
    worst = max(differences, key=lambda utt_id: differences[utt_id])
    sensitivity = input_sensitivity(model, feats[worst])
    return Parity(differences[worst], worst, sensitivity, batch_difference, len(utt_ids), unexplained)


@torch.no_grad()
def trained_log_posteriors(model: AcousticModel, static_feats: NDArray[np.floating]) -> NDArray[np.floating]:
    """Compute the PyTorch model's log posteriors ``[num_frames, num_pdfs]`` in its parameters' precision."""
    static = torch.from_numpy(static_feats)[None].to(model.feats_mean.dtype)
    rows: NDArray[np.floating] = model(static, torch.tensor([static.shape[1]])).data.numpy()
    return rows


def is_explained(
    difference: float, allowed: float, model: AcousticModel, static_feats: NDArray[np.floating]
) -> bool:
    """Return whether ``difference`` is at most ``allowed`` and what rounding of the features explains."""
    if difference <= allowed:
        return True
    return difference <= allowed + _SENSITIVITY_FACTOR * input_sensitivity(model, static_feats)


def input_sensitivity(model: AcousticModel, static_feats: NDArray[np.floating]) -> float:
    """Measure how much float32 rounding of the features changes the log posteriors, at most.

    The model is computed in float64, on features with random relative changes of up to 2^-23.
    """
    exact_model, random = copy.deepcopy(model).double(), np.random.default_rng(0)
    static = static_feats.astype(np.float64)
    exact, worst = trained_log_posteriors(exact_model, static), 0.0
    for _ in range(_DRAWS):
        changed = static * (1 + 2.0**-23 * random.uniform(-1, 1, static.shape))
        worst = max(worst, float(np.abs(trained_log_posteriors(exact_model, changed) - exact).max()))
    return worst
