"""One development utterance as both networks see it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr_bn.data.alignments import read_pdf_ids
from asr_bn.kaldi_io.matrix_table import MatrixScp
from asr_bn.kaldi_io.phone_table import read_phone_names
from asr_bn.kaldi_io.transition_model import TransitionModel
from asr_bn.report.results import MODELS
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

    A phone's posterior is the sum over its pdfs; a pdf that several phones share counts for the first.
    """
    alignments = read_pdf_ids(ali_dir)
    feats = MatrixScp(feats_dir / "feats.scp")
    scorers = {name: AcousticScorer.load(out / name / "model.onnx", device="cpu") for name in MODELS}
    frame_shift_ms = scorers["baseline"].metadata.fbank.frame_shift_ms
    wanted = seconds * 1000.0 / frame_shift_ms
    common = [utt_id for utt_id in feats if utt_id in alignments]
    if not common:
        raise ValueError(f"{feats.path}: none of its utterances is in {ali_dir}")
    utt_id = min(common, key=lambda u: abs(len(alignments[u]) - wanted))
    phone_of_pdf = pdf_phones(ali_dir)
    by_frame = phone_of_pdf[alignments[utt_id]]
    phone_ids, first = np.unique(by_frame, return_index=True)
    phone_ids = phone_ids[np.argsort(first)]
    phones_txt = ali_dir / "phones.txt"
    names = read_phone_names(phones_txt) if phones_txt.is_file() else {}  # old systems have none
    posteriors = {}
    for name, scorer in scorers.items():
        (log_posteriors,) = scorer.log_posteriors([scorer.with_deltas(feats[utt_id])])
        columns = [np.exp(log_posteriors[:, phone_of_pdf == phone]).sum(1) for phone in phone_ids]
        posteriors[name] = np.stack(columns, axis=1)
    aligned = np.array([int(np.flatnonzero(phone_ids == phone)[0]) for phone in by_frame])
    labels = [names.get(int(phone), str(phone)) for phone in phone_ids]
    return Example(utt_id, feats[utt_id], labels, aligned, posteriors, frame_shift_ms)


def pdf_phones(ali_dir: Path) -> IntVector:
    """Return the first phone of each pdf in ``ali_dir/final.mdl``, shape ``[num_pdfs]``."""
    model = TransitionModel.read(ali_dir / "final.mdl")
    phones = np.zeros(model.num_pdfs, dtype=np.int32)
    # Backwards, so that the first transition-id of a pdf is the one that stays.
    phones[model.tid_to_pdf[:0:-1]] = model.tid_to_phone[:0:-1]
    return phones
