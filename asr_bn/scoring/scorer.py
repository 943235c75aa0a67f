"""Framewise posteriors of an exported model, without PyTorch.

scorer = AcousticScorer.load("model.onnx")
log_posteriors = scorer("speech.wav")  # [num_frames, num_pdfs]
of_phones, names = scorer("speech.wav", level="phone"), scorer.columns("phone").names
"""

import ctypes.util
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from asr_bn.features.deltas import add_deltas
from asr_bn.onnx_io.model_check import is_quantized
from asr_bn.onnx_io.session import open_session, parse_metadata, session_options
from asr_bn.scoring.levels import Level, ScoreColumns
from asr_bn.scoring.long import LayerwiseScorer, most_frames
from asr_bn.scoring.metadata import METADATA_KEY, ModelMetadata
from asr_bn.system.arrays import Floats

Output = Literal["log_posterior", "posterior", "log_likelihood"]


class AcousticScorer:
    """An exported acoustic model, called with an audio file or with features.

    Attributes:
        session: of ONNX Runtime.
        metadata: as the exporter wrote them into the file.
        path: the ONNX file.
        is_quantized: the model has 8-bit weights and activations.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        metadata: ModelMetadata,
        path: Path,
        is_quantized: bool = False,
    ) -> None:
        self.session, self.metadata, self.path, self.is_quantized = session, metadata, path, is_quantized
        self._columns: dict[Level, ScoreColumns] = {}

    @classmethod
    def load(
        cls, path: str | Path, device: Literal["auto", "cpu", "cuda"] = "auto", num_threads: int = 1
    ) -> "AcousticScorer":
        """Load a model file that ``asr-bn export`` wrote.

        Args:
            path: the ONNX file.
            device: ``auto`` takes CUDA where ONNX Runtime can start it, else the CPU.
            num_threads: threads within one call.  They wait for each other at every time step: beside other
                work, several take a hundred times as long as one.

        Raises:
            ValueError: the file is not such a model, or CUDA was asked for and cannot be started.
            FileNotFoundError: there is no such file.
        """
        path = Path(path)
        session, operators = open_session(path, session_options(num_threads), _providers(device))
        if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
            raise ValueError(
                f"{path}: device 'cuda' was asked for, but ONNX Runtime could not start CUDA here"
            )
        return cls(session, _read_metadata(path, session), path, is_quantized(operators))

    def columns(self, level: Level) -> ScoreColumns:
        """Return names, log priors and sums of scores at ``level``.

        Raises:
            ValueError: the model does not know its phones, which ``level`` needs.
        """
        if level not in self._columns:
            self._columns[level] = ScoreColumns.of(self.metadata, level)
        return self._columns[level]

    def __call__(self, utterance: str | Path | NDArray[np.floating], level: Level = "pdf") -> Floats:
        """Return the log posteriors of one utterance, ``[num_frames, num_pdfs]``, or of its phones.

        Long recordings are scored layer by layer, in bounded memory but for the result.

        Args:
            utterance: an audio file with one channel, at the model's sample rate; or features ``[num_frames,
                num_features]``, with deltas or static.
            level: ``"phone"`` or ``"phone-class"`` gives ``[num_frames, num_phones]``, whose columns are
                :attr:`ScoreColumns.names`.

        Raises:
            OSError: no such audio file.
            ValueError: audio that cannot be read or has another rate, features that do not fit the model, no
                frames, or a level of phones where the model does not know them.
        """
        columns = self.columns(level)
        if isinstance(utterance, np.ndarray):
            feats = self.with_deltas(utterance, "features")
        else:
            feats = self.with_deltas(self._audio_feats(Path(utterance)), str(utterance))
        if len(feats) <= most_frames(self.metadata.num_pdfs):
            return columns.log_posteriors(self.log_posteriors([feats])[0])
        blocks = LayerwiseScorer(self.path).log_posteriors(feats)
        return np.concatenate([columns.log_posteriors(rows) for rows in blocks])

    def _audio_feats(self, path: Path) -> Floats:
        from asr_bn.scoring.inputs import ScoringInput

        return ScoringInput(self.metadata.fbank).audio_feats(path)

    @property
    def on_cuda(self) -> bool:
        """True if CUDA does the work."""
        return "CUDAExecutionProvider" in self.session.get_providers()

    def with_deltas(self, feats: NDArray[np.floating], name: str = "") -> Floats:
        """Append deltas if needed; see the function `with_deltas`, whose errors then begin with ``name``."""
        try:
            return with_deltas(feats, self.metadata)
        except ValueError as error:
            raise ValueError(f"{name}: {error}" if name else str(error)) from error

    def log_posteriors(self, feats: Sequence[Floats]) -> list[Floats]:
        """Score utterances in one call of ONNX Runtime.

        Args:
            feats: for each utterance ``[num_frames, num_features]``, at least one frame.

        Returns:
            Log posteriors of each utterance, ``[num_frames, num_pdfs]``.  On the CPU each has the same bits
            whatever else is in the call.
        """
        if not feats:
            return []  # ONNX Runtime's LSTM ends the process on a batch of none
        lengths = np.array([len(utterance) for utterance in feats], dtype=np.int32)
        padded = np.zeros((len(feats), lengths.max(), self.metadata.num_features), dtype=np.float32)
        for row, utterance in enumerate(feats):
            padded[row, : len(utterance)] = utterance
        inputs = {"features": padded, "lengths": lengths}
        (scores,) = self.session.run(["log_posteriors"], inputs)
        return [scores[row, :length] for row, length in enumerate(lengths)]


def with_deltas(feats: NDArray[np.floating], metadata: ModelMetadata) -> Floats:
    """Append deltas to static features; complete ones, ``[num_frames, num_features]``, stay as they are.

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


def to_output(
    log_posteriors: Floats,
    log_priors: Floats,
    output: Output,
    prior_scale: float = 1.0,
    acoustic_scale: float = 1.0,
) -> Floats:
    """Turn log posteriors ``[num_frames, num_pdfs]`` into ``output``.

    A scaled log likelihood is ``acoustic_scale * (log_posterior - prior_scale * log_prior)``.
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


def floor_priors(log_priors: Floats, floor: float) -> Floats:
    """Raise log priors below ``floor`` (a probability) to it; 0 changes none.

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
    """Avoid ONNX Runtime's long warnings where it would fall back to the CPU anyway."""
    return ctypes.util.find_library("cuda") is not None or Path("/dev/nvidiactl").exists()


def _read_metadata(path: Path, session: onnxruntime.InferenceSession) -> ModelMetadata:
    properties = session.get_modelmeta().custom_metadata_map
    metadata = parse_metadata(path, properties, METADATA_KEY, ModelMetadata.from_json)
    for tensors, name, wanted in (
        (session.get_inputs(), "features", metadata.num_features),
        (session.get_outputs(), "log_posteriors", metadata.num_pdfs),
    ):
        shape = next((tensor.shape for tensor in tensors if tensor.name == name), [wanted])
        if shape[-1:] != [wanted]:
            raise ValueError(f"{path}: {name} of shape {shape}, its metadata say {wanted} columns")
    return metadata
