"""``asr-bn align``: what it leaves, read back by other readers, and what it says of bad input."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.data.kaldi_system import read_aligned
from asr_bn.decoding.alignment.boundaries import read_ctm
from asr_bn.scoring.scorer import AcousticScorer
from tests.helpers.graphs import lexicon_dir
from tests.helpers.kaldi_fixtures import SYNTHETIC
from tests.helpers.serving import write_model, write_phone_model

TEXT = {"f1-015": "bring my chair", "f2-008": "bring the chair", "m4-009": "move your house"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phone_model(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lexicon_dir(tmp_path / "dict")
    return data_dir(tmp_path / "data", {u: SYNTHETIC / f"audio/{u}.wav" for u in TEXT}, TEXT)


def data_dir(folder: Path, audio: dict[str, Path], text: dict[str, str]) -> Path:
    folder.mkdir()
    (folder / "wav.scp").write_text("".join(f"{utt_id} {path}\n" for utt_id, path in audio.items()))
    (folder / "text").write_text("".join(f"{utt_id} {words}\n" for utt_id, words in text.items()))
    return folder


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["align", *map(str, arguments)])
    return result.exit_code, result.stderr + (f"error: {result.exception}" if result.exit_code else "")


def test_what_is_left_is_read_by_kaldis_readers_and_our_training(
    model: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, said = run(model, tmp_path / "dict", data, out)
    assert code == 0 and f"{out}: 3 utterances aligned" in said
    pdf_ids, system = read_aligned(out)
    assert list(pdf_ids) == list(TEXT)
    scorer = AcousticScorer.load(model, "cpu")
    assert system is not None and scorer.metadata.system is not None
    assert system.tree_bytes == scorer.metadata.system.tree_bytes
    assert system.phone_names == scorer.metadata.system.phone_names
    phones, described = read_ctm(out / "phones.ctm"), json.loads((out / "align.json").read_text())
    for utt_id, words in TEXT.items():
        num_frames = len(scorer(SYNTHETIC / f"audio/{utt_id}.wav"))
        assert len(pdf_ids[utt_id]) == num_frames
        entry = described["utterances"][utt_id]
        assert [word["word"] for word in entry["words"]] == words.split()
        assert entry["duration"] == pytest.approx(num_frames / 100 + 0.015)
        spans = [(p["start"], p["end"]) for p in entry["phones"]]
        assert spans == [
            (pytest.approx(b, abs=2e-4), pytest.approx(e, abs=2e-4)) for b, e, _ in phones[utt_id]
        ]
        assert spans[0][0] == 0 and spans[-1][1] == entry["duration"]
        grid = (out / "textgrid" / f"{utt_id}.TextGrid").read_text()
        assert all(f'text = "{word}"' in grid for word in words.split())
    ctm = [line.split() for line in (out / "words.ctm").read_text().splitlines()]
    assert [(utt_id, word) for utt_id, _, _, _, word, _ in ctm] == [
        (utt_id, word) for utt_id, words in TEXT.items() for word in words.split()
    ]
    assert run(model, tmp_path / "dict", data, out)[1].strip().endswith("aligned already")


def test_kaldi_native_io_reads_the_archive(model: Path, data: Path, tmp_path: Path) -> None:
    kaldi_native_io = pytest.importorskip("kaldi_native_io")
    run(model, tmp_path / "dict", data, tmp_path / "out")
    pipe = f"ark:gunzip -c {tmp_path}/out/ali.1.gz|"
    with kaldi_native_io.SequentialInt32VectorReader(pipe) as reader:
        found = {utt_id: list(tids) for utt_id, tids in reader}
    _, system = read_aligned(tmp_path / "out")
    assert system is not None
    model_table = system.transition_model()
    phones = read_ctm(tmp_path / "out/phones.ctm")
    for utt_id, tids in found.items():
        names = [system.phone_names[int(phone)] for phone in model_table.tid_to_phone[tids]]
        changes = [name for k, name in enumerate(names) if k == 0 or name != names[k - 1]]
        assert changes == [name for _, _, name in phones[utt_id]]


def test_one_utterances_failure_does_not_lose_the_others(model: Path, data: Path, tmp_path: Path) -> None:
    good = SYNTHETIC / "audio/f1-015.wav"
    soundfile.write(tmp_path / "short.wav", np.zeros(1200, dtype=np.int16), 16000)
    soundfile.write(tmp_path / "tiny.wav", np.zeros(300, dtype=np.int16), 16000)
    soundfile.write(tmp_path / "rate.wav", np.zeros(9000, dtype=np.int16), 8000)
    (tmp_path / "noise.wav").write_bytes(b"no audio")
    audio = {name: tmp_path / f"{name}.wav" for name in ("missing", "noise", "rate", "short", "tiny")}
    audio |= dict.fromkeys(["empty", "good", "notext", "unknown"], good)
    text = dict.fromkeys([*audio, "unheard"], "bring my chair") | {"empty": "", "unknown": "bring zebra"}
    del text["notext"]
    folder = data_dir(tmp_path / "odd", dict(sorted(audio.items())), text)
    code, said = run(model, tmp_path / "dict", folder, tmp_path / "out")
    assert code == 0 and "out: 1 utterances aligned" in said and "8 failed" in said
    failed = dict(line.split(" ", 1) for line in (tmp_path / "out/failed.txt").read_text().splitlines())
    reasons = {
        "empty": "its text has no words",
        "missing": "No such file",
        "noise": "noise.wav",
        "notext": "it has no text",
        "rate": "8000",
        "short": "frames at least, and its audio has 6",
        "tiny": "it has no frames",
        "unknown": "'zebra' has no pronunciation",
    }
    assert sorted(failed) == sorted(reasons)
    for utt_id, reason in reasons.items():
        assert reason in failed[utt_id] and f"{utt_id}: not aligned: {failed[utt_id]}" in said
    assert "1 utterances of the text have no audio, such as unheard" in said


def test_words_can_be_added_or_stood_for(model: Path, data: Path, tmp_path: Path) -> None:
    (data / "text").write_text("f1-015 bring zebra chair\n")
    (tmp_path / "more.txt").write_text("zebra Z IY B R AH\n")
    for option in (["--dict", tmp_path / "more.txt"], ["--oov", "my"]):
        code, said = run(model, tmp_path / "dict", data, tmp_path / "out", *option)
        assert code == 0 and "1 utterances aligned" in said
        words = (tmp_path / "out/words.ctm").read_text().splitlines()
        assert [line.split()[4] for line in words] == ["bring", "zebra", "chair"]
        names = [name for _, _, name in read_ctm(tmp_path / "out/phones.ctm")["f1-015"] if name != "SIL"]
        assert ("Z_B" in names) == (option[0] == "--dict") and ("M_B" in names) == (option[0] == "--oov")


def test_known_times_are_compared_and_correct(model: Path, data: Path, tmp_path: Path) -> None:
    command = [model, tmp_path / "dict", data]
    run(*command, tmp_path / "out")
    moved = [line.split() for line in (tmp_path / "out/phones.ctm").read_text().splitlines()]
    for fields in moved:
        fields[2] = f"{float(fields[2]) + 0.03:.4f}"
        fields[4] = fields[4].split("_")[0] if fields[0] == "f1-015" else fields[4]
    (tmp_path / "known.ctm").write_text("".join(" ".join(fields[:5]) + "\n" for fields in moved))
    for options in ([], ["--shifts", tmp_path / "out1/boundaries.json"]):
        out = tmp_path / f"out{len(options) + 1}"
        code, _ = run(*command, out, "--reference", tmp_path / "known.ctm", *options)
        found = json.loads((out / "boundaries.json").read_text())
        assert code == 0 and found["num_found"] == found["num_boundaries"] > 30
    assert json.loads((tmp_path / "out1/boundaries.json").read_text())["median_absolute_error_ms"] == 30


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("text", "No such file or directory: .*/data/text"),
        ("words", "has none of the 2 words of .*text, such as 'lion'"),
        ("dict", "optional_silence.txt"),
        ("mdl", "no such file of HMMs|no final.mdl"),
        ("pdfs", "the transition model has 72 pdfs, the network 20: it is of another system"),
        ("old", "the model does not know its HMMs .* name the final.mdl of its training alignments"),
        ("out", "Not a directory|File exists|Is a directory"),
        ("nothing", "no utterance could be aligned"),
    ],
)
def test_what_concerns_all_utterances_ends_the_run(
    model: Path, data: Path, tmp_path: Path, change: str, said: str
) -> None:
    out, options = tmp_path / "out", list[object]()
    if change == "text":
        (data / "text").unlink()
    elif change == "words":
        (data / "text").write_text("f1-015 zebra lion\n")
    elif change == "dict":
        (tmp_path / "dict/optional_silence.txt").unlink()
    elif change == "mdl":
        options = ["--mdl", tmp_path / "none"]
    elif change in ("pdfs", "old"):
        model = write_model(tmp_path / "old.onnx")
        options = ["--mdl", SYNTHETIC / "ali"] if change == "pdfs" else []
    elif change == "out":
        out.write_text("a file")
    elif change == "nothing":
        (data / "text").write_text("f1-015 zebra bring\n")
    code, message = run(model, tmp_path / "dict", data, out, *options)
    assert code != 0 and re.search(said, message), message
    assert not (out / "ali.1.gz").exists()
