"""Small acoustic models and their files, written by the exporter."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from asr_bn.acoustic_model.experiment import ExperimentConfig
from asr_bn.acoustic_model.model import AcousticModel
from asr_bn.export.acoustic import export_onnx
from asr_bn.export.quantization import InputScale, quantize_onnx
from asr_bn.features.options import FbankOptions
from asr_bn.scoring.metadata import ModelMetadata
from asr_bn.scoring.scorer import AcousticScorer
from asr_bn.system.arrays import Floats

LENGTHS = [5, 31, 1, 17]
FBANK = FbankOptions(num_mel_bins=6)
NUM_PDFS = 11


def make_model(**options: object) -> AcousticModel:
    """Make a model of two layers of 8 with running statistics; ``options`` are of its configuration."""
    torch.manual_seed(0)
    config = ExperimentConfig().replace("model", num_layers=2, hidden_size=8, **options)
    model = AcousticModel(config.model, FBANK.num_features, NUM_PDFS)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, 1.0 if "gamma" in name else 0.0, 0.3)
    model.feats_mean.normal_(0.0, 3.0)
    model.feats_std.uniform_(0.5, 3.0)
    with torch.no_grad():  # running statistics, of more than one batch
        for _ in range(3):
            model(4 * torch.randn(4, 31, FBANK.num_features), torch.tensor(LENGTHS))
    return model.eval()


def make_metadata(**options: object) -> ModelMetadata:
    """What belongs to ``make_model`` with the same options."""
    config = ExperimentConfig().replace("model", num_layers=2, hidden_size=8, **options)
    return ModelMetadata(
        FBANK, 2, NUM_PDFS, list(range(NUM_PDFS)), config.to_dict(), {"dev_fer": 0.5}, {}, "0" * 64
    )


def utterances() -> list[Floats]:
    """Features of ``LENGTHS`` frames, without deltas."""
    random = np.random.default_rng(1)
    return [4 * random.normal(size=(n, FBANK.num_features)).astype(np.float32) for n in LENGTHS]


def write_kind(path: Path, kind: str = "float32", peephole: bool = False) -> AcousticScorer:
    """Write ``make_model`` as a kind that ``asr-bn export`` writes, and load it."""
    options = {"norm": "sequence", "peephole": peephole}
    model, metadata = make_model(**options), make_metadata(**options)
    export_onnx(model, metadata, path, half=kind == "float16")
    if kind == "int8":
        quantize_onnx(path, metadata, InputScale(model.feats_mean.numpy(), model.feats_std.numpy()), path)
    return AcousticScorer.load(path, "cpu", num_threads=1)
