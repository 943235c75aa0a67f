"""The language-model recipe: texts, the synthetic source, overrides, and a whole run on a tiny text."""

import io
import json
import math
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from asr_bn.system.files import locked_folder, read_json
from recipes.ptb.local import texts
from recipes.ptb.local.command import spread
from recipes.ptb.local.overrides import read_experiment
from recipes.ptb.local.synthetic_text import NUM_KINDS, Source, write_texts
from recipes.ptb.local.texts import find_text

ROOT = Path(__file__).parents[2]
SHARED_PTB = ROOT.parent / "shared" / "ptb"
SMALL = ROOT / "recipes" / "ptb" / "conf" / "small.toml"


@pytest.fixture(scope="module")
def source():
    return Source.make(seed=7)


def log_probability(source: Source, sentences: list[str]) -> tuple[float, int]:
    """Of sentences under the source, by the forward algorithm over its states: the oracle of the entropy."""
    emissions = {
        word: (number, probability)
        for number, (words, frequencies) in enumerate(zip(source.words, source.frequencies, strict=True))
        for word, probability in zip(words, frequencies, strict=True)
    }
    total, tokens = 0.0, 0
    for sentence in sentences:
        forward = np.zeros(len(source.transitions))
        forward[0] = 1.0
        for word in [*sentence.split(), "</s>"]:
            number, probability = emissions[word]
            forward = (forward @ source.transitions) * (source.word_classes == number) * probability
            total += math.log(forward.sum())
            forward /= forward.sum()
            tokens += 1
    return total, tokens


def test_the_text_has_the_entropy_that_is_promised(source):
    total, tokens = log_probability(source, source.sentences(30_000, seed=3))
    assert -total / tokens == pytest.approx(source.entropy_rate, abs=0.05)  # 4 standard errors


def test_the_opening_word_matters(source):
    """A model that sees classes but forgets the kind of the sentence cannot reach the floor."""
    states = len(source.transitions)
    classes = source.word_classes
    joint = np.zeros((classes.max() + 1, classes.max() + 1))
    for state in range(states):
        for following in range(states):
            joint[classes[state], classes[following]] += (
                source.stationary[state] * source.transitions[state, following]
            )
    conditional = joint / np.maximum(joint.sum(1, keepdims=True), 1e-300)
    of_class = -(joint * np.log(np.where(conditional > 0, conditional, 1.0))).sum()
    of_next = sum(
        source.stationary[s] * -(row[row > 0] * np.log(row[row > 0])).sum()
        for s, row in enumerate(source.transitions)
    )
    assert of_class - of_next > 0.3


def test_stationary_shares_are_those_of_a_long_text(source):
    sentences = source.sentences(30_000, seed=4)
    tokens = sum(len(sentence.split()) + 1 for sentence in sentences)
    assert len(sentences) / tokens == pytest.approx(source.stationary[0], rel=0.1)
    openings = [sentence.split()[0] for sentence in sentences]
    share = np.mean([word in source.words[1] for word in openings])
    assert share == pytest.approx(1 / NUM_KINDS, abs=0.05)


def test_the_text_is_zipfian_with_ten_thousand_types(source):
    words = [word for words in source.words for word in words]
    assert len(words) == len(set(words)) == 10_000
    probabilities = {
        word: probability * source.stationary[source.word_classes == number].sum()
        for number, (class_words, frequencies) in enumerate(
            zip(source.words, source.frequencies, strict=True)
        )
        for word, probability in zip(class_words, frequencies, strict=True)
    }
    ranked = np.sort(np.array(list(probabilities.values())))[::-1]
    ranks = np.arange(1, len(ranked) + 1)
    slope, _ = np.polyfit(np.log(ranks[20:5000]), np.log(ranked[20:5000]), 1)
    assert -1.3 < slope < -0.8


def test_same_seed_same_text(tmp_path):
    for name in ("a", "b"):
        write_texts(tmp_path / name, Source.make(1), 1)
    for file in ("train.txt", "valid.txt", "test.txt", "words.txt"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert Source.make(2).entropy_rate != Source.make(1).entropy_rate


def tiny_texts(folder: Path, train: str = "a b c a z <unk>\n" * 40) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("train", train), ("valid", "a b c\n" * 30), ("test", "c b zzz\n" * 30)):
        (folder / f"ptb.{name}.txt").write_text(text)
    return folder


def test_a_wrong_checksum_is_told(tmp_path):
    folder = tiny_texts(tmp_path)
    with pytest.raises(ValueError, match=r"ptb\.train\.txt: SHA-256 is [0-9a-f]{64}, expected fcea919f"):
        find_text(folder, any_text=False, seed=1)
    text = find_text(folder, any_text=True, seed=1)
    assert text.kind == "text" and text.floor is None
    assert len(text.read("word").vocabulary) == 6


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("", r"ptb\.train\.txt: holds no text"),
        ("a b c\n", r"ptb\.test\.txt, sentence 1: 'zzz' is not among the 4 words"),
    ],
)
def test_texts_that_cannot_be_used(tmp_path, train, message):
    with pytest.raises(ValueError, match=message):
        find_text(tiny_texts(tmp_path, train), any_text=True, seed=1).read("word")


def test_a_folder_without_the_files(tmp_path):
    with pytest.raises(ValueError, match=r"has no ptb\.train\.txt, and no archive"):
        find_text(tmp_path, any_text=True, seed=1)
    with pytest.raises(ValueError, match="no such folder"):
        find_text(tmp_path / "none", any_text=True, seed=1)


def zip_archive(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def tar_archive(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize(("make", "suffix"), [(zip_archive, "zip"), (tar_archive, "tgz")])
def test_archives(tmp_path, monkeypatch, make, suffix):
    monkeypatch.setattr(texts, "PTB_CACHE", tmp_path / "cache")
    members = {f"simple-examples/data/ptb.{name}.txt": f"{name}\n".encode() for name in texts.SETS}
    members["__MACOSX/._ptb.train.txt"] = b"not this one"
    (tmp_path / f"archive.{suffix}").write_bytes(make(members))
    text = find_text(tmp_path, any_text=True, seed=1)
    assert text.paths["train"].read_text() == "train\n"
    assert text.paths["test"].read_text() == "test\n"


def test_without_a_net_the_text_is_synthetic_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(texts, "PTB_CACHE", tmp_path / "ptb")
    monkeypatch.setattr(texts, "SYNTHETIC_CACHE", tmp_path / "synthetic")
    monkeypatch.setattr(texts, "ARCHIVE", (tmp_path / "missing.tgz").as_uri())
    text = find_text(None, any_text=False, seed=1)
    assert text.kind == "ptb_synthetic"
    assert text.floor == pytest.approx(math.exp(Source.make(1).entropy_rate))
    told = capsys.readouterr().err
    assert "no Penn Treebank" in told and f"perplexity of {text.floor:.1f}" in told
    assert len(text.read("word").vocabulary) == 10_000


def test_the_download_goes_through_the_checksum(tmp_path, monkeypatch):
    archive = tmp_path / "simple-examples.tgz"
    archive.write_bytes(tar_archive({f"data/ptb.{name}.txt": b"forged\n" for name in texts.SETS}))
    monkeypatch.setattr(texts, "PTB_CACHE", tmp_path / "ptb")
    monkeypatch.setattr(texts, "ARCHIVE", archive.as_uri())
    with pytest.raises(ValueError, match="SHA-256"):
        find_text(None, any_text=False, seed=1)


@pytest.mark.skipif(not SHARED_PTB.is_dir(), reason="needs ../shared/ptb, which is not distributed")
def test_the_penn_treebank(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "PTB_CACHE", tmp_path)
    text = find_text(SHARED_PTB, any_text=False, seed=1)
    assert text.kind == "ptb"
    words = text.read("word")
    assert {name: len(tokens) for name, tokens in words.tokens.items()} == texts.PTB_TOKENS
    assert len(words.vocabulary) == 10_000
    assert len(text.read("character").vocabulary) == 50


def test_characters_that_are_not_the_appendixs_50_are_named(tmp_path):
    folder = tiny_texts(tmp_path)
    text = texts.Text("ptb", {name: folder / f"ptb.{name}.txt" for name in texts.SETS})
    with pytest.raises(ValueError, match=r"ptb\.train\.txt: 11 symbols, expected 50 \(appendix A\)"):
        text.read("character")


def test_overrides():
    experiment = read_experiment(SMALL, ["training.epochs=3", "model.norm=none", "model.dropout=0.5"], seed=9)
    assert (experiment.training.epochs, experiment.training.seed) == (3, 9)
    assert (experiment.model.norm, experiment.model.dropout) == ("none", 0.5)
    for wrong in ("epochs=3", "training.epochs=0", "training.epoch=3", "model.norm", "training.epochs=x"):
        with pytest.raises(ValueError, match=f"--set {wrong}"):
            read_experiment(SMALL, [wrong], seed=1)


def test_one_run_at_a_time_in_a_folder(tmp_path):
    with locked_folder(tmp_path), pytest.raises(ValueError, match="another run"), locked_folder(tmp_path):
        pass
    with locked_folder(tmp_path):
        pass


def run_recipe(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "recipes" / "ptb" / "run.py"), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


TINY = [f"--set={value}" for value in ("training.epochs=2", "training.batch_size=4", "model.hidden_size=8")]


def test_a_whole_run_and_the_same_command_again(tmp_path):
    data = tiny_texts(tmp_path / "data")
    options = [
        "--data",
        str(data),
        "--any-text",
        "--out",
        "out",
        "--size",
        "small",
        "--config",
        "char",
        *TINY,
    ]
    first = run_recipe(tmp_path, *options)
    assert first.returncode == 0, first.stderr
    out = tmp_path / "out"
    results = read_json(out / "results.json", dict)
    assert set(results) == {"small", "char", "text", "versions"}
    for name in ("small", "char"):
        for model in ("baseline", "batch_norm"):
            figures = results[name][model]
            lines = (out / name / model / "metrics.jsonl").read_text().splitlines()
            assert [json.loads(line.replace("_perplexity", "_ppl")) for line in lines] == figures["epochs"]
            assert len(lines) == 2
            assert figures["valid_ppl"] == pytest.approx(math.exp(figures["valid_nats"]))
            assert (out / name / model / "model.onnx").is_file()
    page = (out / "report.html").read_text()
    assert "cannot be compared" in page and "small, batch normalized" in page
    before = (out / "results.json").read_bytes()
    again = run_recipe(tmp_path, *options)
    assert again.returncode == 0 and again.stderr.count("trained and exported already") == 4
    assert (out / "results.json").read_bytes() == before


def test_some_models_for_one_epoch_and_the_others_later(tmp_path):
    data = tiny_texts(tmp_path / "data")
    options = ["--data", str(data), "--any-text", "--out", "out", "--epochs", "1", *TINY[1:]]
    for task, models in (
        ("--norm none --task char", {"baseline"}),
        ("--task char", {"baseline", "batch_norm"}),
    ):
        done = run_recipe(tmp_path, *options, *task.split())
        assert done.returncode == 0, done.stderr
        results = read_json(tmp_path / "out" / "results.json", dict)
        assert set(results["char"]) == models
        assert [len(figures["epochs"]) for figures in results["char"].values()] == [1] * len(models)
    assert (tmp_path / "out" / "report.html").is_file()


def test_options_that_take_several_values():
    given = shlex.split("--norm none frame --epochs 3 --size small medium --seed -1")
    meant = shlex.split("--norm none --norm frame --epochs 3 --size small --size medium --seed -1")
    assert spread(given) == meant


def test_bad_calls_end_in_one_line(tmp_path):
    for options, message in (
        (["--data", "nowhere"], "no such folder"),
        (["--config", "tiny"], "tiny"),
        (["--device", "tpu"], "expected 'auto', 'cpu' or 'cuda'"),
        (["--any-text"], "there is no --data"),
        (["--task", "char", "--size", "large"], "--size large is of words"),
    ):
        result = run_recipe(tmp_path, *options)
        assert result.returncode == 1
        assert result.stderr.startswith("run.py: error: ") and message in result.stderr
        assert len(result.stderr.splitlines()) == 1
