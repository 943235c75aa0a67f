"""Lengths from headers: the same as from the matrices themselves, in every form that Kaldi writes."""

import gzip

import numpy as np
import pytest

from asr_bn.kaldi_io.matrix_headers import count_frames
from asr_bn.kaldi_io.matrix_table import MatrixScp, MatrixWriter

LENGTHS = {"a": 5, "b": 9, "c": 12, "d": 1}


def write(folder, name, compress=False, text=False):
    kind = "ark,t,scp" if text else "ark,scp"
    with MatrixWriter(f"{kind}:{folder}/{name}.ark,{folder}/{name}.scp", compress) as writer:
        for utt_id, length in LENGTHS.items():
            writer.write(name + utt_id, np.ones((length, 3), dtype=np.float32))
    return (folder / f"{name}.scp").read_text().splitlines()


@pytest.fixture
def scp(tmp_path):
    """Entries of five archives, in turns; one is cut, one in a gzip file, one at the start of its file."""
    tables = [
        write(tmp_path, "plain"),
        write(tmp_path, "packed", compress=True),
        write(tmp_path, "text", text=True),
    ]
    lines = [line for entries in zip(*tables, strict=True) for line in entries]
    lines.append(tables[0][2].replace("plainc", "cut") + "[2:4]")
    with gzip.open(tmp_path / "plain.gz", "wb") as stream:
        stream.write((tmp_path / "plain.ark").read_bytes())
    lines.append(tables[0][1].replace("plainb", "gz").replace(".ark", ".gz"))
    path = tmp_path / "feats.scp"
    path.write_text("\n".join(lines) + "\n")
    return MatrixScp(path)


def test_as_many_rows_as_the_matrices_have(scp):
    expected = {utt_id: len(scp[utt_id]) for utt_id in scp}
    assert count_frames(scp, scp) == expected
    assert expected["cut"] == 3
    assert expected["gz"] == LENGTHS["b"]


def test_a_missing_archive_names_the_utterance(scp, tmp_path):
    (tmp_path / "packed.ark").unlink()
    with pytest.raises(ValueError, match=r"packeda: .*packed\.ark.*No such file"):
        count_frames(scp, scp)


def test_an_archive_cut_short_names_the_utterance(scp, tmp_path):
    whole = (tmp_path / "plain.ark").read_bytes()
    (tmp_path / "plain.ark").write_bytes(whole[:40])
    with pytest.raises(ValueError, match="plainb: "):
        count_frames(scp, scp)
