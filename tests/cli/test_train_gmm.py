"""``asr-bn train-gmm`` on tones: phones and times against what was spoken, and what it says of bad input."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("kaldi_hmm_gmm", reason="kaldi-hmm-gmm is not installed")

from asr_bn.cli.main import app
from asr_bn.data.check import check_data
from asr_bn.data.kaldi_system import read_aligned
from asr_bn.decoding.hmms import Hmms
from asr_bn.gmm.stages import alignments_of
from asr_bn.gmm.transitions import TransitionIds
from asr_bn.kaldi_io.phone_table import read_phone_names
from tests.helpers.tone_corpus import TONES, Span, write_dict, write_tone_corpus

QUICK = ("--nj=1", "--num-iters=11", "--retry-beam=400")


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["train-gmm", *map(str, arguments)])
    return result.exit_code, result.stderr + (f"error: {result.exception}" if result.exit_code else "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tones")


@pytest.fixture(scope="module")
def spoken(folder: Path) -> dict[str, list[Span]]:
    return write_tone_corpus(folder)


@pytest.fixture(scope="module")
def trained(folder: Path, spoken: dict[str, list[Span]]) -> tuple[list[object], str]:
    """All stages; the development set is the same data with a word that has no phones and one too many."""
    shutil.copytree(folder / "data", folder / "dev")
    text = (folder / "dev/text").read_text().splitlines()
    text[0] += " gnat"
    text[1] += " mat" * 99
    (folder / "dev/text").write_text("\n".join(text) + "\n")
    arguments = [folder / "data", folder / "dict", folder / "out", *QUICK]
    arguments += ["--development", folder / "dev", folder / "dev_out"]
    code, said = run(*arguments)
    assert code == 0, said
    return arguments, said


@pytest.mark.parametrize("name", ["out/mono", "out/tri1", "out"])
def test_phones_are_the_texts_and_near_their_times(
    folder: Path, spoken: dict[str, list[Span]], trained: object, name: str
) -> None:
    tids, names = (
        TransitionIds.of(Hmms.read(folder / name / "final.mdl")),
        read_phone_names(folder / name / "phones.txt"),
    )
    errors = []
    for utt_id, alignment in alignments_of(folder / name).items():
        phones, starts = tids.split(alignment)
        found = [
            (names[p], s) for p, s in zip(phones.tolist(), starts.tolist(), strict=True) if names[p] != "SIL"
        ]
        assert [phone for phone, _ in found] == [phone for phone, _ in spoken[utt_id]]
        # A frame is 10 ms, and its window is centred 12.5 ms after its start.
        errors += [
            start * 0.01 + 0.0075 - begin
            for (_, start), (_, begin) in zip(found, spoken[utt_id], strict=True)
        ]
    assert len(errors) == sum(map(len, spoken.values()))
    # Tones are loud where a window only touches them; eight seeds of the corpus gave 0.89 to 1.
    assert np.mean(np.abs(errors) <= 0.05) > 0.8


def test_our_training_and_checks_take_the_folder(folder: Path, trained: object) -> None:
    for name in ("out", "out/tri1", "out/mono"):
        pdf_ids, system = read_aligned(folder / name)
        assert len(pdf_ids) == 40 and system is not None and system.tree() is not None
        assert len(system.phones.names) == len(TONES) + 1
        report = check_data(folder / "data", folder / name)
        assert not report.problems and "aligned utterances: 40" in report.facts


def test_a_dry_run_of_training_takes_the_folder(folder: Path, trained: object) -> None:
    (folder / "config.toml").write_text("[model]\nnum_layers = 1\nhidden_size = 4\n")
    sets = ["--data", "feats", "--ali", "out", "--dev-data", "feats", "--dev-ali", "dev_out", "--out", "net"]
    places = [word if word.startswith("--") else str(folder / word) for word in sets]
    for verb in (
        ["features", str(folder / "data"), str(folder / "feats"), "--nj=1"],
        ["train", str(folder / "config.toml"), *places, "--device=cpu", "--dry-run"],
    ):
        result = CliRunner().invoke(app, verb)
        assert result.exit_code == 0, result.output
    assert "all 40 training and 38 development utterances can be used" in result.output


def test_kaldis_reader_takes_the_archives(folder: Path, trained: object) -> None:
    kaldi_native_io = pytest.importorskip("kaldi_native_io", reason="the oracle is not installed")
    ours = alignments_of(folder / "out")
    with kaldi_native_io.SequentialInt32VectorReader(f"ark:gunzip -c {folder}/out/ali.1.gz|") as reader:
        assert {key: list(value) for key, value in reader} == {k: v.tolist() for k, v in ours.items()}
    matrix = kaldi_native_io.FloatMatrix.read(str(folder / "out/final.mat")).numpy()
    assert matrix.shape == (40, 9 * 13)


def test_the_development_set_is_aligned_with_the_same_model(
    folder: Path, trained: tuple[object, str]
) -> None:
    assert (folder / "dev_out/final.mdl").read_bytes() == (folder / "out/final.mdl").read_bytes()
    ours, others = alignments_of(folder / "out"), alignments_of(folder / "dev_out")
    assert others.keys() == ours.keys() - {"s0-00", "s0-01"}
    # Means of speakers are over other utterances, so that few frames may differ.
    same = np.mean([np.mean(ours[utt_id] == others[utt_id]) for utt_id in others])
    assert same > 0.95
    failed = (folder / "dev_out/failed.txt").read_text()
    assert "s0-00 'gnat' has no pronunciation" in failed and "s0-01 its text is too long for it" in failed
    said = trained[1]
    assert (
        "1 words of its text (1 spoken) have no pronunciation: gnat (1); their utterances are left out"
        in said
    )
    assert "s0-01: not aligned: its text is too long for it, or no path within a beam of 400" in said


def test_likelihoods_rise(trained: tuple[object, str]) -> None:
    gains = re.findall(r"log likelihood (\S+) to (\S+) a frame", trained[1])
    assert len(gains) == 4  # three stages, the last of two folders
    assert all(float(after) > float(before) for before, after in gains)


def test_a_second_run_knows_all_its_inputs(folder: Path, trained: tuple[list[object], str]) -> None:
    arguments, _ = trained
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert run(*arguments) == (0, f"{folder}/out: trained already\n")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_an_interrupted_run_goes_on_at_its_stage_to_the_same_bytes(
    folder: Path, trained: tuple[list[object], str]
) -> None:
    names = ("ali.1.gz", "final.mdl", "tree", "final.mat")
    before = [(folder / "out" / name).read_bytes() for name in names]
    (folder / "out/.train_gmm.done").unlink()
    (folder / "out/final.mdl").unlink()
    code, said = run(*trained[0])
    assert code == 0
    for stage in ("mono", "tri1"):
        assert f"{folder}/out/{stage}: trained already\n" in said
    assert [(folder / "out" / name).read_bytes() for name in names] == before


@pytest.fixture
def broken(folder: Path, spoken: object, tmp_path: Path) -> Callable[..., str]:
    """Return what is said of a copy of the corpus after a change; it has to be one sentence."""
    shutil.copytree(folder / "data", tmp_path / "data")
    write_dict(tmp_path / "dict")

    def said(change: Callable[[Path], object], *options: str, lexicon: str = "dict") -> str:
        change(tmp_path)
        code, output = run(tmp_path / "data", tmp_path / lexicon, tmp_path / "out", *QUICK, *options)
        assert code == 1 and "Traceback" not in output
        assert not list((tmp_path / "out").rglob("*.gz"))
        return output.split("error: ")[-1].replace(f"{tmp_path}/", "")

    return said


CASES: list[tuple[Callable[[Path], object], tuple[str, ...], str]] = [
    (lambda d: (d / "data/text").write_text(""), (), "data/text: no utterances in it"),
    (
        lambda d: (d / "data/text").write_text("s0-00\ns0-01\n"),
        (),
        "data/text: has no words",
    ),
    (
        lambda d: (d / "data/text").write_text("s0-00 eine andere sprache\n"),
        (),
        "dict/lexicon.txt: has none of the 3 words of data/text, such as 'andere'",
    ),
    (lambda d: (d / "data/wav.scp").unlink(), (), "wav.scp"),
    (lambda d: (d / "dict/nonsilence_phones.txt").unlink(), (), "nonsilence_phones.txt"),
    (
        lambda d: (d / "dict/nonsilence_phones.txt").write_text("A\nE\nI\nM\nS\n"),
        (),
        "phone 'T' of 'mat' is not in out/phones.txt",
    ),
    (
        lambda d: (d / "dict/nonsilence_phones.txt").write_text("A\nA\n"),
        (),
        "dict: the phone 'A' is listed twice",
    ),
    (
        lambda d: (d / "dict/optional_silence.txt").write_text("A\n"),
        (),
        "dict/lexicon.txt: 'A' may stand between words, but is not in silence_phones.txt",
    ),
    (lambda d: None, ("--stage=tri2",), "--stage is 'tri2', expected one of mono, tri1, lda-mllt"),
    (
        lambda d: None,
        ("--beam=20", "--retry-beam=9"),
        "beam 20, retry beam 9: expected 0 < beam <= retry beam",
    ),
    (lambda d: None, ("--oov=<unk>",), "dict/lexicon.txt: has no word '<unk>' to stand for unknown ones"),
]


@pytest.mark.parametrize(("change", "options", "expected"), CASES)
def test_bad_input_is_one_sentence(
    broken: Callable[..., str], change: Callable[[Path], object], options: tuple[str, ...], expected: str
) -> None:
    assert expected in broken(change, *options)


def test_too_little_speech_is_one_sentence(broken: Callable[..., str]) -> None:
    def shorten(folder: Path) -> None:
        for name in ("wav.scp", "text", "utt2spk"):
            path = folder / "data" / name
            path.write_text(path.read_text().splitlines(True)[0])

    assert re.search(r"data: \d+ frames are too few to train 23 pdfs on", broken(shorten))


def test_a_lexicon_alone_needs_the_name_of_silence(broken: Callable[..., str]) -> None:
    def isolate(folder: Path) -> None:
        shutil.move(folder / "dict/lexicon.txt", folder / "words.lex")

    said = broken(isolate, lexicon="words.lex")
    assert "words.lex: no optional_silence.txt beside it; name the phone (--silence-phone)" in said


def test_missing_wheels_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, said = run(tmp_path, tmp_path, tmp_path / "out")
    assert (
        code == 1
        and said == "error: not installed: kaldi-hmm-gmm kaldifst; pip install 'asr-bn[decode]' has it"
    )
