"""Batch-normalized recurrent acoustic models: Kaldi alignments in, framewise posteriors out."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asr_bn.layers.batch_norm import BatchNormLSTM, BatchNormRNN

__all__ = ["BatchNormLSTM", "BatchNormRNN", "__version__"]

__version__ = "0.1.0"

# Read when ONNX Runtime is first imported: without it a database of its use is kept and sent to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    # Imported when first used: the server and the command line start without PyTorch.
    if name in ("BatchNormLSTM", "BatchNormRNN"):
        from asr_bn.layers import batch_norm as layers

        return getattr(layers, name)
    raise AttributeError(f"module 'asr_bn' has no attribute {name!r}")
