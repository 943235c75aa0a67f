"""The models that a server holds, by name and version."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from asr_bn.kaldi_io.utterance_id import prefix_errors
from asr_bn.scoring.levels import Level, ScoreColumns
from asr_bn.scoring.metadata import ModelMetadata
from asr_bn.scoring.packed import BatchScorer, PackedScorer, batch_scorer
from asr_bn.scoring.scorer import AcousticScorer
from asr_bn.system.arrays import Floats
from serve.limits.refusal import Refusal

ALL_LEVELS: tuple[Level, ...] = ("pdf", "phone", "phone-class")


class ServedModel:
    """A model with its name and version; what the batcher calls.

    Args:
        name, version: under which it is asked for.
        scorer: what scores a batch.
        metadata: of its file.
        max_batch_size: utterances in a call at most.
        num_threads: of a call.
    """

    def __init__(
        self,
        name: str,
        version: str,
        scorer: BatchScorer,
        metadata: ModelMetadata,
        max_batch_size: int,
        num_threads: int = 1,
    ) -> None:
        self.name, self.version, self.metadata = name, version, metadata
        self.max_batch_size, self.num_threads = max_batch_size, num_threads
        self.is_padded = not isinstance(scorer, PackedScorer)
        known = ALL_LEVELS if metadata.system is not None else ALL_LEVELS[:1]
        self._columns = {level: ScoreColumns.of(metadata, level) for level in known}
        self._scorer = scorer
        self.num_utterances = self.num_calls = 0
        self._counting = threading.Lock()

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels at which scores can be asked for."""
        return tuple(self._columns)

    def columns(self, level: Level) -> ScoreColumns:
        """Return what the columns of scores are at ``level``.

        Raises:
            Refusal: 422 the model does not know its phones, which ``level`` needs.
        """
        if level not in self._columns:
            raise Refusal(422, f"level {level}: model {self.name!r} does not know its phones")
        return self._columns[level]

    def log_posteriors(self, feats: Sequence[Floats]) -> list[Floats]:
        """Score one call, each ``[num_frames, num_pdfs]`` (a `serve.batching.batch_policy.Scorer`)."""
        scores = self._scorer.log_posteriors(feats)
        with self._counting:
            self.num_calls += 1
            self.num_utterances += len(feats)
        return scores


@dataclass(frozen=True)
class LoadOptions:
    """How models are loaded; ``num_threads`` is for all calls that run at a time."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    num_threads: int = 2
    max_batch_size: int = 0


class ModelStore:
    """Models from a file, or from a folder laid out as ``NAME/VERSION/model.onnx``.

    Args:
        path: the file or folder.
        name: the name of a single file's model; empty: the file's name without its suffix.
        options: how to load.
    """

    def __init__(self, path: Path, name: str, options: LoadOptions) -> None:
        self.options = options
        self.files = model_files(path, name)
        # Replaced, never changed: a thread loads while the event loop goes through it.
        self._loaded: dict[str, dict[str, ServedModel]] = {}
        self._changing = threading.Lock()

    def load_all(self) -> None:
        """Load every model.

        Raises:
            ValueError, OSError: as :meth:`asr_bn.scoring.scorer.AcousticScorer.load`.
        """
        for name in self.files:
            self.load(name)

    def load(self, name: str) -> None:
        """Load all versions of a model, in place of those loaded before.

        Raises:
            Refusal: 404 the folder has no such model.
            ValueError, OSError: as :meth:`asr_bn.scoring.scorer.AcousticScorer.load`.
        """
        if name not in self.files:
            raise Refusal(404, f"no model {name!r}")
        versions = {
            version: self._load_file(name, version, file) for version, file in self.files[name].items()
        }
        with self._changing:
            self._loaded = self._loaded | {name: versions}

    def unload(self, name: str) -> None:
        """Forget a model; calls that use it end undisturbed.

        Raises:
            Refusal: 404 no such model is loaded.
        """
        with self._changing:
            if name not in self._loaded:
                raise Refusal(404, f"model {name!r} is not loaded")
            self._loaded = {other: versions for other, versions in self._loaded.items() if other != name}

    def get(self, name: str = "", version: str = "") -> ServedModel:
        """Return a loaded model: the folder's first without ``name``, the newest without ``version``.

        Which one is first does not change while models are loaded and unloaded.

        Raises:
            Refusal: 404 no such model or version is loaded.
        """
        name = name or next(iter(self.files))
        versions = self._loaded.get(name)
        if not versions:
            raise Refusal(404, f"model {name!r} is not loaded")
        if version and version not in versions:
            raise Refusal(404, f"model {name!r} has no version {version!r}")
        return versions[version or max(versions, key=int)]

    def all(self) -> list[ServedModel]:
        """Return every version of every loaded model."""
        return [model for versions in self._loaded.values() for model in versions.values()]

    def versions(self, name: str) -> list[str]:
        """Return the loaded versions of a model, oldest first."""
        return sorted(self._loaded.get(name, {}), key=int)

    def is_loaded(self, name: str) -> bool:
        """Say whether ``name`` can be used."""
        return name in self._loaded

    def _load_file(self, name: str, version: str, file: Path) -> ServedModel:
        options = self.options
        whole = AcousticScorer.load(file, options.device, num_threads=1)
        # With one thread for each direction a lone utterance is answered sooner, and a batch as soon.
        num_threads = min(2, options.num_threads)
        scorer = batch_scorer(whole, num_threads)
        # Quantized activations are scaled over the whole call, so that company would change an answer.
        batch = 1 if whole.is_quantized else options.max_batch_size or default_batch_size(whole.on_cuda)
        with prefix_errors(str(file)):
            return ServedModel(
                name, version, scorer, whole.metadata, batch, 1 if scorer is whole else num_threads
            )


def default_batch_size(on_cuda: bool) -> int:
    """Return 4 on a CPU, where more are no faster and cost memory (``bench/serve.py``), else 16."""
    return 16 if on_cuda else 4


def model_files(path: Path, name: str) -> dict[str, dict[str, Path]]:
    """Find the model files of a path, by name and version; ``name`` is a single file's, empty: its own.

    Raises:
        FileNotFoundError: there is neither file nor folder.
        ValueError: the folder holds no model.
    """
    if path.is_file():
        return {name or path.stem: {"1": path}}
    if not path.is_dir():
        raise FileNotFoundError(2, "no such model file or folder", str(path))
    found: dict[str, dict[str, Path]] = {}
    for file in sorted(path.glob("*/*/model.onnx")):
        if file.parent.name.isdigit():
            found.setdefault(file.parent.parent.name, {})[str(int(file.parent.name))] = file
    if not found:
        raise ValueError(f"{path}: no model in it, expected NAME/VERSION/model.onnx")
    return found
