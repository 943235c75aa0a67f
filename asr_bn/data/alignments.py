"""Alignments: pdf-ids per utterance, their counts and the log priors."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr_bn.kaldi_io.int_vector_table import read_int_vectors
from asr_bn.kaldi_io.script_file import read_count
from asr_bn.kaldi_io.transition_model import TransitionModel
from asr_bn.system.arrays import Floats, IntVector
from asr_bn.system.notes import print_note

_ALI_NAME = re.compile(r"ali\.(\d+)(\.gz)?", re.ASCII)
_ANY_NUMBER = 1 << 31
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
_PDF_NAMES = ("pdf*.ark", "pdf*.ark.gz", "pdf.*.gz")
MODEL_NAMES = ("final.mdl", "final.mdl.txt", "final.mdl.gz", "final.mdl.txt.gz", "final.alimdl")


class TidCounter:
    """Counts the frames of each transition-id while alignments are read.

    Attributes:
        counts: ``[num_transition_ids + 1]``, entry 0 unused; empty as long as no transition-ids were read.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def add(self, tids: IntVector, model: TransitionModel) -> None:
        """Count the transition-ids of an utterance, which ``model`` has."""
        size = model.num_transition_ids + 1
        self.counts = np.bincount(tids, minlength=size) + (self.counts if self.counts.size else 0)


def read_pdf_ids(ali_dir: Path, counter: TidCounter | None = None) -> dict[str, IntVector]:
    """Read the pdf-ids of every utterance, int32 ``[num_frames]`` each, in file order.

    ``ali_dir`` is a Kaldi alignment folder (``final.mdl`` and ``ali.*.gz``); or a folder with ``pdf*.ark`` or
    ``pdf.*.gz``, as ``asr-bn alignments`` and ``ali-to-pdf`` write them; or such an archive itself.
    ``counter`` counts the transition-ids of an alignment folder.

    Raises:
        OSError: a file is missing.
        ValueError: no alignments there, an utterance twice, a transition-id that the model does not have
            (an alignment of another model), a corrupt archive.
    """
    pdf_ids: dict[str, IntVector] = {}
    for utt_id, vector, source in iter_pdf_ids(ali_dir, counter=counter):
        if utt_id in pdf_ids:
            raise ValueError(f"{utt_id}: twice in {ali_dir} (again in {source})")
        pdf_ids[utt_id] = vector
    if not pdf_ids:
        raise ValueError(f"{ali_dir}: no utterances in its alignments")
    return pdf_ids


def iter_pdf_ids(
    ali_dir: Path, phones: bool = False, counter: TidCounter | None = None
) -> Iterator[tuple[str, IntVector, Path]]:
    """Yield utterance id, pdf-ids (with ``phones`` the phone of each frame instead) and source file.

    ``counter`` counts the transition-ids of what has been read.
    """
    archives = ali_archives(ali_dir)
    if archives:
        _say_what_is_not_read(ali_dir, archives)
        model_path = find_model(ali_dir)
        model = TransitionModel.read(model_path)
        table = model.tid_to_phone if phones else model.tid_to_pdf
        for archive in archives:
            for utt_id, tids in _vectors(archive):
                check_transition_ids(utt_id, tids, model, archive, model_path)
                if counter is not None:
                    counter.add(tids, model)
                yield utt_id, table[tids], archive
        return
    if phones:
        raise ValueError(f"{ali_dir}: phones need ali.*.gz and final.mdl; archives of pdf-ids have none")
    limit = _find_num_pdfs(ali_dir)
    for archive in pdf_archives(ali_dir):
        for utt_id, pdf_ids in _vectors(archive):
            bad = _outside(pdf_ids, range(limit or _ANY_NUMBER))
            if bad is not None:
                expected = "at least 0" if limit is None else f"0 to {limit - 1}"
                raise ValueError(f"{utt_id}: {archive}: pdf-id {bad}, expected {expected}")
            yield utt_id, pdf_ids, archive


def _vectors(archive: Path) -> Iterator[tuple[str, IntVector]]:
    """Yield an archive's vectors; one without any gets a note only, since Kaldi accepts it.

    Raises:
        ValueError: an empty file that should be a gzip file: its writer has failed.
    """
    is_empty = True
    for item in read_int_vectors(f"ark:{archive}"):
        is_empty = False
        yield item
    if is_empty and archive.suffix == ".gz" and not archive.stat().st_size:
        raise ValueError(f"{archive}: cut short: an empty file, expected a gzip file")
    if is_empty:
        print_note(f"{archive}: no utterances in it")


def num_pdfs(ali_dir: Path) -> int:
    """Read the number of pdfs of the alignments' model: from its transition model, or the file ``num_pdfs``.

    Raises:
        ValueError: neither is there, or the file holds no number.
    """
    number = _find_num_pdfs(ali_dir)
    if number is None:
        folder = ali_dir if ali_dir.is_dir() else ali_dir.parent
        raise ValueError(f"{folder}: neither final.mdl nor num_pdfs is there to tell the number of pdfs")
    return number


def _find_num_pdfs(ali_dir: Path) -> int | None:
    folder = ali_dir if ali_dir.is_dir() else ali_dir.parent
    if (model := model_in(folder)) is not None:
        return TransitionModel.read(model).num_pdfs
    path = folder / "num_pdfs"
    return read_count(path, "the number of pdfs") if path.exists() else None


def count_pdfs(pdf_ids: Iterable[NDArray[np.integer]], num_pdfs: int) -> NDArray[np.int64]:
    """Count the frames of each pdf, int64 ``[num_pdfs]``; a pdf that never occurs has 0.

    Raises:
        ValueError: a pdf-id outside 0 to ``num_pdfs - 1``.
    """
    counts = np.zeros(num_pdfs, dtype=np.int64)
    for vector in pdf_ids:
        if (bad := _outside(vector, range(num_pdfs))) is not None:
            raise ValueError(f"pdf-id {bad} is not one of the model's {num_pdfs} pdfs")
        counts += np.bincount(vector, minlength=num_pdfs)
    return counts


def log_priors(counts: NDArray[np.integer], floor: float = 0.5) -> Floats:
    """Compute the log of each pdf's share of the frames, float32 ``[num_pdfs]``.

    ``floor`` frames are added to every count, as Kaldi's ``analyze-counts`` adds 0.5, so that a pdf that
    never occurs has a finite prior.

    Raises:
        ValueError: negative counts, or nothing counted and no floor.
    """
    smoothed = np.asarray(counts, dtype=np.float64) + floor
    if smoothed.size == 0 or (smoothed <= 0).any():
        raise ValueError(f"log priors need positive counts; the smallest is {smoothed.min(initial=0.0):g}")
    priors: Floats = np.log(smoothed / smoothed.sum()).astype(np.float32)
    return priors


def ali_archives(ali_dir: Path) -> list[Path]:
    """List ``ali.1.gz`` to ``ali.N.gz`` (or without ``.gz``) by number; none if it is not a folder of such.

    A file ``num_jobs`` tells N, as for Kaldi's scripts; archives above are of an earlier run.

    Raises:
        ValueError: some of the ``num_jobs`` archives are missing.
    """
    if not ali_dir.is_dir():
        return []
    found: dict[int, Path] = {}
    for path in sorted(ali_dir.iterdir()):
        if match := _ALI_NAME.fullmatch(path.name):
            found.setdefault(int(match.group(1)), path)
    path = ali_dir / "num_jobs"
    if not found or not path.exists():
        return [found[number] for number in sorted(found)]
    num_jobs = read_count(path, "the number of jobs")
    missing = next((number for number in range(1, num_jobs + 1) if number not in found), None)
    if missing is not None:
        raise ValueError(f"{ali_dir}: num_jobs is {num_jobs}, but ali.{missing}.gz is missing")
    return [found[number] for number in range(1, num_jobs + 1)]


def _say_what_is_not_read(ali_dir: Path, archives: list[Path]) -> None:
    paths = [path for path in sorted(ali_dir.iterdir()) if _ALI_NAME.fullmatch(path.name)]
    if names := [path.name for path in paths if path not in archives]:
        reason = "over num_jobs or beside one of the same number"
        print_note(f"{ali_dir}: not read, {reason}: {', '.join(names)}")


def find_model(ali_dir: Path) -> Path:
    """Find the folder's ``final.mdl`` (also as text, gzipped), or its ``final.alimdl``.

    Raises:
        ValueError: there is none.
    """
    if (model := model_in(ali_dir)) is None:
        raise ValueError(f"{ali_dir}: there is no final.mdl, which maps transition-ids to pdf-ids")
    return model


def model_in(folder: Path) -> Path | None:
    """Find a folder's transition model as `find_model`; None if there is none."""
    return next((path for name in MODEL_NAMES if (path := folder / name).exists()), None)


def check_transition_ids(
    utt_id: str, tids: IntVector, model: TransitionModel, archive: Path, model_path: Path
) -> None:
    """Refuse a transition-id that ``model`` does not have."""
    if (bad := _outside(tids, range(1, model.num_transition_ids + 1))) is not None:
        raise ValueError(
            f"{utt_id}: {archive}: transition-id {bad}, but {model_path} has 1 to {model.num_transition_ids};"
            " is this an alignment of another model?"
        )


def _outside(vector: NDArray[np.integer], allowed: range) -> int | None:
    """Return the smallest or else the largest value that is not ``allowed``; None if all are."""
    ends = (int(vector.min()), int(vector.max())) if len(vector) else ()
    return next((value for value in ends if value not in allowed), None)


def pdf_archives(ali_dir: Path) -> list[Path]:
    """List the folder's archives of pdf-ids by number, or ``ali_dir`` itself if it is a file.

    Raises:
        ValueError: there are none.
    """
    if not ali_dir.is_dir():
        return [ali_dir]
    found = sorted({path for pattern in _PDF_NAMES for path in ali_dir.glob(pattern)}, key=_natural)
    if not found:
        raise ValueError(f"{ali_dir}: no alignments (neither ali.*.gz nor pdf*.ark)")
    return found


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = path.name.split(".")
    return [(int(part), "") if _NUMBER.fullmatch(part) else (-1, part) for part in parts]
