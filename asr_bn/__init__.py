"""Batch-normalized recurrent acoustic models: Kaldi alignments in, framewise posteriors out."""

import os

import lazy_loader as lazy

__version__ = "0.1.0"

# ONNX Runtime reads this when first imported: otherwise it records its use and sends that to its makers.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Loaded at first use: the server and the command line start without PyTorch.
__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
