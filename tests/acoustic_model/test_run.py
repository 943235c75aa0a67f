"""Folders that do not belong together are refused before any training."""

from pathlib import Path

import numpy as np
import pytest

from asr_bn.acoustic_model.data import DataFolders, load_data
from asr_bn.acoustic_model.experiment import ExperimentConfig
from asr_bn.features.options import FbankOptions
from asr_bn.kaldi_io.int_vector_table import write_int_vectors
from asr_bn.kaldi_io.matrix_table import MatrixWriter


def write_feats(folder: Path, length: int, **options: object) -> Path:
    folder.mkdir(parents=True)
    with MatrixWriter(f"ark,scp:{folder}/feats.ark,{folder}/feats.scp") as writer:
        writer.write("u", np.zeros((length, 4), dtype=np.float32))
    FbankOptions(num_mel_bins=3, **options).write_conf(folder / "fbank.conf")
    return folder


def write_pdf_ids(folder: Path, length: int, num_pdfs: int) -> Path:
    folder.mkdir(parents=True)
    write_int_vectors(f"ark:{folder}/pdf.ark", [("u", np.zeros(length, dtype=np.int32))])
    (folder / "num_pdfs").write_text(f"{num_pdfs}\n")
    return folder


def folders(tmp_path: Path, dev_frames: int = 5, dev_pdfs: int = 3, **dev_options: object) -> DataFolders:
    return DataFolders(
        write_feats(tmp_path / "train", 5),
        write_pdf_ids(tmp_path / "train_ali", 5, 3),
        write_feats(tmp_path / "dev", dev_frames, **dev_options),
        write_pdf_ids(tmp_path / "dev_ali", 5, dev_pdfs),
    )


def test_folders_that_fit_are_described(tmp_path):
    data = load_data(folders(tmp_path), ExperimentConfig())
    assert data.description.num_pdfs == 3
    assert data.description.pdf_counts == [5, 0, 0]


def test_other_feature_options_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"dev/fbank\.conf: has other options than"):
        load_data(folders(tmp_path, dither=1.0), ExperimentConfig())


def test_alignments_of_another_model_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"dev_ali: its model has 4 pdfs, that of .*train_ali has 3"):
        load_data(folders(tmp_path, dev_pdfs=4), ExperimentConfig())


def test_lengths_that_differ_are_refused(tmp_path):
    with pytest.raises(ValueError, match="u: 6 feature frames, 5 aligned pdf-ids"):
        load_data(folders(tmp_path, dev_frames=6), ExperimentConfig())


def test_a_folder_without_features_says_how_to_make_them(tmp_path):
    given = folders(tmp_path)
    (given.train / "feats.scp").unlink()
    with pytest.raises(FileNotFoundError, match="'asr-bn features .*train OUT_DIR' makes features"):
        load_data(given, ExperimentConfig())
