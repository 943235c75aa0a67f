"""``asr-bn features`` end to end: Kaldi's numbers, the same bytes however it is run, killed or resumed."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_bn.features.options import FbankOptions
from asr_bn.kaldi_io.matrix_table import MatrixScp, read_matrices
from tests.helpers.kaldi_fixtures import FSDD, needs_fsdd

COMMAND = [sys.executable, "-m", "asr_bn.cli.main", "features"]
OUTPUTS = {"feats.ark", "feats.scp", "fbank.conf", ".features.stamp.json"}


def _run(*arguments: str | Path, code: int = 0) -> str:
    done = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Seventy utterances of noise, a third of a second each, and a speaker for every ten."""
    folder = tmp_path / "data with space"
    folder.mkdir()
    random = np.random.default_rng(0)
    lines, speakers = [], []
    for i in range(70):
        soundfile.write(
            folder / f"{i:02d}.wav", random.normal(0, 0.02, 5000 + 10 * i), 16000, subtype="PCM_16"
        )
        lines.append(f"u{i:02d} {folder}/{i:02d}.wav\n")
        speakers.append(f"u{i:02d} s{i // 10}\n")
    (folder / "wav.scp").write_text("".join(lines))
    (folder / "utt2spk").write_text("".join(speakers))
    return folder


def test_segments_that_kaldi_leaves_out(corpus: Path, tmp_path: Path) -> None:
    """The archive is that of the other segments alone, on one process and on two, and it is said."""
    seconds = {f"u{i:02d}": (5000 + 10 * i) / 16000 for i in range(70)}
    left_out = {f"u{i:02d}" for i in (0, 9, 40, 69)}
    lines = {
        utt_id: f"{utt_id} {utt_id} 0 {0.05 if utt_id in ('u00', 'u40') else 5}\n"
        if utt_id in left_out
        else f"{utt_id} {utt_id} 0 {length:.4f}\n"
        for utt_id, length in seconds.items()
    }
    lines["u00"] = "u00 u00 0 0.2 1\n"  # the first one, whose recording tells the rate: it has one channel
    (corpus / "segments").write_text("".join(lines.values()))
    for jobs in ("1", "2"):
        message = _run(corpus, tmp_path / jobs, "--nj", jobs)
        assert "66 utterances (0 from an earlier run)" in message
        for utt_id in left_out:
            why = "channel 1 of 1" if utt_id == "u00" else "the segment from 0 to"
            assert f"note: {utt_id}: {corpus}/{utt_id[1:]}.wav: {why}" in message
    (corpus / "segments").write_text("".join(lines[utt_id] for utt_id in lines if utt_id not in left_out))
    _run(corpus, tmp_path / "others", "--nj", "1")
    for name in ("1", "2"):
        assert (tmp_path / name / "feats.ark").read_bytes() == (tmp_path / "others/feats.ark").read_bytes()
        assert list(MatrixScp(tmp_path / name / "feats.scp")) == sorted(seconds.keys() - left_out)


def test_the_bytes_do_not_depend_on_how_it_is_run(corpus: Path, tmp_path: Path) -> None:
    message = _run(corpus, tmp_path / "one", "--nj", "1")
    assert "sample frequency: 16000 Hz, as u00 has" in message
    assert "70 utterances (0 from an earlier run)" in message
    _run(corpus, tmp_path / "two", "--nj", "2")
    assert (tmp_path / "one/feats.ark").read_bytes() == (tmp_path / "two/feats.ark").read_bytes()
    assert {path.name for path in (tmp_path / "two").iterdir()} == OUTPUTS | {"utt2spk"}
    assert FbankOptions.read_conf(tmp_path / "one/fbank.conf") == FbankOptions()
    before = (tmp_path / "one/feats.ark").stat().st_mtime_ns
    assert "already done" in _run(corpus, tmp_path / "one", "--nj", "1")
    assert (tmp_path / "one/feats.ark").stat().st_mtime_ns == before
    assert "0 from an earlier run" in _run(corpus, tmp_path / "one", "--nj", "1", "--deltas")
    assert MatrixScp(tmp_path / "one/feats.scp")["u00"].shape[1] == 123


def test_long_ids_that_end_alike_do_not_mix(corpus: Path, tmp_path: Path) -> None:
    for name in ("wav.scp", "utt2spk"):
        lines = (line.split(" ", 1) for line in (corpus / name).read_text().splitlines())
        (corpus / name).write_text("".join(f"{utt_id}-{'x' * 120} {rest}\n" for utt_id, rest in lines))
    for nj in ("1", "2"):
        _run(corpus, tmp_path / nj, "--nj", nj)
    assert (tmp_path / "1/feats.ark").read_bytes() == (tmp_path / "2/feats.ark").read_bytes()


def test_killed_and_run_again_it_goes_on_and_ends_with_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    _run(corpus, tmp_path / "whole", "--nj", "1")
    # The last utterance hangs until the file "go" is there, so that the process is killed in the middle.
    lines = (corpus / "wav.scp").read_text().splitlines()
    waiting = f"while [ ! -e '{tmp_path}/go' ]; do sleep 0.05; done; cat '{corpus}/69.wav' |"
    (corpus / "wav.scp").write_text("\n".join([*lines[:69], f"u69 {waiting}"]) + "\n")
    out = tmp_path / "out"
    process = subprocess.Popen([*COMMAND, corpus, out, "--nj", "2"], stderr=subprocess.DEVNULL)
    journal = out / ".feats.partial.journal"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 65):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "feats.scp").exists()
    assert not (out / "feats.ark").exists()
    done = journal.read_bytes().count(b"\n") - 1  # the first line is not an utterance's
    assert done < 70
    with journal.open("ab") as stream:
        stream.write(b'["u69", 1')  # and a line that was cut
    (tmp_path / "go").touch()
    message = _run(corpus, out, "--nj", "1")
    assert f"({done} from an earlier run)" in message
    assert (out / "feats.ark").read_bytes() == (tmp_path / "whole/feats.ark").read_bytes()


def test_a_failure_leaves_no_final_name(corpus: Path, tmp_path: Path) -> None:
    (corpus / "50.wav").write_bytes(b"RIFF")
    message = _run(corpus, tmp_path / "out", "--nj", "2", code=1)
    assert "asr-bn: error: u50: " in message
    assert not {path.name for path in (tmp_path / "out").iterdir()} & OUTPUTS


def test_other_rates_are_refused_or_converted(corpus: Path, tmp_path: Path) -> None:
    soundfile.write(corpus / "69.wav", np.zeros(4000) + 0.001, 8000)
    message = _run(corpus, tmp_path / "out", code=1)
    assert "u69: " in message
    assert "sampled at 8000 Hz, expected 16000 Hz" in message
    _run(corpus, tmp_path / "out", "--resample")
    assert len(MatrixScp(tmp_path / "out/feats.scp")["u69"]) == 1 + (8000 - 400) // 160


def test_conf_file_and_dither(corpus: Path, tmp_path: Path) -> None:
    conf = tmp_path / "fbank.conf"
    conf.write_text("--num-mel-bins=23\n--dither=1\n")
    for name, extra in (("a", []), ("b", ["--nj", "2"]), ("c", ["--seed", "1"])):
        _run(corpus, tmp_path / name, "--fbank-conf", conf, *extra)
    one, same, other = ((tmp_path / name / "feats.ark").read_bytes() for name in "abc")
    assert one == same
    assert one != other
    assert MatrixScp(tmp_path / "a/feats.scp")["u00"].shape[1] == 24
    assert FbankOptions.read_conf(tmp_path / "a/fbank.conf") == FbankOptions(num_mel_bins=23, dither=1.0)


def test_features_read_instead_of_computed(corpus: Path, tmp_path: Path) -> None:
    _run(corpus, tmp_path / "static")
    _run(corpus, tmp_path / "direct", "--deltas")
    _run(corpus, tmp_path / "read", "--deltas", "--feats", tmp_path / "static/feats.scp")
    assert (tmp_path / "direct/feats.ark").read_bytes() == (tmp_path / "read/feats.ark").read_bytes()


def test_no_pipes(corpus: Path, tmp_path: Path) -> None:
    (corpus / "wav.scp").write_text(f"u00 cat '{corpus}/00.wav' |\n")
    assert "pipes are refused" in _run(corpus, tmp_path / "out", "--no-pipes", code=1)
    _run(corpus, tmp_path / "out")


def test_two_at_once_are_refused(corpus: Path, tmp_path: Path) -> None:
    from asr_bn.extraction.archive_job import ArchiveJob

    with ArchiveJob(tmp_path / "out", "x").open():
        assert "another process is writing" in _run(corpus, tmp_path / "out", code=1)


def test_a_failing_write_is_named(corpus: Path, tmp_path: Path) -> None:
    # A limit of the size of files stands in for a full disk: both are an OSError of the same call.
    out = tmp_path / "out"
    limited = ["bash", "-c", 'ulimit -f 100; exec "$@"', "-", *COMMAND, str(corpus), str(out), "--nj", "1"]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"asr-bn: error: {out}/.feats.partial.ark: File too large" in done.stderr
    assert not {path.name for path in out.iterdir()} & OUTPUTS
    _run(corpus, out)


def test_ray_gives_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is an extra: pip install 'asr-bn[ray]'")
    _run(corpus, tmp_path / "one", "--nj", "1")
    _run(corpus, tmp_path / "ray", "--nj", "2", "--engine", "ray")
    assert (tmp_path / "one/feats.ark").read_bytes() == (tmp_path / "ray/feats.ark").read_bytes()


def test_kaldi_native_io_reads_the_compressed_archive(corpus: Path, tmp_path: Path) -> None:
    kaldi_native_io = pytest.importorskip("kaldi_native_io")
    _run(corpus, tmp_path / "out", "--compress")
    ours = dict(read_matrices(tmp_path / "out/feats.scp"))
    with kaldi_native_io.SequentialFloatMatrixReader(f"scp:{tmp_path}/out/feats.scp") as reader:
        theirs = {key: np.array(value) for key, value in reader}
    assert list(ours) == list(theirs)
    for utt_id, matrix in theirs.items():
        np.testing.assert_allclose(ours[utt_id], matrix, rtol=0, atol=1e-5)


@needs_fsdd
def test_a_whole_corpus_with_its_frames(tmp_path: Path) -> None:
    message = _run(FSDD / "data/dev", tmp_path / "out", "--root", FSDD, "--nj", "2")
    assert "54 utterances" in message
    assert "18952 frames" in message
    oracle = dict(read_matrices(FSDD / "oracles/fbank8k/dev.fbank.txt.gz"))
    scp = MatrixScp(tmp_path / "out/feats.scp")
    assert max(float(np.abs(scp[utt_id] - matrix).max()) for utt_id, matrix in oracle.items()) <= 5e-3
