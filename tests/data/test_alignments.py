"""Alignments against ``ali-to-pdf``, ``ali-to-phones --per-frame`` and ``analyze-counts``."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from asr_bn.data.alignments import count_pdfs, iter_pdf_ids, log_priors, num_pdfs, read_pdf_ids
from asr_bn.kaldi_io.int_vector_table import read_int_vectors, write_int_vectors
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd


def _assert_equal(ours: dict, archive: Path) -> None:
    theirs = dict(read_int_vectors(archive))
    assert set(ours) == set(theirs)
    for utt_id, vector in theirs.items():
        np.testing.assert_array_equal(ours[utt_id], vector)


@pytest.mark.parametrize(
    ("ali_dir", "oracle"),
    [
        ("ali", "oracles/ali/pdf.txt.gz"),
        ("variants/mono", "variants/mono/pdf.txt.gz"),
        ("variants/chain", "variants/chain/pdf.txt.gz"),
    ],
)
def test_pdf_ids_are_those_of_ali_to_pdf(ali_dir: str, oracle: str) -> None:
    _assert_equal(read_pdf_ids(SYNTHETIC / ali_dir), SYNTHETIC / oracle)


@needs_fsdd
@pytest.mark.parametrize("part", ["train", "dev"])
def test_every_frame_of_real_speech(part: str) -> None:
    ali_dir, oracles = FSDD / f"exp/tri4b_ali_{part}", FSDD / "oracles/ali"
    _assert_equal(read_pdf_ids(ali_dir), oracles / f"{part}.pdf.txt.gz")
    phones = {utt_id: vector for utt_id, vector, _ in iter_pdf_ids(ali_dir, phones=True)}
    _assert_equal(phones, oracles / f"{part}.phones_per_frame.txt.gz")


@pytest.mark.parametrize(
    ("ali_dir", "oracle"),
    [
        ("ali", "oracles/ali/phones_per_frame.txt.gz"),
        ("variants/chain", "variants/chain/phones_per_frame.txt.gz"),
    ],
)
def test_phones_are_those_of_ali_to_phones(ali_dir: str, oracle: str) -> None:
    phones = {utt_id: vector for utt_id, vector, _ in iter_pdf_ids(SYNTHETIC / ali_dir, phones=True)}
    _assert_equal(phones, SYNTHETIC / oracle)


def test_counts_are_those_of_analyze_counts() -> None:
    counts = count_pdfs(read_pdf_ids(SYNTHETIC / "ali").values(), num_pdfs(SYNTHETIC / "ali"))
    theirs = np.array(
        (SYNTHETIC / "oracles/ali/pdf_counts.txt").read_text().strip("[] \n").split(), dtype=float
    )
    np.testing.assert_array_equal(counts, theirs - 0.5)  # analyze-counts adds 0.5
    priors = log_priors(counts)
    np.testing.assert_allclose(priors, np.log(theirs / theirs.sum()), rtol=1e-6)
    assert np.exp(priors.astype(np.float64)).sum() == pytest.approx(1.0, abs=1e-6)
    assert (counts == 0).sum() == 5
    assert np.isfinite(priors).all()


@pytest.mark.parametrize("name", ["pdf.ark", "pdf.1.gz", "archive"])
def test_archives_of_pdf_ids_are_accepted(tmp_path: Path, name: str) -> None:
    expected = read_pdf_ids(SYNTHETIC / "ali")
    if name == "pdf.1.gz":
        shutil.copy(SYNTHETIC / "oracles/ali/pdf.txt.gz", tmp_path / name)
    else:
        write_int_vectors(tmp_path / name, expected.items())
    source = tmp_path / name if name == "archive" else tmp_path
    read = read_pdf_ids(source)
    assert {u: v.tolist() for u, v in read.items()} == {u: v.tolist() for u, v in expected.items()}


def test_jobs_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    shutil.copy(SYNTHETIC / "ali/final.mdl", tmp_path)
    for job in range(1, 12):
        write_int_vectors(tmp_path / f"ali.{job}", [(f"u{job}", np.array([job], dtype=np.int32))])
    (tmp_path / "num_jobs").write_text("11\n")
    assert list(read_pdf_ids(tmp_path)) == [f"u{job}" for job in range(1, 12)]
    for num_jobs in (12, 2**31 - 1):
        (tmp_path / "num_jobs").write_text(f"{num_jobs}\n")
        with pytest.raises(ValueError, match=rf"num_jobs is {num_jobs}, but ali\.12\.gz is missing"):
            read_pdf_ids(tmp_path)


def test_archives_above_num_jobs_are_of_an_earlier_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(SYNTHETIC / "ali", tmp_path / "ali")
    both = list(read_pdf_ids(tmp_path / "ali"))
    assert capsys.readouterr().err == ""
    (tmp_path / "ali/num_jobs").write_text("1\n")
    # Kaldi's scripts read ali.1.gz to ali.N.gz, N being num_jobs.
    assert list(read_pdf_ids(tmp_path / "ali")) == both[:6]
    said = capsys.readouterr().err
    assert (
        said == f"note: {tmp_path}/ali: not read, over num_jobs or beside one of the same number: ali.2.gz\n"
    )
