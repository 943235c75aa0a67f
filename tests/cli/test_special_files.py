"""Verbs whose inputs and outputs are links, FIFOs, descriptors, or have names that no file can have."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.extraction.archive_job import ArchiveJob
from asr_bn.kaldi_io.matrix_table import MatrixScp
from tests.helpers.kaldi_fixtures import SYNTHETIC


def _features(data: Path, out: Path) -> str:
    result = CliRunner().invoke(app, ["features", str(data), str(out), "--nj", "1"])
    return f"{result.exit_code} {result.exception or result.stderr}"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/wav.scp").write_text(f"u {SYNTHETIC.resolve()}/audio/syn6.wav\n")
    return tmp_path / "data"


def test_features_go_to_the_disk_that_their_archive_is_linked_to(tmp_path: Path, data: Path) -> None:
    """As Kaldi's ``utils/create_data_link.pl`` leaves it: links to names of their own on another disk."""
    (tmp_path / "disk").mkdir()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "feats.ark").symlink_to(tmp_path / f"disk/{name}.ark")
        assert _features(data, tmp_path / name).startswith("0 ")
        assert (tmp_path / name / "feats.ark").is_symlink()
        assert MatrixScp(tmp_path / name / "feats.scp")["u"].shape == (6, 41)
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["one.ark", "two.ark"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("o\n1", "a name with a line break"),
        ("o\udce9", r"o\xe9/feats.ark: not UTF-8"),
        ("o|1", "no name for a file"),
    ],
)
def test_a_folder_whose_name_no_script_file_can_hold_is_refused_first(
    tmp_path: Path, data: Path, name: str, message: str
) -> None:
    assert message in _features(data, tmp_path / name)
    assert not (tmp_path / name).exists()


def test_an_archive_of_features_has_to_be_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "feats.ark")
    with pytest.raises(ValueError, match=r"feats\.ark: not a file"):
        ArchiveJob(tmp_path, "made from")


@pytest.mark.parametrize("verb", ["features", "check", "posteriors"])
def test_a_name_with_a_nul_byte_has_its_utterance(tmp_path: Path, data: Path, verb: str) -> None:
    (data / "wav.scp").write_bytes(b"u a\0b.wav\n")
    arguments = {"features": [str(data), str(tmp_path / "o"), "--nj", "1"], "check": [str(data)]}
    if verb == "posteriors":
        from tests.helpers.serving import write_model

        arguments[verb] = [
            str(write_model(tmp_path / "m.onnx")),
            str(data),
            f"ark:{tmp_path}/o",
            "--device",
            "cpu",
        ]
    result = CliRunner().invoke(app, [verb, *arguments[verb]])
    assert result.exit_code == 1
    assert str(result.exception) == "u: 'a\\x00b.wav': no file name has a NUL byte"


def test_inputs_that_can_be_read_only_once_count_each_time(tmp_path: Path) -> None:
    """As ``--fbank-conf <(...)``: several parts of a verb read it, and no stamp may vouch for it."""
    (tmp_path / "wav.scp").write_text(f"u {SYNTHETIC}/audio/f1-015.wav\n")
    for num_bins in (23, 24):
        read_end, write_end = os.pipe()
        os.write(write_end, f"--num-mel-bins={num_bins}\n--channel=0\n".encode())
        os.close(write_end)
        conf = ["--fbank-conf", f"/dev/fd/{read_end}"]
        result = CliRunner().invoke(
            app, ["features", str(tmp_path), str(tmp_path / "out"), *conf, "--nj", "1"]
        )
        os.close(read_end)
        assert result.exit_code == 0, result.exception
        feats = MatrixScp(tmp_path / "out/feats.scp")
        assert feats["u"].shape == (89, num_bins + 1)
    os.mkfifo(tmp_path / "fifo")
    script = (tmp_path / "out/feats.scp").read_bytes()
    thread = threading.Thread(target=lambda: (tmp_path / "fifo").write_bytes(script), daemon=True)
    thread.start()
    arguments = ["--feats", tmp_path / "fifo", "--fbank-conf", tmp_path / "out/fbank.conf", "--nj", "1"]
    result = CliRunner().invoke(app, ["features", *map(str, [tmp_path, tmp_path / "again", *arguments])])
    thread.join()
    assert result.exit_code == 0, result.exception
    np.testing.assert_array_equal(MatrixScp(tmp_path / "again/feats.scp")["u"], feats["u"])
