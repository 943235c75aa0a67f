"""Data folders of the WSJ disks, on a tiny tree in their layouts; what is expected was worked out by hand."""

import struct
from pathlib import Path

import numpy as np
import pytest

from asr_bn.audio.reader import read_waveform
from asr_bn.kaldi_io.data_dir import DataDir
from recipes.wsj.local.prepare_wsj import main
from recipes.wsj.local.transcripts import normalize_transcript

# Disk, name in the index, transcript in the .dot file.
WSJ0_TRAIN = [
    ("11-1.1", "wsj0/si_tr_s/01i/01ic0202.wv1", 'He said ,COMMA \\"DOUBLE-QUOTE no [door_slam] \\.PERIOD'),
    ("11-1.1", "wsj0/si_tr_s/01i/01ic0201.wv1", "The [<door_slam] rate is <is> up *four*"),
    ("11-2.1", "wsj0/si_tr_s/401/401c0201.wv1", "Left out"),
]
WSJ1_TRAIN = [
    (
        "13-1.1",
        "wsj1/si_tr_s/46g/46gc0201.wv1",
        "I\\. B\\. M\\. [phone_ring/] rose . five [/phone_ring] .point two",
    ),
]
DEV93 = [
    ("13-16.1", "wsj1/si_dt_20/4k0/4k0c0301.wv1", "[loud_breath] sales --dash up %percent ~"),
    ("13-16.1", "wsj1/si_dt_20/4k0/4k0c030a.wv1", "It's <don't> over"),
]
TRAIN_TEXT = """\
01ic0201 THE RATE IS IS UP *FOUR*
01ic0202 HE SAID ,COMMA "DOUBLE-QUOTE NO <NOISE> .PERIOD
46gc0201 I. B. M. ROSE FIVE POINT TWO
"""
DEV_TEXT = "4k0c0301 <NOISE> SALES -DASH UP PERCENT\n4k0c030a IT'S DON'T OVER\n"
SPHERE_FIELDS = (
    "sample_rate -i 16000\nchannel_count -i 1\nsample_n_bytes -i 2\nsample_byte_format -s2 01\n"
    "sample_coding -s3 pcm\nsample_count -i 3\nend_head\n"
)
SAMPLES = [1, -2, 300]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="latin-1")


def _write_sphere(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = f"NIST_1A\n   1024\n{SPHERE_FIELDS}".encode().ljust(1024)
    path.write_bytes(header + struct.pack("<3h", *SAMPLES))


def _index(utterances: list[tuple[str, str, str]], separator: str) -> str:
    lines = [f"{disk.replace('-', '_').replace('.', '_')}:{separator}{name}" for disk, name, _ in utterances]
    return ";; Index, 3 utterances\n;;\n" + "\n".join(lines) + "\n"


def _dots(utterances: list[tuple[str, str, str]]) -> dict[str, str]:
    dots: dict[str, str] = {}
    for _, name, transcript in utterances:
        utt_id = Path(name).stem
        dots[f"{utt_id[:6]}00.dot"] = dots.get(f"{utt_id[:6]}00.dot", "") + f"{transcript} ({utt_id})\n"
    return dots


def _files() -> dict[tuple[str, str], str]:
    """The text files of the corpus, by disk and name."""
    files = {
        ("11-13.1", "wsj0/doc/indices/train/tr_s_wv1.ndx"): _index(WSJ0_TRAIN, ""),
        ("13-34.1", "wsj1/doc/indices/si_tr_s.ndx"): _index(WSJ1_TRAIN, " /"),
        ("13-34.1", "wsj1/doc/indices/h1_p0.ndx"): _index(DEV93, " "),
        ("13-34.1", "wsj1/doc/dev_spok/spkrinfo.txt"): ";; ID sex\n4K0  F  VT\n4k1  --\n",
        ("13-34.1", "wsj1/doc/train/spkrinfo.txt"): "46G M CA\n",
    }
    for name, text in _dots(WSJ0_TRAIN).items():
        files["11-10.1", f"wsj0/transcrp/dots/si_tr_s/{name[:3]}/{name}"] = text
    for name, text in _dots(WSJ1_TRAIN + DEV93).items():
        files["13-34.1", f"wsj1/trans/wsj1/{name[:3]}/{name}"] = text
    return files


def _make_disks(root: Path) -> tuple[Path, Path]:
    """LDC93S6B and LDC94S13B: disks below folders of DVDs; 13-16.1 in upper case, as some copies are."""
    folders = {"11": root / "wsj 0" / "csr_1_senn_d1", "13": root / "wsj 1"}
    for (disk, name), text in _files().items():
        _write(folders[disk[:2]] / disk / name, text)
    for disk, name, _ in WSJ0_TRAIN + WSJ1_TRAIN + DEV93:
        _write_sphere(folders[disk[:2]] / disk / (name.upper() if disk == "13-16.1" else name))
    return root / "wsj 0", root / "wsj 1"


def _make_merged(root: Path) -> Path:
    for (_, name), text in _files().items():
        _write(root / name, text)
    for _, name, _ in WSJ0_TRAIN + WSJ1_TRAIN + DEV93:
        _write_sphere(root / name)
    return root


def _run(*arguments: Path | str) -> int:
    return main([str(argument) for argument in arguments])


def _read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_disks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wsj0, wsj1 = _make_disks(tmp_path)
    assert _run(wsj0, wsj1, tmp_path / "data") == 0
    assert _read(tmp_path / "data/train_si284") == {
        "wav.scp": f"01ic0201 {wsj0}/csr_1_senn_d1/11-1.1/wsj0/si_tr_s/01i/01ic0201.wv1\n"
        f"01ic0202 {wsj0}/csr_1_senn_d1/11-1.1/wsj0/si_tr_s/01i/01ic0202.wv1\n"
        f"46gc0201 {wsj1}/13-1.1/wsj1/si_tr_s/46g/46gc0201.wv1\n",
        "text": TRAIN_TEXT,
        "utt2spk": "01ic0201 01i\n01ic0202 01i\n46gc0201 46g\n",
        "spk2utt": "01i 01ic0201 01ic0202\n46g 46gc0201\n",
    }
    assert _read(tmp_path / "data/test_dev93") == {
        "wav.scp": f"4k0c0301 {wsj1}/13-16.1/WSJ1/SI_DT_20/4K0/4K0C0301.WV1\n"
        f"4k0c030a {wsj1}/13-16.1/WSJ1/SI_DT_20/4K0/4K0C030A.WV1\n",
        "text": DEV_TEXT,
        "utt2spk": "4k0c0301 4k0\n4k0c030a 4k0\n",
        "spk2utt": "4k0 4k0c0301 4k0c030a\n",
        "spk2gender": "4k0 f\n",
    }
    report = capsys.readouterr().err
    assert "test_dev93: 2 utterances, 1 speakers\n" in report
    assert "train_si284: 3 utterances, 2 speakers; no spk2gender: 1 speakers are in no spkrinfo.txt" in report


def test_our_reader_takes_the_folders(tmp_path: Path) -> None:
    wsj0, wsj1 = _make_disks(tmp_path)
    assert _run(wsj0, wsj1, tmp_path / "data") == 0
    for name, num_utterances in (("train_si284", 3), ("test_dev93", 2)):
        utterances = DataDir.read(tmp_path / "data" / name).utterances
        assert len(utterances) == num_utterances
        for utterance in utterances.values():
            waveform = read_waveform(utterance)
            np.testing.assert_array_equal(waveform.samples, np.float32(SAMPLES))
            assert waveform.sample_frequency == 16000


def test_merged_layout_gives_the_same_texts(tmp_path: Path) -> None:
    corpus = _make_merged(tmp_path / "corpus")
    spkrinfo = tmp_path / "wsj0-train-spkrinfo.txt"
    _write(spkrinfo, "01i  M  x\n")
    # Both halves' own folders, and the folder of both twice.
    for out, roots in (("a", (corpus / "wsj0", corpus / "wsj1")), ("b", (corpus, corpus))):
        assert _run(*roots, tmp_path / out, "--spkrinfo", spkrinfo) == 0
        train = _read(tmp_path / out / "train_si284")
        assert train["text"] == TRAIN_TEXT
        assert train["spk2gender"] == "01i m\n46g m\n"
        assert train["wav.scp"].splitlines()[0] == f"01ic0201 {corpus}/wsj0/si_tr_s/01i/01ic0201.wv1"
        assert _read(tmp_path / out / "test_dev93")["text"] == DEV_TEXT


@pytest.mark.parametrize(
    ("transcript", "words"),
    [
        # The example of Kaldi's normalize_transcript.pl: quoted periods, then a noise at the end.
        ("computers I\\. B\\. M\\. introduced [door_slam]", "COMPUTERS I. B. M. INTRODUCED <NOISE>"),
        ("[misc_noise] A[cough] b", "<NOISE> <NOISE> B"),
        ("word [cough>] x [<cough] y", "WORD X Y"),
        ("[/music] a[music/] b", "B"),
        ("cost-%percent %percents 2.point \\.point", "COST-%PERCENT %PERCENTS 2.POINT POINT"),
        ("re(port)- *stress* b:id !sil", "RE(PORT)- *STRESS* B:ID !SIL"),
        ("<and> <a-b> --dash inc--dash", "AND <A-B> -DASH INC--DASH"),
        ("~ . ..", ".."),
        ("", ""),
    ],
)
def test_normalize_transcript(transcript: str, words: str) -> None:
    assert normalize_transcript(transcript) == words


def test_only_ascii_blanks_end_words_and_only_ascii_letters_have_capitals() -> None:
    """As Perl on bytes: split " " and tr:a-z:A-Z:."""
    assert (
        normalize_transcript("caf\xe9\xa0au\x85lait\tstra\xdfe\v\xb5")
        == "CAF\xe9\xa0AU\x85LAIT STRA\xdfE \xb5"
    )


@pytest.mark.parametrize(
    ("damaged", "text", "message"),
    [
        ("wsj 1/13-34.1/wsj1/doc/indices/h1_p0.ndx", None, "no file wsj1/doc/indices/h1_p0.ndx there"),
        ("wsj 1/13-34.1/wsj1/doc/indices/h1_p0.ndx", "what\n", "h1_p0.ndx, line 1: 'what', expected DISK_ID"),
        (
            "wsj 1/13-34.1/wsj1/doc/indices/h1_p0.ndx",
            "13_17_1:wsj1/x.wv1\n",
            "wsj 1: no disk 13-17.1 there, expected for wsj1/x.wv1",
        ),
        (
            "wsj 1/13-34.1/wsj1/doc/indices/h1_p0.ndx",
            "13_1_1:wsj1/si_tr_s/46g/46gc0201.wv1\n" * 2,
            "46gc0201: twice, in ",
        ),
        ("wsj 1/13-1.1/wsj1/si_tr_s/46g/46gc0201.wv1", None, "no file wsj1/si_tr_s/46g/46gc0201.wv1 there"),
        ("wsj 1/13-34.1/wsj1/trans/wsj1/4k0/4k0c0300.dot", None, "4k0c0301: no 4k0c0300.dot in "),
        ("wsj 1/13-34.1/wsj1/trans/wsj1/4k0/4k0c0300.dot", "A (4k0c0301)\n", "4k0c030a: no transcript in "),
        ("wsj 1/13-34.1/wsj1/trans/wsj1/4k0/4k0c0300.dot", "\nA\n", "4k0c0300.dot, line 2: 'A', expected a"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damaged: str, text: str | None, message: str
) -> None:
    wsj0, wsj1 = _make_disks(tmp_path)
    if text is None:
        (tmp_path / damaged).unlink()
    else:
        _write(tmp_path / damaged, text)
    assert _run(wsj0, wsj1, tmp_path / "data") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("prepare_wsj: ")
    assert message in error
    assert not (tmp_path / "data").exists()


def test_folders_without_the_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wsj0, wsj1 = _make_disks(tmp_path)
    assert _run(wsj0, tmp_path / "none", tmp_path / "data") == 1
    assert (
        capsys.readouterr().err
        == f"prepare_wsj: {tmp_path}/none: no such folder, expected the disks of wsj1\n"
    )
    assert _run(wsj1, wsj1, tmp_path / "data") == 1
    assert f"{wsj1}: neither disks of wsj0 (folders such as 11-1.1)" in capsys.readouterr().err


def test_folders_of_kaldi_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wsj0, wsj1 = _make_disks(tmp_path)
    kaldi = "4k0c0301 sph2pipe -f wav 4k0c0301.wv1 |\n"
    _write(tmp_path / "data/test_dev93/wav.scp", kaldi)
    assert _run(wsj0, wsj1, tmp_path / "data") == 1
    assert "test_dev93/wav.scp: there already, with other contents" in capsys.readouterr().err
    assert _read(tmp_path / "data/test_dev93") == {"wav.scp": kaldi}
    assert not (tmp_path / "data/train_si284").exists()


def test_again_gives_the_same(tmp_path: Path) -> None:
    wsj0, wsj1 = _make_disks(tmp_path)
    assert _run(wsj0, wsj1, tmp_path / "data") == 0
    first = _read(tmp_path / "data/train_si284")
    assert _run(wsj0, wsj1, tmp_path / "data") == 0
    assert _read(tmp_path / "data/train_si284") == first
