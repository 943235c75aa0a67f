"""Does the exported model answer what the trained model answers?"""

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from asr_bn.acoustic_model import AcousticModel
from asr_bn.kaldi_io.matrix_table import MatrixScp
from asr_bn.posteriors import AcousticScorer

# Utterances compared in one ragged batch, beside each alone.
BATCH = 8


# Where PyTorch's own rounding is as large as this share of a difference, both models are right: in some
# utterances a network's states depend so strongly on each other that the last bits grow.
ROUNDING_SHARE = 0.1


@torch.no_grad()
def compare(model: AcousticModel, scorer: AcousticScorer, feats: MatrixScp, allowed: float) -> dict[str, Any]:
    """Largest difference in log posterior between PyTorch and ONNX Runtime over all utterances.

    Every utterance is scored by ONNX Runtime alone and in a ragged batch.

    Args:
        allowed: where a difference is larger, PyTorch's float32 is compared with float64.

    Returns:
        ``max_difference`` to the PyTorch model, the ``utt_id`` where it was, ``pytorch_rounding`` there (of
        float32 against float64), ``num_utterances``, ``batch_difference``, the largest difference between an
        utterance alone and in its batch, and ``unexplained``, the utterances whose difference is larger than
        ``allowed`` and than rounding explains.
    """
    differences: dict[str, float] = {}
    unexplained, batch_difference = [], 0.0
    utt_ids = list(feats.keys())
    for start in tqdm(range(0, len(utt_ids), BATCH), "parity", unit="batch", delay=2):
        group = utt_ids[start : start + BATCH]
        inputs = [scorer.with_deltas(feats[utt_id]) for utt_id in group]
        for utt_id, single, batched in zip(group, inputs, scorer.log_posteriors(inputs), strict=True):
            (alone,) = scorer.log_posteriors([single])
            batch_difference = max(batch_difference, float(np.abs(alone - batched).max()))
            expected = trained_log_posteriors(model, feats[utt_id])
            difference = max(float(np.abs(scores - expected).max()) for scores in (alone, batched))
            differences[utt_id] = difference
            if difference > allowed and ROUNDING_SHARE * difference > rounding(model, feats[utt_id]):
                unexplained.append(utt_id)
    worst = max(differences, key=lambda utt_id: differences[utt_id])
    return {
        "max_difference": differences[worst],
        "utt_id": worst,
        "pytorch_rounding": rounding(model, feats[worst]),
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


def rounding(model: AcousticModel, static_feats: NDArray[np.floating]) -> float:
    """Largest difference in log posterior between the model in float32 and in float64."""
    exact = trained_log_posteriors(copy.deepcopy(model).double(), static_feats)
    return float(np.abs(trained_log_posteriors(model, static_feats) - exact).max())
