"""One development utterance as both networks see it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr_bn.data.alignments import read_pdf_ids
from asr_bn.kaldi_io.matrix_table import MatrixScp
from asr_bn.report.results import MODELS
from asr_bn.scoring.levels import Level
from asr_bn.scoring.metadata import ModelMetadata
from asr_bn.scoring.scorer import AcousticScorer
from asr_bn.system.arrays import Floats, IntVector


@dataclass(frozen=True)
class Example:
    """A development utterance.

    Attributes:
        utt_id: its name.
        feats: static features, ``[num_frames, num_static]``, energy first.
        phones: names of the phones that occur in its alignment, in order of first appearance.
        aligned: index into ``phones`` of every frame, ``[num_frames]``.
        posteriors: for each model, of these phones, ``[num_frames, len(phones)]``.
        frame_shift_ms: time from frame to frame.
    """

    utt_id: str
    feats: NDArray[np.floating]
    phones: list[str]
    aligned: NDArray[np.int64]
    posteriors: dict[str, Floats]
    frame_shift_ms: float


def score_example(out: Path, feats_dir: Path, ali_dir: Path, seconds: float = 3.0) -> Example:
    """Score the development utterance whose length is nearest to ``seconds`` by both exported models.

    An aligned pdf counts for the phone that it is most often of in training.  Models that do not know their
    phones are shown with pdfs in the place of phones.
    """
    alignments = read_pdf_ids(ali_dir)
    feats = MatrixScp(feats_dir / "feats.scp")
    scorers = {name: AcousticScorer.load(out / name / "model.onnx", device="cpu") for name in MODELS}
    metadata = scorers["baseline"].metadata
    wanted = seconds * 1000.0 / metadata.fbank.frame_shift_ms
    common = [utt_id for utt_id in feats if utt_id in alignments]
    if not common:
        raise ValueError(f"{feats.path}: none of its utterances is in {ali_dir}")
    utt_id = min(common, key=lambda u: abs(len(alignments[u]) - wanted))
    level, names, column_of_pdf = _columns(metadata)
    by_frame = column_of_pdf[alignments[utt_id]]
    columns, first = np.unique(by_frame, return_index=True)
    columns = columns[np.argsort(first)]
    posteriors = {name: np.exp(scorer(feats[utt_id], level)[:, columns]) for name, scorer in scorers.items()}
    aligned = np.array([int(np.flatnonzero(columns == column)[0]) for column in by_frame])
    labels = [names[column] for column in columns]
    return Example(utt_id, feats[utt_id], labels, aligned, posteriors, metadata.fbank.frame_shift_ms)


def _columns(metadata: ModelMetadata) -> tuple[Level, Sequence[str], IntVector]:
    """Return the level to show, the names of its columns and the column of each pdf."""
    if metadata.system is None:
        pdfs = np.arange(metadata.num_pdfs, dtype=np.int32)
        return "pdf", [f"pdf {pdf}" for pdf in pdfs], pdfs
    return "phone", metadata.phones.names, metadata.phones.main_phones()
