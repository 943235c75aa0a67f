"""Bad alignments: each folder ends in a sentence that names utterance and file, and in no output."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest

from asr_bn.kaldi_io.int_vector_table import read_int_vectors, write_int_vectors
from asr_bn.kaldi_io.matrix_table import MatrixWriter
from tests.helpers.bad_inputs import Cases, case_of, check_case
from tests.helpers.kaldi_fixtures import SYNTHETIC

CASES: Cases = {}
case = case_of(CASES)
MODEL = (SYNTHETIC / "ali/final.mdl").read_bytes()
ALI = (SYNTHETIC / "ali/ali.1.gz").read_bytes()


def ali(folder: Path, model: bytes | None, archive: bytes, name: str = "ali.1.gz") -> list[str]:
    """``alignments`` of a folder with these files."""
    (folder / "ali").mkdir()
    if model is not None:
        (folder / "ali/final.mdl").write_bytes(model)
    (folder / "ali" / name).write_bytes(archive)
    return ["alignments", str(folder / "ali"), f"ark:{folder}/out/pdf.ark"]


@case(r"(\S+: )?DIR/ali/ali\.1\.gz: gzip file cut short or corrupt \(.*\)")
def a_gzip_file_cut_short(folder: Path) -> list[str]:
    return ali(folder, MODEL, ALI[: len(ALI) // 2])


@case(r"(\S+: )?DIR/ali/ali\.1\.gz: gzip file cut short or corrupt \(.*\)")
def a_gzip_file_with_a_flipped_byte(folder: Path) -> list[str]:
    middle = len(ALI) // 2
    return ali(folder, MODEL, ALI[:middle] + bytes([ALI[middle] ^ 0xFF]) * 8 + ALI[middle + 8 :])


@case(
    r"\S+: DIR/ali/ali\.1\.gz: transition-id \d+, but DIR/ali/final\.mdl has 1 to 316; is this an .*model\?"
)
def an_alignment_of_another_model(folder: Path) -> list[str]:
    return ali(folder, (SYNTHETIC / "variants/chain/final.mdl").read_bytes(), ALI)


@case(r"DIR/ali: there is no final\.mdl, which maps transition-ids to pdf-ids")
def no_model(folder: Path) -> list[str]:
    return ali(folder, None, ALI)


@case(r"DIR/ali/final\.mdl: cut short: .*")
def a_model_cut_short(folder: Path) -> list[str]:
    return ali(folder, MODEL[:3000], ALI)


@case(r"DIR/ali/final\.mdl: expected <TransitionModel>, found .*")
def a_model_of_another_kind(folder: Path) -> list[str]:
    return ali(folder, b"\0B<Nnet3> ", ALI)


@case(r"u: DIR/ali/pdf\.ark: pdf-id 72, expected 0 to 71")
def a_pdf_out_of_range(folder: Path) -> list[str]:
    write_int_vectors(folder / "p.ark", [("u", np.array([0, 72], dtype=np.int32))])
    return ali(folder, MODEL, (folder / "p.ark").read_bytes(), "pdf.ark")


@case(r"f1-005: written twice to DIR/out/pdf\.ark|f1-005: twice in .*")
def an_utterance_in_two_jobs(folder: Path) -> list[str]:
    arguments = ali(folder, MODEL, ALI)
    shutil.copy(folder / "ali/ali.1.gz", folder / "ali/ali.2.gz")
    return arguments


@case(r"u: DIR/ali/ali\.1\.gz: not a vector of 32-bit integers \(.*\)")
def a_text_alignment_with_words(folder: Path) -> list[str]:
    return ali(folder, MODEL, gzip.compress(b"u 1 2 three\n"))


@case(r"DIR/ali: num_jobs is 3, but ali\.2\.gz is missing")
def a_job_that_is_missing(folder: Path) -> list[str]:
    arguments = ali(folder, MODEL, ALI)
    (folder / "ali/num_jobs").write_text("3\n")
    return arguments


@case(r"DIR/ali: no alignments \(neither ali\.\*\.gz nor pdf\*\.ark\)")
def an_empty_alignment_folder(folder: Path) -> list[str]:
    return ali(folder, MODEL, b"", "notes.txt")


@case(r"\S+: \d+ feature frames, \d+ aligned pdf-ids: an alignment with frame subsampling by 3, which .*")
def an_alignment_with_frame_subsampling(folder: Path) -> list[str]:
    source = SYNTHETIC / "variants/chain"
    arguments = ali(folder, (source / "final.mdl").read_bytes(), (source / "ali.1.gz").read_bytes())
    with MatrixWriter(f"ark,scp:{folder}/f.ark,{folder}/feats.scp") as writer:
        writer.write(
            "f1-005", np.zeros((len(_tids(source / "ali.1.gz", "f1-005")) * 3, 41), dtype=np.float32)
        )
    return [*arguments, "--feats", f"{folder}/feats.scp"]


def _tids(archive: Path, utt_id: str) -> np.ndarray:
    return dict(read_int_vectors(archive))[utt_id]


@pytest.mark.parametrize("name", CASES)
def test_one_clear_sentence_and_no_output(name: str, tmp_path: Path) -> None:
    check_case(*CASES[name], tmp_path)
