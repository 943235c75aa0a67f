"""Data folders: small ones written out by hand."""

import re
from pathlib import Path

import pytest

from asr_bn.kaldi_io.data_dir import DataDir, Utterance


def _write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def test_without_segments(tmp_path: Path) -> None:
    folder = _write(
        tmp_path,
        wav_scp="a  sub dir/a.wav \nb sph2pipe -f wav b.wv1 |\n",
        utt2spk="a s\nb s\n",
        text="a HI  YOU\nb\n",
    )
    data = DataDir.read(folder, root=Path("/corpus"))
    assert list(data.utterances.values()) == [
        Utterance("a", "a", "sub dir/a.wav", None, None, "s"),
        Utterance("b", "b", "sph2pipe -f wav b.wv1 |", None, None, "s"),
    ]
    assert data.text == {"a": "HI  YOU", "b": ""}
    assert data.root == Path("/corpus")


def test_segments(tmp_path: Path) -> None:
    folder = _write(tmp_path, wav_scp="r r.wav\n", segments="u2 r 1.5 2\nu1 r 0 -1 1\n")
    data = DataDir.read(folder)
    assert list(data.utterances.values()) == [
        Utterance("u2", "r", "r.wav", 1.5, 2.0, None),
        Utterance("u1", "r", "r.wav", 0.0, None, None, 1),
    ]
    assert data.text is None


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"wav_scp": ""}, "no utterances"),
        ({"wav_scp": "a x\na y\n"}, r"^a: twice in .*wav\.scp \(again in line 2\)"),
        ({"wav_scp": "a\n"}, r"^a: nothing after the id"),
        ({"wav_scp": "a x\n", "utt2spk": "b s\n"}, r"^a: not in .*utt2spk"),
        ({"wav_scp": "r x\n", "segments": "u q 0 1\n"}, "no utterances .* all lines left out"),
        ({"wav_scp": "r x\n", "segments": "u r 0 1\nu r 1 2\n"}, r"^u: twice in"),
        ({"wav_scp": "r x\n", "segments": "u r 0 1\n", "utt2spk": "b s\n"}, r"^u: not in .*utt2spk"),
    ],
)
def test_what_does_not_hold_together_is_refused(tmp_path: Path, files: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        DataDir.read(_write(tmp_path, **files))


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("u q 0 1", r"u: .*segments, line 2: recording 'q' is not in wav\.scp"),
        ("u r 0", r".*segments, line 2: expected 'utterance recording start end"),
        ("u r 0 1 0 x", r".*segments, line 2: expected 'utterance recording start end"),
        ("u r 0 one", "u: .*not numbers"),
        ("u r 0 1 A", "u: .*not numbers"),
        ("u r 0 1 -1", "u: .*channel -1"),
        ("u r 2 1", "u: .*a segment from 2 to 1 seconds"),
        ("u r 1 1", "u: .*a segment from 1 to 1 seconds"),
        ("u r 0 -0.5", "u: .*a segment from 0 to -0.5 seconds"),
        ("u r -1 1", "u: .*a segment from -1 to 1 seconds"),
        ("u r nan 1", "u: .*a segment from nan to 1"),
        ("u r 0 inf", "u: .*a segment from 0 to inf"),
    ],
)
def test_lines_of_segments_that_extract_segments_skips_are_left_out_aloud(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, sentence: str
) -> None:
    """Each is an "Invalid line in segments file" or "Could not find recording" of ``extract-segments.cc``."""
    folder = _write(tmp_path, wav_scp="r x\n", segments=f"a r 0 1\n{line}\n\n", utt2spk="a s\n")
    assert list(DataDir.read(folder).utterances) == ["a"]
    assert re.match(f"note: {sentence}.*; left out, as extract-segments does\n$", capsys.readouterr().err)
    (folder / "segments").write_text("a r 0 1\n" + f"{line}\n" * 7)
    said: list[str] = []
    assert list(DataDir.read(folder, say=said.append).utterances) == ["a"]
    assert len(said) == 6
    assert said[-1] == f"{folder}/segments: 7 lines left out in all"


def test_a_line_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_bytes(b"a x\nb \xff.wav\n")
    with pytest.raises(ValueError, match=r"wav\.scp, line 2: not UTF-8"):
        DataDir.read(tmp_path)
