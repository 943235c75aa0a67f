"""Options that several verbs have are the same everywhere, and what cannot be is refused before any work."""

import gzip
import inspect
import shutil
import struct
import typing
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from asr_bn.cli.main import VERBS, app
from asr_bn.kaldi_io.int_vector_table import read_int_vectors, write_int_vectors
from asr_bn.kaldi_io.matrix_table import MatrixScp, MatrixWriter
from tests.helpers.kaldi_fixtures import SYNTHETIC

AUDIO_OPTIONS = {"--root", "--channel", "--resample", "--no-pipes", "--pipe-timeout"}
TABLE_OPTIONS = {"--root", "--no-pipes", "--pipe-timeout"}


def run(verb: str, *arguments: object) -> str:
    result = CliRunner().invoke(app, [verb, *map(str, arguments)])
    return f"error: {result.exception}" if result.exit_code else result.stderr


def parameters(verb: str) -> dict[str, tuple[str, bool, bool]]:
    """Of each parameter: its type as it is written, whether it is an option, whether it must be given."""
    found = {}
    for name, parameter in inspect.signature(VERBS[verb]).parameters.items():
        hint, info = typing.get_args(parameter.annotation)
        is_option = isinstance(info, typer.models.OptionInfo)
        name = f"--{name.replace('_', '-')}" if is_option else name
        found[name] = (str(hint), is_option, parameter.default is inspect.Parameter.empty)
    return found


@pytest.mark.parametrize("verb", ["features", "check", "posteriors", "decode", "serve-check"])
def test_all_that_read_audio_read_it_the_same_way(verb: str) -> None:
    assert parameters(verb).keys() >= AUDIO_OPTIONS


@pytest.mark.parametrize("verb", ["cmvn", "alignments"])
def test_all_that_read_tables_can_refuse_commands_and_start_elsewhere(verb: str) -> None:
    assert parameters(verb).keys() >= TABLE_OPTIONS


NUMBERS = [(verb, name) for verb in VERBS for name, (hint, *_) in parameters(verb).items() if "float" in hint]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(("verb", "option"), NUMBERS)
def test_numbers_that_are_none_are_refused_first(tmp_path: Path, verb: str, option: str, value: str) -> None:
    arguments: list[object] = []
    for name, (_, is_option, is_required) in parameters(verb).items():
        if is_required:
            arguments += [name, tmp_path / "nothing"] if is_option else [tmp_path / "nothing"]
    said = run(verb, *arguments, f"{option}={value}")
    assert said == f"error: {option} is {value}, expected a finite number"
    assert list(tmp_path.iterdir()) == []


def test_commands_are_refused_in_every_table(tmp_path: Path) -> None:
    scp = tmp_path / "feats.scp"
    scp.write_text(f"f1-005 cat {tmp_path}/f.ark |\n")
    for arguments in (
        ["cmvn", f"scp:{scp}", "ark:-"],
        ["alignments", SYNTHETIC / "ali", "ark:-", "--feats", scp],
    ):
        assert run(*map(str, arguments), "--no-pipes").endswith("pipes are refused here (--no-pipes)")
        assert (
            run(*map(str, arguments), "--pipe-timeout", "-1")
            == "error: --pipe-timeout is -1, expected above 0"
        )


def test_tables_start_from_the_root(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    with MatrixWriter(f"{tmp_path}/far/f.ark") as writer:
        writer.write("u", np.ones((3, 2), np.float32))
    (tmp_path / "feats.scp").write_text("u far/f.ark:2\n")
    assert "1 statistics" in run("cmvn", f"scp:{tmp_path}/feats.scp", f"ark:{tmp_path}/c", "--root", tmp_path)


def test_a_rate_is_converted_for_a_check_as_for_the_features(tmp_path: Path) -> None:
    (tmp_path / "fbank.conf").write_text("--sample-frequency=8000\n")
    (tmp_path / "wav.scp").write_text(f"u {SYNTHETIC}/audio/f1-015.wav\n")
    arguments = ["check", str(tmp_path), "--fbank-conf", str(tmp_path / "fbank.conf")]
    assert CliRunner().invoke(app, arguments).exit_code == 1
    result = CliRunner().invoke(app, [*arguments, "--resample"])
    assert result.exit_code == 0
    assert "frames: 89\n" in result.stdout  # as many as the fixtures' README says of 16 kHz


# ------------------------------------------------------------------------------------- nothing to write


def ali_dir(folder: Path) -> Path:
    folder.mkdir()
    for name in ("final.mdl", "ali.1.gz", "ali.2.gz"):
        shutil.copy(SYNTHETIC / "ali" / name, folder / name)
    return folder


def test_an_archive_without_utterances_among_others_is_said(tmp_path: Path) -> None:
    ali = ali_dir(tmp_path / "ali")
    (ali / "ali.2.gz").write_bytes(gzip.compress(b""))  # gunzip -c ali.*.gz is content
    said = run("alignments", ali, f"ark:{tmp_path}/pdf.ark")
    assert said == f"note: {ali}/ali.2.gz: no utterances in it\n{ali}: 6 utterances\n"
    (ali / "ali.2.gz").write_bytes(b"")  # gunzip is not: unexpected end of file
    said = run("alignments", ali, f"ark:{tmp_path}/other.ark")
    assert said == f"error: {ali}/ali.2.gz: cut short: an empty file, expected a gzip file"
    assert not (tmp_path / "other.ark").exists()


def test_no_alignments_and_no_statistics_are_errors_as_in_kaldi(tmp_path: Path) -> None:
    """``ali-to-pdf`` and ``compute-cmvn-stats`` exit with 1 when nothing was done."""
    ali = ali_dir(tmp_path / "ali")
    for name in ("ali.1.gz", "ali.2.gz"):
        (ali / name).write_bytes(gzip.compress(b""))
    assert run("alignments", ali, f"ark:{tmp_path}/a") == f"error: {ali}: no alignments"
    (tmp_path / "empty.ark").write_bytes(b"")
    assert run("cmvn", f"ark:{tmp_path}/empty.ark", f"ark:{tmp_path}/c").endswith(
        "no frames to make statistics of"
    )
    (tmp_path / "empty.scp").write_text("\n")
    said = run("features", tmp_path, tmp_path / "out", "--feats", tmp_path / "empty.scp")
    assert said == f"error: {tmp_path}/empty.scp: no utterances"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ali", "empty.ark", "empty.scp"]


def test_an_utterance_trimmed_to_nothing_is_left_out(tmp_path: Path) -> None:
    ali = tmp_path / "ali"
    ali.mkdir()
    shutil.copy(SYNTHETIC / "ali/final.mdl", ali)
    tids = np.array([2, 2, 2], np.int32)
    write_int_vectors(f"{ali}/ali.1", [("empty", tids[:0]), ("good", tids)])
    with MatrixWriter(f"ark,scp:{tmp_path}/f.ark,{tmp_path}/f.scp") as writer:
        writer.write("empty", np.zeros((1, 2), np.float32))
        writer.write("good", np.zeros((4, 2), np.float32))
    options = ["--feats", tmp_path / "f.scp", "--trim", "1", "--trimmed-feats"]
    said = run("alignments", ali, f"ark:{tmp_path}/pdf", *options, tmp_path / "t.scp")
    assert "empty: no frames in its features or its alignment, left out\n" in said
    assert "1 utterances of unlike length, cut" in said
    trimmed = MatrixScp(tmp_path / "t.scp")
    assert {u: len(trimmed[u]) for u in trimmed} == {"good": 3}
    assert [u for u, _ in read_int_vectors(f"{tmp_path}/pdf")] == ["good"]
    (tmp_path / "f.scp").write_text((tmp_path / "f.scp").read_text().splitlines()[0] + "\n")
    said = run("alignments", ali, f"ark:{tmp_path}/none", *options, tmp_path / "none.scp")
    assert said == f"error: {ali}: no alignments with frames in {tmp_path}/f.scp"
    assert not list(tmp_path.glob("none*"))


def test_features_without_a_frame_are_an_error_and_checked(tmp_path: Path) -> None:
    audio = (SYNTHETIC / "audio/syn6.wav").read_bytes()
    (tmp_path / "u.wav").write_bytes(audio[:44] + audio[44 : 44 + 600])
    header = bytearray((tmp_path / "u.wav").read_bytes())
    header[4:8], header[40:44] = struct.pack("<I", 636), struct.pack("<I", 600)
    (tmp_path / "u.wav").write_bytes(header)
    (tmp_path / "wav.scp").write_text(f"u {tmp_path}/u.wav\n")
    said = run("features", tmp_path, tmp_path / "out", "--nj", "1")
    assert said == f"error: {tmp_path}: none of 1 utterances has a frame (0 segments left out)"
    assert not (tmp_path / "out/feats.scp").exists()
    result = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert (result.exit_code, "problem: no utterance is as long as a frame" in result.stdout) == (1, True)


def test_nothing_to_compare_is_an_error(tmp_path: Path) -> None:
    from asr_bn.export.parity import compare

    with MatrixWriter(f"ark,scp:{tmp_path}/f.ark,{tmp_path}/f.scp") as writer:
        writer.write("u", np.zeros((0, 0), np.float32))
    with pytest.raises(ValueError, match=r"f\.scp: no utterance with frames to compare"):
        compare(None, None, MatrixScp(tmp_path / "f.scp"), 1e-5)  # type: ignore[arg-type]
