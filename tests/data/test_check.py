"""``asr-bn check``: the numbers that the fixtures' README and Kaldi's programs give, and planted faults."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from asr_bn.audio.source import AudioSource
from asr_bn.data.check import check_data
from asr_bn.kaldi_io.int_vector_table import read_int_vectors, write_int_vectors
from asr_bn.kaldi_io.matrix_table import MatrixWriter
from tests.helpers.kaldi_fixtures import FSDD, SYNTHETIC, needs_fsdd


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three utterances of the aligned corpus, as a data folder."""
    ids = ("f1-015", "f2-008", "m4-009")
    (tmp_path / "wav.scp").write_text("".join(f"{u} {SYNTHETIC}/audio/{u}.wav\n" for u in ids))
    (tmp_path / "utt2spk").write_text("".join(f"{u} {u[:2]}\n" for u in ids))
    (tmp_path / "spk2utt").write_text("".join(f"{u[:2]} {u}\n" for u in ids))
    (tmp_path / "text").write_text("".join(f"{u} two words\n" for u in ids))
    return tmp_path


def test_a_sound_folder_and_its_alignments(folder: Path) -> None:
    report = check_data(folder, SYNTHETIC / "ali")
    assert report.problems == []
    # 89, 95 and 91 frames: the README of the fixture.
    assert {"utterances: 3", "speakers: 3", "words: 6", "frames: 275", "aligned utterances: 3"} <= set(
        report.facts
    )
    assert any(remark.startswith("9 utterances aligned, but not in the data") for remark in report.remarks)


def test_segments_that_kaldi_leaves_out_are_remarks(folder: Path) -> None:
    (folder / "segments").write_text("f1-015 f1-015 0 0.5\nf2-008 f2-008 0 0.05\nm4-009 m4-009 0 9\n")
    report = check_data(folder)
    assert report.problems == []
    assert "frames: 48" in report.facts  # of half a second
    (remark,) = (remark for remark in report.remarks if "segment" in remark)
    assert re.match(r"2 utterances that extract-segments leaves out: f2-008: .*, m4-009: ", remark)


def test_lines_of_segments_that_kaldi_skips_are_problems(folder: Path) -> None:
    """As ``validate_data_dir.sh`` has them: "badly formatted segments file", unknown recordings."""
    (folder / "segments").write_text("f1-015 f1-015 0 0.5\nf2-008 gone 0 0.5\nm4-009 m4-009 0\n")
    problems = [problem for problem in check_data(folder).problems if "segments, line" in problem]
    assert [re.search("line [23]", problem) is not None for problem in problems] == [True, True]


def test_tables_for_kaldis_own_scripts_have_the_same_ids(folder: Path) -> None:
    """As validate_data_dir.sh compares them."""
    ids, speakers = ("f1-015", "f2-008", "m4-009"), ("f1", "f2", "m4")
    for name in ("utt2dur", "utt2num_frames", "utt2lang", "utt2uniq", "vad.scp"):
        (folder / name).write_text("".join(f"{u} 1\n" for u in ids))
    (folder / "spk2gender").write_text("".join(f"{s} f\n" for s in speakers))
    (folder / "reco2file_and_channel").write_text("".join(f"{u} {u} A\n" for u in ids))
    for keys in (speakers, ids):
        (folder / "cmvn.scp").write_text("".join(f"{key} cmvn.ark:4\n" for key in keys))
        assert check_data(folder).problems == []
    faults = {
        "utt2dur": ("f1-015 1\nf2-008 1\n", "1 utterances missing in utt2dur: m4-009"),
        "utt2num_frames": ("f1-015 1\nf2-008 1\nm4-009 1\nx 1\n", "1 utterances in utt2num_frames only: x"),
        "spk2gender": ("f1 f\nf2 f\n", "1 speakers missing in spk2gender: m4"),
        "cmvn.scp": ("f1 cmvn.ark:4\nf2 cmvn.ark:9\n", "1 entries missing in cmvn.scp: m4"),
        "reco2file_and_channel": (
            "f1-015 A\n",
            f"{folder}/reco2file_and_channel: f1-015 'A', expected a file and a channel",
        ),
        "utt2lang": ("m4-009 x\nf1-015 x\n", f"{folder}/utt2lang, line 2: f1-015 is out of order"),
    }
    for number, (name, value) in enumerate(
        [
            ("utt2spk", "f1 f"),
            ("spk2gender", "x"),
            ("utt2dur", "0"),
            ("utt2dur", "1 2"),
            ("utt2dur", "abc"),
            ("utt2num_frames", "1.5"),
            ("utt2num_frames", "0"),
        ]
    ):
        sound = (folder / name).read_text()
        first, _, rest = sound.partition("\n")
        (folder / name).write_text(f"{first.split()[0]} {value}\n{rest}")
        problems = check_data(folder).problems
        assert any(f"{name}: {first.split()[0]} {value!r}, expected " in problem for problem in problems), (
            number
        )
        (folder / name).write_text(sound)
    for name, (text, problem) in faults.items():
        sound = (folder / name).read_text()
        (folder / name).write_text(text)
        (found,) = check_data(folder).problems
        assert found.startswith(problem)
        (folder / name).write_text(sound)


def test_the_rate_is_the_first_recordings_where_the_conf_file_names_none(folder: Path) -> None:
    conf = folder / "fbank.conf"
    conf.write_text("--frame-shift=20\n")
    wav = (SYNTHETIC / "audio/f1-015.wav").read_bytes()
    (folder / "a.wav").write_bytes(wav[:24] + (8000).to_bytes(4, "little") + wav[28:])
    for name in ("utt2spk", "spk2utt", "text"):
        (folder / name).unlink()
    (folder / "wav.scp").write_text(f"u {folder}/a.wav\n")
    report = check_data(folder, fbank_conf=conf)
    assert report.problems == []
    # 14507 samples at 8 kHz, in windows of 200 and steps of 160: 1 + (14507 - 200) // 160.
    assert {"sample frequency: 8000 Hz", "frames: 90"} <= set(report.facts)
    conf.write_text("--sample-frequency=16000\n")
    assert check_data(folder, fbank_conf=conf).problems == ["u: 8000 Hz, expected 16000 Hz"]
    assert check_data(folder, audio=AudioSource(resample=True), fbank_conf=conf).problems == []


def test_a_rate_that_no_recording_has(folder: Path) -> None:
    wav = (SYNTHETIC / "audio/m4-009.wav").read_bytes()
    (folder / "a.wav").write_bytes(wav[:24] + b"\xff" * 4 + wav[28:])
    lines = (folder / "wav.scp").read_text().splitlines()
    (folder / "wav.scp").write_text("\n".join([*lines[:2], f"m4-009 {folder}/a.wav"]) + "\n")
    sentence = f"m4-009: {folder}/a.wav: a sample frequency of 4294967295 Hz, expected 1000 to 192000"
    assert check_data(folder).problems == [sentence]


@needs_fsdd
def test_real_speech() -> None:
    report = check_data(FSDD / "data/train", FSDD / "exp/tri4b_ali_train", AudioSource(root=FSDD))
    assert report.problems == []
    expected = {"utterances: 450", "speakers: 6", "words: 1890", "frames: 123049", "hours: 0.34"}
    assert expected | {"pdfs: 96 (95 seen, 1 unseen)"} <= set(report.facts)
    assert "pdfs in no alignment: 1" in report.remarks


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("text", "f1-015 a\nf2-008 b\n", "1 utterances missing in text: m4-009"),
        ("text", "f1-015 a\nf2-008 b\nm4-009 c\nx d\n", "1 utterances in text only: x"),
        ("text", "f2-008 a\nf1-015 b\nm4-009 c\n", "line 2: f1-015 is out of order"),
        ("text", "f1-015 a\nf1-015 b\n", "line 2: f1-015 comes twice"),
        ("spk2utt", "f1 f1-015 f2-008\nm4 m4-009\n", "spk2utt: does not say the same as utt2spk"),
        (
            "wav.scp",
            "f1-015 gone.wav\nf2-008 gone.wav\nm4-009 gone.wav\n",
            "3 utterances whose audio file is missing",
        ),
        ("feats.scp", "f1-015 gone.ark:7\nf2-008 gone.ark:9\nm4-009 gone.ark:11\n", "gone.ark"),
    ],
)
def test_planted_faults(folder: Path, name: str, text: str, problem: str) -> None:
    (folder / name).write_text(text)
    problems = check_data(folder).problems
    assert any(problem in line for line in problems), problems


def test_alignments_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    chain = check_data(folder, SYNTHETIC / "variants/chain")
    assert chain.problems == [
        "one aligned pdf-id for every 3 frames: alignments of a model with frame subsampling"
    ]
    shutil.copytree(SYNTHETIC / "ali", tmp_path / "ali")
    items = dict(read_int_vectors(SYNTHETIC / "ali/ali.1.gz"))
    (tmp_path / "ali/ali.1.gz").unlink()
    write_int_vectors(tmp_path / "ali/ali.1", [(u, v[:-1]) for u, v in items.items()])
    off_by_one = check_data(folder, tmp_path / "ali")
    assert off_by_one.problems == [
        "2 utterances with unlike numbers of frames and pdf-ids: f1-015 (89 frames, 88 pdf-ids),"
        " f2-008 (95 frames, 94 pdf-ids)"
    ]


@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("\xa0", "00A0"),
        ("\u3000", "3000"),
        ("\u2028", "2028"),
        ("\x85", "0085"),
        ("\x0b", "000B"),
        ("\r", "000D"),
    ],
)
def test_what_validate_text_disallows(character: str, name: str, folder: Path) -> None:
    (folder / "text").write_bytes(f"f1-015 a\nf2-008 10{character}km weit\nm4-009 c\n".encode())
    problems = check_data(folder).problems
    assert problems == [
        f"{folder}/text, line 2: disallowed Unicode whitespace U+{name} in {f'f2-008 10{character}km weit'!r}"
    ]


@pytest.mark.parametrize(("text", "num_words"), [("10\xa0km weit", 6), ("a\x1cb", 5), ("a\vb\u200bc", 6)])
def test_words_are_counted_as_kaldi_counts(text: str, num_words: int, folder: Path) -> None:
    (folder / "text").write_bytes(f"f1-015 {text}\nf2-008 a b\nm4-009 c d\n".encode())
    assert f"words: {num_words}" in check_data(folder).facts


def test_whitespace_in_a_file_name_may_be_meant(folder: Path) -> None:
    names = {}
    for line in (folder / "wav.scp").read_text().splitlines():
        utt_id, path = line.split()
        names[utt_id] = shutil.copy(path, folder / f"{utt_id}\u3000")
    (folder / "wav.scp").write_text("".join(f"{utt_id} {name} \f\n" for utt_id, name in names.items()))
    report = check_data(folder)
    assert report.problems == []
    assert any("wav.scp, line 1: disallowed Unicode whitespace U+3000" in remark for remark in report.remarks)


def test_features_are_found_from_the_root(folder: Path) -> None:
    with MatrixWriter(folder / "sub.ark") as writer:
        writer.write("f1-015", np.zeros((7, 2), dtype=np.float32))
    (folder / "feats.scp").write_text("f1-015 sub.ark:7\n")
    for name in ("wav.scp", "text", "utt2spk", "spk2utt"):
        (folder / name).unlink()
    report = check_data(folder, audio=AudioSource(root=folder))
    assert (report.problems, "frames: 7" in report.facts) == ([], True)


@pytest.mark.parametrize("name", ["wav.scp", "text", "utt2spk", "spk2utt", "segments", "feats.scp"])
def test_lines_that_are_not_utf8_are_named(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"f1-015 caf\xe9 0 1\nf2-008 b 0 1\nm4-009 c 0 1\n")
    with pytest.raises(ValueError, match=f"{name}, line 1: not UTF-8"):
        check_data(folder)
