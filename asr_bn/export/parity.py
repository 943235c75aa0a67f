"""Does the exported model answer what the trained model answers?"""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from asr_bn.acoustic_model.model import AcousticModel
from asr_bn.kaldi_io.matrix_table import MatrixScp
from asr_bn.scoring.scorer import AcousticScorer

# Utterances compared in one ragged batch, beside each alone.
BATCH = 8

# In some utterances a network's states depend so strongly on each other that differences in the last bits
# grow.  Two right computations in float32 then differ by some times what the features' last bits make.
LAST_BITS = 10.0
_DRAWS = 4


@torch.no_grad()
def compare(model: AcousticModel, scorer: AcousticScorer, feats: MatrixScp, allowed: float) -> dict[str, Any]:
    """Largest difference in log posterior between PyTorch and ONNX Runtime over all utterances.

    Every utterance is scored by ONNX Runtime alone and in a ragged batch.

    Args:
        allowed: a larger difference must be explained by rounding (see `input_sensitivity`).

    Returns:
        ``max_difference`` to the PyTorch model, the ``utt_id`` where it was, ``input_sensitivity`` there,
        ``num_utterances``, ``batch_difference``, the largest difference between an utterance alone and in its
        batch, and ``unexplained``, the utterances whose difference rounding does not explain.

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
    return {
        "max_difference": differences[worst],
        "utt_id": worst,
        "input_sensitivity": input_sensitivity(model, feats[worst]),
        "batch_difference": batch_difference,
        "num_utterances": len(utt_ids),
        "unexplained": unexplained,
    }


@torch.no_grad()
def trained_log_posteriors(model: AcousticModel, static_feats: NDArray[np.floating]) -> NDArray[np.floating]:
    """The PyTorch model's log posteriors ``[num_frames, num_pdfs]``, in the precision of its parameters."""
    static = torch.from_numpy(static_feats)[None].to(model.feats_mean.dtype)
    rows: NDArray[np.floating] = model(static, torch.tensor([static.shape[1]])).data.numpy()
    return rows


def is_explained(
    difference: float, allowed: float, model: AcousticModel, static_feats: NDArray[np.floating]
) -> bool:
    """Whether ``difference`` is at most ``allowed`` and what rounding adds where the last bits grow."""
    if difference <= allowed:
        return True
    return difference <= allowed + LAST_BITS * input_sensitivity(model, static_feats)


def input_sensitivity(model: AcousticModel, static_feats: NDArray[np.floating]) -> float:
    """How much the last bits of float32 features change the log posteriors, at most: in float64, with random
    changes of up to 2^-23 of each value."""
    exact_model, random = copy.deepcopy(model).double(), np.random.default_rng(0)
    static = static_feats.astype(np.float64)
    exact, worst = trained_log_posteriors(exact_model, static), 0.0
    for _ in range(_DRAWS):
        changed = static * (1 + 2.0**-23 * random.uniform(-1, 1, static.shape))
        worst = max(worst, float(np.abs(trained_log_posteriors(exact_model, changed) - exact).max()))
    return worst
