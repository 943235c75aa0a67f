"""Forty kinds of bad input: each ends in a sentence that names utterance and file, and in no output.

Every case makes a folder of its own, runs a verb of the command line in this process, and checks the whole
line that the user would see.
"""

import gzip
import io
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from asr_bn.cli.errors import describe
from asr_bn.cli.main import app
from asr_bn.kaldi_io.int_vector_table import write_int_vectors
from asr_bn.kaldi_io.matrix_table import MatrixWriter
from tests.helpers.kaldi_fixtures import SYNTHETIC

WAV = (SYNTHETIC / "audio/syn16.wav").read_bytes()
ARK = (SYNTHETIC / "oracles/feats/compressed.default.ark").read_bytes()
Case = Callable[[Path], list[str]]
CASES: dict[str, tuple[Case, str]] = {}


def case(sentence: str) -> Callable[[Case], Case]:
    """Register a case; ``sentence`` is a regular expression for the whole line, ``DIR`` its folder."""

    def register(function: Case) -> Case:
        CASES[function.__name__] = (function, sentence)
        return function

    return register


def audio(folder: Path, data: bytes, name: str = "a.wav") -> list[str]:
    """``features`` of a data folder with the one utterance ``u`` of these bytes."""
    (folder / name).write_bytes(data)
    return scp(folder, f"u {folder}/{name}\n")


def scp(folder: Path, wav_scp: str | bytes, *options: str, **files: str) -> list[str]:
    data = folder / "data"
    data.mkdir()
    (data / "wav.scp").write_bytes(wav_scp if isinstance(wav_scp, bytes) else wav_scp.encode())
    for name, text in files.items():
        (data / name).write_text(text)
    return ["features", str(data), str(folder / "out"), "--nj", "1", *options]


def feats(folder: Path, archive: bytes, offset: int = 4) -> list[str]:
    """``features --feats`` of a feats.scp whose utterance ``u`` is in these bytes."""
    (folder / "f.ark").write_bytes(archive)
    (folder / "feats.scp").write_text(f"u {folder}/f.ark:{offset}\n")
    (folder / "fbank.conf").write_text("--num-mel-bins=40\n")
    return ["features", str(folder), str(folder / "out"), "--feats", f"{folder}/feats.scp", "--nj", "1"]


def ali(folder: Path, model: bytes | None, archive: bytes, name: str = "ali.1.gz") -> list[str]:
    """``alignments`` of a folder with these files."""
    (folder / "ali").mkdir()
    if model is not None:
        (folder / "ali/final.mdl").write_bytes(model)
    (folder / "ali" / name).write_bytes(archive)
    return ["alignments", str(folder / "ali"), f"ark:{folder}/out/pdf.ark"]


def encoded(samples: np.ndarray, rate: int = 16000, **kwargs: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **kwargs)
    return buffer.getvalue()


MODEL = (SYNTHETIC / "ali/final.mdl").read_bytes()
ALI = (SYNTHETIC / "ali/ali.1.gz").read_bytes()


@case(r"u: DIR/a\.wav: an empty file")
def empty_audio(folder: Path) -> list[str]:
    return audio(folder, b"")


@case(r"u: DIR/a\.wav: no samples in it")
def audio_without_samples(folder: Path) -> list[str]:
    return audio(folder, WAV[:40] + bytes(4))


@case(r"u: DIR/a\.wav: a sample frequency of 4294967295 Hz, expected 1000 to 192000")
def a_rate_that_no_recording_has(folder: Path) -> list[str]:
    return audio(folder, WAV[:24] + b"\xff" * 4 + WAV[28:])


@case(r"u: yes \|: unknown audio format \(it begins with b'y\\ny\\ny\\ny\\n'\).*")
def a_pipe_without_an_end(folder: Path) -> list[str]:
    return scp(folder, "u yes |\n")


@case(r"DIR/data: none of 1 utterances has a frame \(0 segments left out\)")
def nothing_but_an_utterance_shorter_than_a_frame(folder: Path) -> list[str]:
    return audio(folder, encoded(np.full(399, 0.1), format="WAV"))


@case(r"u: /proc/self/mem: Input/output error")
def a_file_that_cannot_be_read(folder: Path) -> list[str]:
    return scp(folder, "u /proc/self/mem\n")


@case(r"u: DIR/a\.wav: cut short: 5600 bytes of samples expected, 1000 found")
def wav_cut_short(folder: Path) -> list[str]:
    return audio(folder, WAV[:1044])


@case(r"u: DIR/a\.wav: cut short: a WAV file without data")
def wav_header_only(folder: Path) -> list[str]:
    return audio(folder, WAV[:36])


@case(r"u: DIR/a\.wav: corrupt WAV: 0 channels at 16000 Hz")
def wav_without_channels(folder: Path) -> list[str]:
    return audio(folder, WAV[:22] + b"\0\0" + WAV[24:])


@case(r"u: DIR/a\.flac: (cannot be decoded|cut short).*")
def flac_cut_short(folder: Path) -> list[str]:
    noise = np.random.default_rng(0).integers(-9000, 9000, 50_000).astype(np.int16)
    return audio(folder, encoded(noise, format="FLAC")[:40_000], "a.flac")


@case(r"u: DIR/a\.wav: unknown audio format \(it begins with b'<!DOCTYP'\).*")
def a_web_page_instead_of_audio(folder: Path) -> list[str]:
    return audio(folder, b"<!DOCTYPE html><html>")


@case(r"u: DIR/a\.wav: sample 3 of 500 is nan")
def nan_samples(folder: Path) -> list[str]:
    samples = np.zeros(500, dtype=np.float32)
    samples[3] = np.nan
    return audio(folder, encoded(samples, format="WAV", subtype="FLOAT"))


@case(r"u: DIR/a\.wav: 2 channels; choose one \(--channel, from 0\)")
def stereo_without_a_channel(folder: Path) -> list[str]:
    return audio(folder, encoded(np.zeros((500, 2)) + 0.1, format="WAV"))


@case(r"v: DIR/b\.wav: sampled at 8000 Hz, expected 16000 Hz; --resample converts it")
def two_sample_rates(folder: Path) -> list[str]:
    (folder / "a.wav").write_bytes(WAV)
    (folder / "b.wav").write_bytes(encoded(np.zeros(500) + 0.1, 8000, format="WAV"))
    return scp(folder, f"u {folder}/a.wav\nv {folder}/b.wav\n")


@case(r"u: DIR/a\.wv1: corrupt SPHERE header: no end_head")
def sphere_without_an_end(folder: Path) -> list[str]:
    return audio(folder, b"NIST_1A\n   1024\nsample_rate -i 16000\n".ljust(1024), "a.wv1")


@case(r"u: DIR/a\.wv1: cut short or corrupt: a SPHERE header of 1024 bytes")
def sphere_cut_in_its_header(folder: Path) -> list[str]:
    return audio(folder, b"NIST_1A\n   1024\nsample_rate -i 16000\n", "a.wv1")


@case(r"u: DIR/a\.wv1: (cut short|cannot be decoded|no samples).*")
def sphere_shorten_that_is_garbage(folder: Path) -> list[str]:
    header = (
        b"NIST_1A\n   1024\nsample_rate -i 16000\nchannel_count -i 1\nsample_n_bytes -i 2\n"
        b"sample_count -i 99\nsample_byte_format -s2 01\n"
        b"sample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    )
    return audio(folder, header.ljust(1024) + bytes(range(256)) * 4, "a.wv1")


@case(r"u: DIR/gone\.wav: No such file or directory")
def a_missing_file(folder: Path) -> list[str]:
    return scp(folder, f"u {folder}/gone.wav\n")


@case(r"u: DIR: Is a directory")
def a_folder_instead_of_a_file(folder: Path) -> list[str]:
    return scp(folder, f"u {folder}\n")


@case(r"u: cat DIR/gone\.wav \|: the command failed with exit code 1: .*gone\.wav.*")
def a_pipe_that_fails(folder: Path) -> list[str]:
    return scp(folder, f"u cat {folder}/gone.wav |\n")


@case(r"u: sleep 60 \|: still running after 0\.2 seconds; stopped")
def a_pipe_that_hangs(folder: Path) -> list[str]:
    return scp(folder, "u sleep 60 |\n", "--pipe-timeout", "0.2")


@case(r"u: true \|: the command wrote nothing")
def a_pipe_that_is_silent(folder: Path) -> list[str]:
    return scp(folder, "u true |\n")


@case(r"u: true \|: pipes are refused here \(--no-pipes\)")
def a_pipe_where_pipes_are_refused(folder: Path) -> list[str]:
    return scp(folder, "u true |\n", "--no-pipes")


@case(r"u: twice in DIR/data/wav\.scp \(again in line 2\)")
def an_id_twice(folder: Path) -> list[str]:
    return scp(folder, "u a.wav\nu b.wav\n")


@case(r"u: nothing after the id in DIR/data/wav\.scp, line 1")
def an_id_without_a_file(folder: Path) -> list[str]:
    return scp(folder, "u\n")


@case(r"DIR/data/wav\.scp, line 1: not UTF-8")
def a_name_that_is_not_utf8(folder: Path) -> list[str]:
    return scp(folder, b"u \xe9t\xe9.wav\n")


@case(r"DIR/data: no utterances \(an empty wav\.scp or segments\)")
def an_empty_data_folder(folder: Path) -> list[str]:
    return scp(folder, "")


@case(r"DIR/nowhere/wav\.scp: No such file or directory")
def no_data_folder(folder: Path) -> list[str]:
    return ["features", f"{folder}/nowhere", f"{folder}/out"]


@case(r"u: DIR/data/segments, line 1: recording 'q' is not in wav\.scp")
def a_segment_of_no_recording(folder: Path) -> list[str]:
    return scp(folder, "r a.wav\n", segments="u q 0 1\n")


@case(r"DIR/data: none of 1 utterances has a frame \(1 segments left out\)")
def a_segment_past_the_end(folder: Path) -> list[str]:
    (folder / "a.wav").write_bytes(WAV)
    return scp(folder, f"r {folder}/a.wav\n", segments="u r 5 6\n")


@case(r"u: not in DIR/data/utt2spk")
def an_utterance_without_a_speaker(folder: Path) -> list[str]:
    return scp(folder, "u a.wav\n", utt2spk="v s\n")


@case(r"DIR/f\.conf, line 1: unknown option --num-ceps")
def an_option_of_mfcc(folder: Path) -> list[str]:
    (folder / "f.conf").write_text("--num-ceps=13\n")
    return [*audio(folder, WAV), "--fbank-conf", f"{folder}/f.conf"]


@case(r"u: DIR/f\.ark:4: cut short: expected 2091 more bytes, found 1647")
def an_archive_cut_short(folder: Path) -> list[str]:
    return feats(folder, ARK[:2000])


@case(r"u: DIR/f\.ark:4: corrupt: a compressed matrix of -1 x 41")
def a_corrupt_header(folder: Path) -> list[str]:
    position = ARK.index(b"CM ") + 3 + 8
    return feats(folder, ARK[:position] + struct.pack("<i", -1) + ARK[position + 4 :])


@case(r"u: DIR/f\.ark:2: cut short: expected 164000000000 more bytes, found 13")
def a_header_that_asks_for_all_memory(folder: Path) -> list[str]:
    header = b"u \0BFM " + b"\x04" + struct.pack("<i", 1_000_000_000) + b"\x04" + struct.pack("<i", 41)
    return feats(folder, header + b"not so much..", offset=2)


@case(r"u: DIR/f\.ark:90000: the offset lies past the end of the file \(2963 bytes\)")
def an_offset_past_the_end(folder: Path) -> list[str]:
    return feats(folder, ARK, offset=90_000)


@case(r"u: DIR/f\.ark:7: not a Kaldi matrix.*")
def an_offset_into_the_middle(folder: Path) -> list[str]:
    return feats(folder, ARK, offset=7)


@case(r"u: DIR/feats\.scp: 3 columns, but fbank\.conf says 41")
def features_of_another_kind(folder: Path) -> list[str]:
    with MatrixWriter(folder / "made.ark") as writer:
        writer.write("u", np.zeros((4, 3), dtype=np.float32))
    return feats(folder, (folder / "made.ark").read_bytes(), offset=2)


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
    from asr_bn.kaldi_io.int_vector_table import read_int_vectors

    return dict(read_int_vectors(archive))[utt_id]


def test_there_are_forty_kinds() -> None:
    assert len(CASES) >= 40


@pytest.mark.parametrize("name", CASES)
def test_one_clear_sentence_and_no_output(name: str, tmp_path: Path) -> None:
    make, sentence = CASES[name]
    arguments = make(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ValueError | OSError), result.output
    line = describe(result.exception)
    expected = sentence.replace("DIR", re.escape(str(tmp_path)))
    assert re.fullmatch(expected, line), line
    assert len(line) < 600
    out = tmp_path / "out"
    final = [path.name for path in out.iterdir() if not path.name.startswith(".")] if out.exists() else []
    assert final == []


def test_a_lack_of_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def decode(data: bytes, where: str) -> None:
        raise MemoryError("Unable to allocate 1.00 TiB")

    monkeypatch.setattr("asr_bn.audio.reader.decode", decode)
    result = CliRunner().invoke(app, audio(tmp_path, WAV))
    assert describe(result.exception) == f"u: {tmp_path}/a.wav: it needs more memory than there is"
    assert (
        describe(MemoryError("Unable to allocate 1.00 TiB")) == "out of memory: Unable to allocate 1.00 TiB"
    )
    assert describe(MemoryError()) == "out of memory"


def test_unsorted_ids_are_reported(tmp_path: Path) -> None:
    scp(tmp_path, "b b.wav\na a.wav\n")
    result = CliRunner().invoke(app, ["check", str(tmp_path / "data")])
    assert result.exit_code == 1
    assert f"problem: {tmp_path}/data/wav.scp, line 2: a is out of order" in result.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, which is a full disk")
@pytest.mark.parametrize("verb", ["alignments", "cmvn"])
def test_a_full_disk_behind_standard_output(verb: str, tmp_path: Path) -> None:
    source = {"alignments": "ali", "cmvn": "oracles/feats/compressed.default.ark"}[verb]
    command = [sys.executable, "-m", "asr_bn.cli.main", verb, str(SYNTHETIC / source), "ark:-"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "asr-bn: error: standard output: No space left on device\n"


def test_a_full_disk_behind_an_archive(tmp_path: Path) -> None:
    """A limit of the size of files stands in for it; the archive does not get its name."""
    command = [sys.executable, "-m", "asr_bn.cli.main", "alignments", str(SYNTHETIC / "ali")]
    limited = ["bash", "-c", 'ulimit -f 1; exec "$@"', "-", *command, f"ark:{tmp_path}/out/pdf.ark"]
    done = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"asr-bn: error: {tmp_path}/out/pdf.ark: File too large\n"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_reader_that_goes_away_ends_it_quietly(tmp_path: Path) -> None:
    command = f"{sys.executable} -m asr_bn.cli.main alignments {SYNTHETIC}/ali ark:- 2> {tmp_path}/err | true"
    done = subprocess.run(["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], check=False)
    assert done.returncode == 1
    assert (tmp_path / "err").read_text() == ""
