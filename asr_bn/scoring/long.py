"""Long recordings in bounded memory: layer by layer, a piece of each direction at a time.

A bidirectional network needs the whole recording, but not at once.  A layer's forward recurrence runs from
piece to piece with its state carried over, the backward one from the end.  Only the layer's hidden states
are kept, in temporary files.  In float32 the answers are those of one call, bit for bit.  An 8-bit
model scales its activations by the largest of a call, here of a piece: `deviation` measures what that moves.
"""

import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from tqdm import tqdm

from asr_bn.scoring.layer_sessions import Direction, ModelLayers
from asr_bn.system.arrays import Floats
from asr_bn.system.files import naming_errors

# Frames of a piece.
PIECE_FRAMES = 2000
# Utterances with more frames or scores are scored layer by layer: a call takes several times their memory.
LONG_FRAMES = 30_000
LONG_SCORES = 32_000_000


def most_frames(num_pdfs: int) -> int:
    """Return the number of frames up to which an utterance is scored in one call."""
    return min(LONG_FRAMES, LONG_SCORES // num_pdfs)


@dataclass(frozen=True)
class Deviation:
    """How far pieces are from one call, over ``num_frames`` frames.

    ``largest`` and ``mean`` are differences in log posterior; ``share_of_frames`` have another best pdf.
    """

    largest: float
    mean: float
    share_of_frames: float
    num_frames: int

    def __str__(self) -> str:
        return (
            f"log posteriors by {self.mean:.1e} on average, {self.largest:.1e} at most, and the best pdf of "
            f"{100 * self.share_of_frames:.2f} % of {self.num_frames} frames"
        )


class LayerwiseScorer:
    """The layers of an exported model as sessions of their own, on the CPU.

    Args:
        path: the ONNX file; one with half-precision weights is computed in float32.
        num_threads: from two on, both directions run at a time.

    Attributes:
        is_exact: the answers are those of one call, bit for bit.

    Raises:
        ValueError: not a model that ``asr-bn export`` wrote.
    """

    def __init__(self, path: Path, num_threads: int = 1) -> None:
        model = ModelLayers(path)
        self.is_exact = model.is_exact
        self._num_at_once = min(num_threads, 2)
        self._layers = model.sessions(num_threads)

    def log_posteriors(self, feats: Floats, quiet: bool = False) -> Iterator[Floats]:
        """Yield log posteriors of ``feats`` ``[num_frames, num_features]``, in pieces of rows.

        Raises:
            OSError: no room for the hidden states in the folder for temporary files.
        """
        pieces = [slice(k, min(k + PIECE_FRAMES, len(feats))) for k in range(0, len(feats), PIECE_FRAMES)]
        hidden: _Features | _HiddenStates = _Features(feats, self._layers.mean, self._layers.std)
        total = 2 * len(self._layers.directions) * len(pieces)
        with (
            tqdm(total=total, desc="long recording", unit="piece", delay=2, disable=quiet) as progress,
            ThreadPoolExecutor(self._num_at_once) as pool,
        ):
            for sessions in self._layers.directions:
                output = _HiddenStates(self._layers.hidden_size)
                running = [
                    pool.submit(self._run, session, hidden, output, pieces, direction, progress)
                    for direction, session in enumerate(sessions)
                ]
                for direction in running:
                    direction.result()
                hidden.close()
                hidden = output
        for piece in pieces:
            yield self._layers.output.run(None, {"X": hidden.read(piece)[:, None]})[0][:, 0]
        hidden.close()

    def deviation(self, feats: Floats, expected: Floats) -> Deviation:
        """Compare with ``expected`` ``[num_frames, num_pdfs]``, the answer of one call to ``feats``."""
        largest, total, differing, start = 0.0, 0.0, 0, 0
        for rows in self.log_posteriors(feats, quiet=True):
            theirs = expected[start : start + len(rows)]
            difference = np.abs(rows - theirs)
            largest, total = max(largest, float(difference.max())), total + float(difference.sum())
            differing += int((rows.argmax(1) != theirs.argmax(1)).sum())
            start += len(rows)
        return Deviation(largest, total / expected.size, differing / start, start)

    def _run(
        self,
        session: Direction,
        hidden: "_Features | _HiddenStates",
        output: "_HiddenStates",
        pieces: list[slice],
        direction: int,
        progress: "tqdm[NoReturn]",
    ) -> None:
        h = c = np.zeros((1, 1, self._layers.hidden_size), dtype=np.float32)
        for piece in reversed(pieces) if direction else pieces:
            y, h, c = session.run(None, {"X": hidden.read(piece)[:, None], "h": h, "c": c})
            output.write(direction, piece, y[:, 0, 0])
            progress.update()


class _Features:
    """The input of the first layer, normalized where the model does not do that in its weights."""

    def __init__(self, feats: Floats, mean: Floats | None, std: Floats | None) -> None:
        self._feats, self._mean, self._std = feats, mean, std

    def read(self, piece: slice) -> Floats:
        feats = self._feats[piece]
        return feats if self._mean is None or self._std is None else (feats - self._mean) / self._std

    def close(self) -> None:
        pass


class _HiddenStates:
    """What a layer gives the next one, ``[num_frames, 2 * hidden_size]``: a temporary file each direction."""

    def __init__(self, hidden_size: int) -> None:
        self._files = [tempfile.TemporaryFile() for _ in (0, 1)]  # noqa: SIM115 - closed by close()
        self._row_bytes = 4 * hidden_size
        self._lock = threading.Lock()

    def write(self, direction: int, piece: slice, rows: Floats) -> None:
        with naming_errors(tempfile.gettempdir()), self._lock:
            self._files[direction].seek(piece.start * self._row_bytes)
            self._files[direction].write(np.ascontiguousarray(rows).tobytes())

    def read(self, piece: slice) -> Floats:
        num_rows = piece.stop - piece.start
        halves = []
        with self._lock:
            for file in self._files:
                file.seek(piece.start * self._row_bytes)
                halves.append(np.frombuffer(file.read(num_rows * self._row_bytes), dtype=np.float32))
        return np.concatenate([half.reshape(num_rows, -1) for half in halves], axis=1)

    def close(self) -> None:
        for file in self._files:
            file.close()
