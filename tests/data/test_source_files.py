"""Stamps know what they vouch for: whatever source changes, the work is done again."""

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.data.source_files import SourceFiles
from asr_bn.kaldi_io.matrix_table import MatrixWriter
from asr_bn.system.stamps import fingerprint, is_done, mark_done
from tests.helpers.kaldi_fixtures import SYNTHETIC

ALI = SYNTHETIC / "ali"


def run(verb: str, *arguments: object) -> str:
    result = CliRunner().invoke(app, [verb, *map(str, arguments)])
    assert result.exit_code == 0, result.exception
    return result.stderr


def touch(path: Path) -> None:
    """As a file of the same size that is written again."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))


def append(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"\n")


def write_feats(folder: Path, value: float = 1.0) -> Path:
    folder.mkdir(exist_ok=True)
    with MatrixWriter(f"ark,scp:{folder}/feats.ark,{folder}/feats.scp") as writer:
        for utt_id in ("a", "b"):
            writer.write(utt_id, np.full((3, 2), value, np.float32))
    return folder


def identity(sources: SourceFiles) -> str:
    return fingerprint({}, sources.small, sources.large)


def check_each(find: Callable[[], SourceFiles], changes: dict[str, Callable[[], object]]) -> None:
    seen = [identity(find())]
    assert identity(find()) == seen[0]
    for name, change in changes.items():
        change()
        seen.append(identity(find()))
        assert len(set(seen)) == len(seen), name


def test_a_data_folder_is_its_tables_and_what_they_name(tmp_path: Path) -> None:
    data = write_feats(tmp_path / "data")
    for name in ("a.wav", "b.ark"):
        (tmp_path / name).write_bytes(b"audio")
    (data / "wav.scp").write_text(f"a a.wav\nb {tmp_path}/b.ark:3\nc sph2pipe c.wv1 |\n")
    (data / "text").write_text("a words\n")
    check_each(
        lambda: SourceFiles.of_data_dir(data, tmp_path),
        {
            "relative audio": lambda: touch(tmp_path / "a.wav"),
            "archive of audio": lambda: touch(tmp_path / "b.ark"),
            "archive of features": lambda: touch(data / "feats.ark"),
            "text": lambda: append(data / "text"),
            "a new table": lambda: (data / "segments").write_text(""),
            "audio that goes": lambda: (tmp_path / "a.wav").unlink(),
        },
    )
    assert (
        SourceFiles.of_data_dir(data, tmp_path).remark == " (what the commands in it read was not compared)"
    )
    other = write_feats(tmp_path / "other")
    assert SourceFiles.of_data_dir(other).remark == ""
    os.mkfifo(other / "text")
    assert SourceFiles.of_data_dir(other).remark == " (what the commands in it read was not compared)"


def test_features_that_are_made_otherwise_are_others_though_their_script_file_is_the_same(
    tmp_path: Path,
) -> None:
    data = write_feats(tmp_path / "data")
    script, before = (data / "feats.scp").read_bytes(), identity(SourceFiles.of_data_dir(data))
    os.utime(data / "feats.ark", ns=(0, 0))
    write_feats(data, 2.0)
    assert (data / "feats.scp").read_bytes() == script
    assert identity(SourceFiles.of_data_dir(data)) != before


@pytest.mark.parametrize("table", ["feats.scp", "scp:{}/feats.scp", "ark:{}/feats.ark", "{}/feats.ark"])
def test_a_table_is_its_archives(tmp_path: Path, table: str) -> None:
    data = write_feats(tmp_path / "data")
    name = table.format(data) if "{" in table else str(data / table)
    check_each(lambda: SourceFiles.of_table(name), {"archive": lambda: touch(data / "feats.ark")})
    lines = (data / "feats.scp").read_text().splitlines()
    for rows in ("[0:1]", " [0:1]"):
        (data / "feats.scp").write_text("".join(f"{line}{rows}\n" for line in lines))
        check_each(
            lambda: SourceFiles.of_table(data / "feats.scp"),
            {"behind a range": lambda: touch(data / "feats.ark")},
        )


@pytest.mark.parametrize("model", ["final.mdl", "final.mdl.gz", "final.alimdl"])
def test_alignments_are_their_archives_and_model(tmp_path: Path, model: str) -> None:
    for name in ("ali.1.gz", "ali.2.gz"):
        shutil.copy(ALI / name, tmp_path / name)
    (tmp_path / model).write_bytes((ALI / "final.mdl").read_bytes())
    check_each(
        lambda: SourceFiles.of_alignments(tmp_path),
        {"archive": lambda: append(tmp_path / "ali.2.gz"), "model": lambda: append(tmp_path / model)},
    )
    pdf = tmp_path / "pdf"
    pdf.mkdir()
    (pdf / "pdf.1.gz").write_bytes(gzip.compress(b""))
    for source in (pdf, pdf / "pdf.1.gz"):
        check_each(
            lambda source=source: SourceFiles.of_alignments(source),  # type: ignore[misc]
            {
                "archive": lambda: append(pdf / "pdf.1.gz"),
                "count": lambda: (pdf / "num_pdfs").write_text(str(os.urandom(4))),
            },
        )


def test_a_stamp_that_does_not_hold_is_removed(tmp_path: Path) -> None:
    """Else a run with other options that is killed would leave it beside half its outputs."""
    output, stamp = tmp_path / "out", tmp_path / ".done"
    output.write_text("of A")
    mark_done(stamp, "A")
    assert not is_done(stamp, "B", [output])
    assert not is_done(stamp, "A", [output])
    for nonsense in ("", "[]", "{}", "null"):
        stamp.write_text(nonsense)
        assert not is_done(stamp, "A", [output])


def test_an_archive_of_alignments_is_vouched_for_in_the_form_that_it_has(tmp_path: Path) -> None:
    binary, text = f"ark:{tmp_path}/pdf.ark", f"ark,t:{tmp_path}/pdf.ark"
    assert "utterances" in run("alignments", ALI, binary)
    assert "already" in run("alignments", ALI, binary)
    assert "utterances" in run("alignments", ALI, text)  # over the same archive
    assert "utterances" in run("alignments", ALI, binary)
    pair = f"ark,scp:{tmp_path}/pdf.ark,{tmp_path}/pdf.scp"
    assert "utterances" in run("alignments", ALI, pair)
    assert "already" in run("alignments", ALI, pair)
    (tmp_path / "pdf.scp").unlink()
    assert "utterances" in run("alignments", ALI, pair)
    assert "utterances" in run("alignments", ALI, binary, "--phones")
    (tmp_path / "mono").mkdir()
    for path in (SYNTHETIC / "variants/mono").glob("*"):
        shutil.copy(path, tmp_path / "mono")
    assert "utterances" in run("alignments", tmp_path / "mono", binary)
    assert "utterances" in run("alignments", ALI, binary)
    assert "utterances" in run("alignments", ALI, f"ark:| cat > {tmp_path}/pdf.ark")


def test_features_know_their_statistics_and_audio_but_not_how_patient_they_are(tmp_path: Path) -> None:
    audio, data = tmp_path / "u.wav", tmp_path / "data"
    shutil.copy(SYNTHETIC / "audio/syn16.wav", audio)
    data.mkdir()
    (data / "wav.scp").write_text(f"u cat {audio} |\n")
    assert run("features", data, tmp_path / "out", "--nj", "1").endswith("0 shorter than a frame\n")
    run("cmvn", f"scp:{tmp_path}/out/feats.scp", f"ark,scp:{tmp_path}/cmvn.ark,{tmp_path}/cmvn.scp")
    command = ["features", data, tmp_path / "norm", "--nj", "1", "--cmvn"]
    for statistics in (f"{tmp_path}/cmvn.scp", f"scp:{tmp_path}/cmvn.scp", f"ark:{tmp_path}/cmvn.ark"):
        run(*command, statistics)
        said = run(*command, statistics, "--pipe-timeout", "30")
        assert said == f"{tmp_path}/norm: already done (what the commands in it read was not compared)\n"
        touch(tmp_path / "cmvn.ark")
        assert "1 utterances (0 from" in run(*command, statistics)
    (tmp_path / "cmvn.scp").write_text("u cmvn.ark:2\n")
    rooted = [*command, f"{tmp_path}/cmvn.scp", "--root", tmp_path]
    for _ in range(2):
        assert "1 utterances (0 from" in run(*rooted)
        touch(tmp_path / "cmvn.ark")


def test_a_decoding_is_done_again_when_anything_that_it_reads_changes(tmp_path: Path) -> None:
    pytest.importorskip("kaldi_decoder")
    from tests.helpers.serving import write_model

    model = write_model(tmp_path / "model.onnx", num_pdfs=72)
    shutil.copytree(SYNTHETIC / "graph", tmp_path / "graph")
    shutil.copy(ALI / "final.mdl", tmp_path / "graph/final.mdl")
    (tmp_path / "graph").chmod(0o755)
    shutil.copy(SYNTHETIC / "audio/f1-015.wav", tmp_path / "u.wav")
    data = tmp_path / "data"
    data.mkdir()
    (data / "wav.scp").write_text("u u.wav\n")
    (data / "text").write_text("u bring my chair\n")
    (tmp_path / "filter").write_text("s/my//\n")
    command = ["decode", model, tmp_path / "graph", data, tmp_path / "out", "--nj", "1", "--device", "cpu"]
    command += ["--root", tmp_path, "--acoustic-scale", "0.1", "--wer-filter", tmp_path / "filter"]
    assert "1 utterances" in run(*map(str, command))
    assert "already" in run(*map(str, command), "--nj", "2")
    packed = tmp_path / "graph/HCLG.fst.gz"
    changes: dict[str, Callable[[], object]] = {
        "audio": lambda: touch(tmp_path / "u.wav"),
        "graph": lambda: packed.write_bytes(gzip.compress(gzip.decompress(packed.read_bytes()), 1)),
        "transition model": lambda: append(tmp_path / "graph/final.mdl"),
        "filter": lambda: append(tmp_path / "filter"),
    }
    for name, change in changes.items():
        change()
        assert "1 utterances" in run(*map(str, command)), name
    assert "1 utterances" in run(*map(str, command), "--resample")
