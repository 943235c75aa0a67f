"""Framewise posteriors from an exported model, by ONNX Runtime; PyTorch is not needed."""

import ctypes.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from asr_bn.features.deltas import add_deltas
from asr_bn.onnx_io.model_check import check_model
from asr_bn.onnx_io.session import session_options
from asr_bn.scoring.metadata import METADATA_KEY, ModelMetadata
from asr_bn.system.arrays import Floats

Output = Literal["log_posterior", "posterior", "log_likelihood"]


class AcousticScorer:
    """An exported acoustic model, ready to score features.

    Args:
        session: of a file that :func:`asr_bn.export.acoustic.export_onnx` wrote.
        metadata: what the file says of itself.
        path: the file, from which long recordings and batches are scored layer by layer; None: there is none.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, metadata: ModelMetadata, path: Path | None = None
    ) -> None:
        self.session, self.metadata, self.path = session, metadata, path

    @classmethod
    def load(
        cls,
        path: Path,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        num_threads: int = 1,
    ) -> "AcousticScorer":
        """Load a model file.

        Args:
            path: the ONNX file.
            device: ``auto`` takes CUDA where ONNX Runtime has it and it can be started, else the CPU.
            num_threads: threads within one call.  More than one wait for each other at every time step, which
                takes a hundred times as long beside other work.

        Raises:
            ValueError: not an ONNX model, not one of ours (`asr_bn.onnx_io.model_check`), or CUDA was asked
                for and is not there.
            FileNotFoundError: there is no such file.
        """
        if not path.is_file():
            raise FileNotFoundError(2, "no such model file", str(path))
        check_model(path)
        options = session_options(num_threads)
        try:
            session = onnxruntime.InferenceSession(path, options, providers=_providers(device))
        except Exception as error:  # ONNX Runtime's own errors share no base class
            first_line = str(error).splitlines()[0]
            raise ValueError(f"{path}: ONNX Runtime cannot load it ({first_line})") from error
        if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
            raise ValueError(
                f"{path}: device 'cuda' was asked for, but ONNX Runtime could not start CUDA here"
            )
        return cls(session, _read_metadata(path, session), path)

    @property
    def on_cuda(self) -> bool:
        """Whether CUDA does the work."""
        return "CUDAExecutionProvider" in self.session.get_providers()

    @property
    def is_quantized(self) -> bool:
        """Whether the file is one of ``asr-bn export --int8`` (its figures tell)."""
        return "dev_fer_int8" in self.metadata.figures

    def with_deltas(self, feats: NDArray[np.floating]) -> Floats:
        """`with_deltas` for this model."""
        return with_deltas(feats, self.metadata)

    def log_posteriors(self, feats: Sequence[Floats]) -> list[Floats]:
        """Log posteriors of one or more utterances, in one call of ONNX Runtime.

        Args:
            feats: for each utterance ``[num_frames, num_features]``, at least one frame.

        Returns:
            For each utterance ``[num_frames, num_pdfs]``.  On the CPU they do not depend on what else is in
            the call, bit for bit.
        """
        if not feats:
            return []  # ONNX Runtime's LSTM ends the process on a batch of none
        lengths = np.array([len(utterance) for utterance in feats], dtype=np.int32)
        padded = np.zeros((len(feats), lengths.max(), self.metadata.num_features), dtype=np.float32)
        for row, utterance in enumerate(feats):
            padded[row, : len(utterance)] = utterance
        inputs: dict[str, Any] = {"features": padded, "lengths": lengths}
        (scores,) = self.session.run(["log_posteriors"], inputs)
        return [scores[row, :length] for row, length in enumerate(lengths)]


def with_deltas(feats: NDArray[np.floating], metadata: ModelMetadata) -> Floats:
    """Features as a model takes them, ``[num_frames, num_features]``, from static or complete ones.

    Raises:
        ValueError: another number of columns, no frames, or a value that is not finite.
    """
    expected = f"[num_frames, {metadata.num_static}] or [num_frames, {metadata.num_features}]"
    if feats.ndim != 2 or feats.shape[1] not in (metadata.num_static, metadata.num_features):
        raise ValueError(f"features have shape {list(feats.shape)}, expected {expected}")
    if len(feats) == 0:
        raise ValueError("features have no frames, expected at least one")
    values = np.asarray(feats, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError("features hold a value that is not finite")
    complete = values.shape[1] == metadata.num_features
    return values if complete else add_deltas(values, metadata.delta_order)


def convert(
    log_posteriors: Floats,
    log_priors: Floats,
    output: Output,
    prior_scale: float = 1.0,
    acoustic_scale: float = 1.0,
) -> Floats:
    """Log posteriors, shape ``[num_frames, num_pdfs]``, as they are, as posteriors, or less the log priors.

    ``acoustic_scale * (log_posterior - prior_scale * log_prior)`` is what ``log_likelihood`` gives.
    """
    if output == "posterior":
        return np.exp(log_posteriors)
    if output == "log_posterior":
        return log_posteriors
    log_likelihoods = log_posteriors - (
        log_priors if prior_scale == 1 else np.float32(prior_scale) * log_priors
    )
    return log_likelihoods if acoustic_scale == 1 else np.float32(acoustic_scale) * log_likelihoods


def check_prior_floor(floor: float) -> None:
    """Raise ``ValueError`` unless ``floor`` is a probability below 1."""
    if not 0 <= floor < 1:
        raise ValueError(f"prior floor {floor}: expected a probability, 0 to 1")


def floored(log_priors: Floats, floor: float) -> Floats:
    """``log_priors`` with no prior below ``floor`` (a probability); 0 leaves them as they are.

    Raises:
        ValueError: a floor outside 0 to 1.
    """
    check_prior_floor(floor)
    return np.maximum(log_priors, np.float32(np.log(floor))) if floor else log_priors


def _providers(device: str) -> list[str]:
    if device == "cpu" or (device == "auto" and not _has_cuda_driver()):
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return ["CPUExecutionProvider"]
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA's libraries as wheels, which the loader does not look for
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def _has_cuda_driver() -> bool:
    """Without it ONNX Runtime would only complain at length on its way to the CPU."""
    return ctypes.util.find_library("cuda") is not None or Path("/dev/nvidiactl").exists()


def _read_metadata(path: Path, session: onnxruntime.InferenceSession) -> ModelMetadata:
    properties = session.get_modelmeta().custom_metadata_map
    if METADATA_KEY not in properties:
        raise ValueError(f"{path}: not a model that asr-bn exported (it has no '{METADATA_KEY}' metadata)")
    try:
        metadata = ModelMetadata.from_json(properties[METADATA_KEY])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for tensors, name, wanted in (
        (session.get_inputs(), "features", metadata.num_features),
        (session.get_outputs(), "log_posteriors", metadata.num_pdfs),
    ):
        shape = next((tensor.shape for tensor in tensors if tensor.name == name), [wanted])
        if shape[-1:] != [wanted]:
            raise ValueError(f"{path}: {name} of shape {shape}, its metadata say {wanted} columns")
    return metadata
