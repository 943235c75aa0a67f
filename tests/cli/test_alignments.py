"""``asr-bn alignments`` writes the bytes of ``ali-to-pdf``, and skips only work that it did itself."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.kaldi_io.int_vector_table import read_int_vectors
from asr_bn.kaldi_io.matrix_table import MatrixWriter
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd


def _run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, ["alignments", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stderr


@pytest.mark.parametrize(
    ("options", "oracle"), [([], "pdf.txt.gz"), (["--phones"], "phones_per_frame.txt.gz")]
)
def test_text_is_kaldis_byte_for_byte(tmp_path: Path, options: list[str], oracle: str) -> None:
    _run(SYNTHETIC / "ali", f"ark,t:{tmp_path}/out", *options)
    assert (tmp_path / "out").read_bytes() == gzip.decompress(
        (SYNTHETIC / "oracles/ali" / oracle).read_bytes()
    )


@needs_fsdd
@pytest.mark.parametrize("part", ["train", "dev"])
def test_real_speech(tmp_path: Path, part: str) -> None:
    _run(FSDD / f"exp/tri4b_ali_{part}", f"ark,t:{tmp_path}/out")
    oracle = FSDD / f"oracles/ali/{part}.pdf.txt.gz"
    assert (tmp_path / "out").read_bytes() == gzip.decompress(oracle.read_bytes())


def test_cut_archives_are_not_taken_for_whole_ones(tmp_path: Path) -> None:
    whole = dict(read_int_vectors(SYNTHETIC / "oracles/ali/pdf.txt.gz"))
    with MatrixWriter(f"ark,scp:{tmp_path}/f.ark,{tmp_path}/feats.scp") as writer:
        for utt_id, pdf_ids in whole.items():
            writer.write(utt_id, np.zeros((len(pdf_ids) - (utt_id == "f1-005"), 2), dtype=np.float32))
    out = f"ark:{tmp_path}/pdf.ark"
    _run(SYNTHETIC / "ali", out)
    assert "already" in _run(SYNTHETIC / "ali", out)
    message = _run(SYNTHETIC / "ali", out, "--feats", tmp_path / "feats.scp", "--trim", "1")
    assert "1 utterances of unlike length, cut" in message
    assert len(dict(read_int_vectors(tmp_path / "pdf.ark"))["f1-005"]) == len(whole["f1-005"]) - 1
    _run(SYNTHETIC / "ali", out)
    assert len(dict(read_int_vectors(tmp_path / "pdf.ark"))["f1-005"]) == len(whole["f1-005"])


def test_a_script_file_may_be_named_as_in_kaldi_and_is_no_other_output(tmp_path: Path) -> None:
    whole = dict(read_int_vectors(SYNTHETIC / "oracles/ali/pdf.txt.gz"))
    with MatrixWriter(f"ark,scp:{tmp_path}/f.ark,{tmp_path}/feats.scp") as writer:
        for utt_id, pdf_ids in whole.items():
            writer.write(utt_id, np.zeros((len(pdf_ids) + (utt_id == "f1-005"), 2), dtype=np.float32))
    trim = ["--feats", f"scp:{tmp_path}/feats.scp", "--trim", "1", "--trimmed-feats"]
    _run(SYNTHETIC / "ali", f"ark:{tmp_path}/pdf.ark", *trim, f"scp:{tmp_path}/trimmed.scp")
    lines = (tmp_path / "feats.scp").read_text().splitlines()
    cut = [f"{line}[0:{len(whole['f1-005']) - 1}]" if line.startswith("f1-005 ") else line for line in lines]
    assert (tmp_path / "trimmed.scp").read_text().splitlines() == cut
    pair = f"ark,scp:{tmp_path}/pdf.ark,{tmp_path}/pdf.scp"
    for name in ("pdf.ark", "pdf.scp"):
        arguments = ["alignments", str(SYNTHETIC / "ali"), pair, *trim, f"{tmp_path}/{name}"]
        result = CliRunner().invoke(app, arguments)
        assert str(result.exception) == f"--trimmed-feats is {tmp_path}/{name}, which {pair} writes too"
