"""The exported files of a checkpoint: float32, half precision, 8 bits with measured loss, from samples."""

import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path

from asr_bn.acoustic_model.evaluation import frame_error_rate
from asr_bn.acoustic_model.model import AcousticModel, load_model
from asr_bn.data.alignments import read_pdf_ids
from asr_bn.data.kaldi_system import require_system
from asr_bn.export.acoustic import export_onnx, metadata_of
from asr_bn.export.quantization import InputScale, quantize_onnx
from asr_bn.kaldi_io.matrix_table import MatrixScp
from asr_bn.scoring.metadata import ModelMetadata
from asr_bn.scoring.scorer import AcousticScorer
from asr_bn.system.files import sha256_of_file, write_json


def write_variants(
    checkpoint: Path,
    path: Path,
    int8: bool,
    float16: bool,
    with_frontend: Path | None,
    data: Path,
    ali: Path,
    train_ali: Path | None = None,
) -> Iterator[str]:
    """Write the requested files; yield a line about each.

    Args:
        train_ali: the training alignments, for a checkpoint that does not know its phones.

    Raises:
        OSError, ValueError: the checkpoint, ``train_ali`` or, for ``int8``, the development data cannot be
            read.
    """
    model, state = load_model(checkpoint)
    system = None if train_ali is None else require_system(train_ali)
    metadata = metadata_of(state, sha256_of_file(checkpoint), system)
    if int8:
        yield _write_int8(model, metadata, path, data, ali)
    else:
        export_onnx(model, metadata, path, half=float16)
    yield f"{path}: {path.stat().st_size / 1e6:.1f} MB"
    if with_frontend is not None:
        from asr_bn.export.frontend import export_with_frontend

        export_with_frontend(model, metadata, with_frontend)
        yield f"{with_frontend}: {with_frontend.stat().st_size / 1e6:.1f} MB, takes samples"


def _write_int8(model: AcousticModel, metadata: ModelMetadata, path: Path, data: Path, ali: Path) -> str:
    scale = InputScale(model.feats_mean.numpy(), model.feats_std.numpy())
    feats, pdf_ids = MatrixScp(data / "feats.scp"), read_pdf_ids(ali)
    with tempfile.TemporaryDirectory() as folder:
        full, draft = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        export_onnx(model, metadata, full)
        quantize_onnx(full, metadata, scale, draft)
        scorers = [AcousticScorer.load(file, "cpu", num_threads=1) for file in (full, draft)]
        before, after = (frame_error_rate(scorer, feats, pdf_ids) for scorer in scorers)
        figures = {"dev_fer_float32": before, "dev_fer_int8": after, "int8_fer_loss": after - before}
        quantize_onnx(full, dataclasses.replace(metadata, figures=metadata.figures | figures), scale, path)
    write_json(path.with_suffix(".json"), figures)
    return f"{path}: dev FER {before:.4f} in float32, {after:.4f} in 8 bits"
