"""Does the exported model answer what the trained model answers?"""

from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from asr_bn.acoustic_model import AcousticModel
from asr_bn.kaldi_io.matrix_table import MatrixScp
from asr_bn.posteriors import AcousticScorer

# Utterances compared in one ragged batch, beside each alone.
BATCH = 8


@torch.no_grad()
def compare(model: AcousticModel, scorer: AcousticScorer, feats: MatrixScp) -> dict[str, Any]:
    """Largest difference in log posterior between PyTorch and ONNX Runtime over all utterances.

    Every utterance is scored by ONNX Runtime alone and in a ragged batch.

    Returns:
        ``max_difference`` to the PyTorch model, the ``utt_id`` where it was, ``num_utterances``, and
        ``batch_difference``, the largest difference between an utterance alone and in its batch.
    """
    worst, worst_utt_id, batch_difference = 0.0, "", 0.0
    utt_ids = list(feats.keys())
    for start in tqdm(range(0, len(utt_ids), BATCH), "parity", unit="batch", delay=2):
        group = utt_ids[start : start + BATCH]
        inputs = [scorer.with_deltas(feats[utt_id]) for utt_id in group]
        for utt_id, single, batched in zip(group, inputs, scorer.log_posteriors(inputs), strict=True):
            (alone,) = scorer.log_posteriors([single])
            batch_difference = max(batch_difference, float(np.abs(alone - batched).max()))
            static = torch.from_numpy(feats[utt_id])[None]
            expected = model(static, torch.tensor([static.shape[1]])).data.numpy()
            difference = max(float(np.abs(scores - expected).max()) for scores in (alone, batched))
            if difference >= worst:
                worst, worst_utt_id = difference, utt_id
    return {
        "max_difference": worst,
        "utt_id": worst_utt_id,
        "batch_difference": batch_difference,
        "num_utterances": len(utt_ids),
    }
