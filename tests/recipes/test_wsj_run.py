"""``recipes/wsj/run.sh`` on a Kaldi folder: what it chooses by itself, up to the training."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asr_bn.features.options import FbankOptions
from asr_bn.kaldi_io.transition_model import TransitionModel
from recipes.wsj.local.realign import Round, main
from tests.helpers.kaldi_fixtures import SYNTHETIC as FIXTURE

SYNTHETIC = FIXTURE.resolve()
ROOT = Path(__file__).parents[2]


@pytest.fixture
def kaldi(tmp_path: Path) -> Path:
    """``exp/tri4b/graph``, alignments and data, with paths that are relative to this folder."""
    folder = tmp_path / "egs of mine" / "corpus"
    (folder / "exp/tri4b").mkdir(parents=True)
    utt_ids = sorted(path.stem for path in (SYNTHETIC / "audio").glob("*-*.wav"))
    for name in ("train", "dev"):
        (folder / f"exp/tri4b_ali_{name}").symlink_to(SYNTHETIC / "ali")
        (folder / "data" / name).mkdir(parents=True)
        (folder / "data" / name / "wav.scp").write_text("".join(f"{u} audio/{u}.wav\n" for u in utt_ids))
    (folder / "audio").symlink_to(SYNTHETIC / "audio")
    (folder / "exp/tri4b/graph").symlink_to(SYNTHETIC / "graph")
    return folder


def run(kaldi: Path, *options: str, code: int = 0, **variables: str) -> str:
    command = ["bash", str(ROOT / "recipes/wsj/run.sh"), "--kaldi", str(kaldi), "--out", str(kaldi / "out")]
    for name in ("train", "dev"):
        command += [f"--{name}", f"data/{name}", f"--{name}-ali", f"exp/tri4b_ali_{name}"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | variables
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == code, done.stderr
    return done.stderr


def test_a_small_corpus_gets_its_configuration_and_the_only_graph_is_found(kaldi: Path) -> None:
    said = run(kaldi, "--stop-stage", "3")
    assert f"run.sh: the development set will be decoded with {kaldi}/exp/tri4b/graph" in said
    assert "3 utterances (0 from an earlier run), 275 frames" in said
    assert "run.sh: 0 minutes of training speech: training conf/small_corpus.toml (--config)" in said
    for name in ("train", "dev"):
        assert FbankOptions.read_conf(kaldi / f"out/feats/{name}/fbank.conf").subtract_mean


def test_features_and_configuration_are_those_that_are_named(kaldi: Path) -> None:
    config, conf = ROOT / "recipes/wsj/conf/small.toml", kaldi / "my.conf"
    conf.write_text("--num-mel-bins=23\n")
    assert "small_corpus" not in run(kaldi, "--stop-stage", "3", "--config", str(config))
    assert FbankOptions.read_conf(kaldi / "out/feats/train/fbank.conf") == FbankOptions()
    assert "training conf/small_corpus.toml" in run(kaldi, "--stop-stage", "3", "--fbank-conf", str(conf))
    assert FbankOptions.read_conf(kaldi / "out/feats/train/fbank.conf") == FbankOptions(num_mel_bins=23)
    said = run(kaldi, "--stage", "99", "--fbank-conf", "nothing.conf", code=1)
    assert said == "run.sh: error: --fbank-conf nothing.conf: no such file\n"


def test_graphs_are_chosen_by_name(kaldi: Path) -> None:
    (kaldi / "exp/tri4b/graph_other").symlink_to(SYNTHETIC / "graph")
    said = run(kaldi, "--stage", "99")
    assert "several graphs, so that nothing is decoded; choose with --graph: " in said
    assert "graph" not in run(kaldi, "--stage", "99", "--graph", "exp/tri4b/graph_other")
    said = run(kaldi, "--stage", "99", "--graph", "exp/nothing", code=1)
    assert said.startswith("run.sh: error: --graph exp/nothing: no HCLG.fst there or in ")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--seed", "", "expected a whole number from 0 to 999999999999999999"),
        ("--stage", "", "expected a whole number from 0 to 999"),
        ("--stop-stage", "1.5", "expected a whole number from 0 to 999"),
        ("--seed", "-1", "expected a whole number from 0 to 999999999999999999"),
        ("--seed", "1e3", "expected a whole number from 0 to 999999999999999999"),
        ("--seed", str(10**30), "expected a whole number from 0 to 999999999999999999"),
        ("--seed", str(10**18), "expected a whole number from 0 to 999999999999999999"),
        ("--nj", "0", "expected a whole number from 1 to 9999"),
        ("--num-seeds", "00", "expected a whole number from 1 to 9999"),
        ("--nj", str(2**64 + 1), "expected a whole number from 1 to 9999"),
        ("--num-seeds", "999999999", "expected a whole number from 1 to 9999"),
        ("--minutes", "", "expected a number below 100000"),
        ("--dev-minutes", str(10**30), "expected a number below 100000"),
    ],
)
def test_numbers_that_are_none_are_refused_first(kaldi: Path, option: str, value: str, message: str) -> None:
    said = run(kaldi, "--stage", "98", option, value, code=1)
    assert said == f"run.sh: error: {option} is '{value}', {message}\n"
    assert not (kaldi / "out").exists()


def test_zeros_before_a_number_do_not_make_it_octal(kaldi: Path) -> None:
    run(kaldi, "--stage", "0098", "--seed", "08", "--num-seeds", "09", "--nj", "010")
    assert run(kaldi, "--graph", "", code=1) == "run.sh: error: --graph needs a value, found ''\n"


@pytest.mark.parametrize("name", ["final.mdl.gz", "final.mdl.txt.gz", "final.alimdl"])
def test_alignments_of_an_old_kaldi_are_taken(kaldi: Path, name: str) -> None:
    """No phones.txt, and the model under any name that ``asr-bn alignments`` takes."""
    ali = kaldi / "exp/tri4b_ali_train"
    ali.unlink()
    ali.mkdir()
    binary = (SYNTHETIC / "ali/final.mdl").read_bytes()
    text = (SYNTHETIC / "variants/final.mdl.txt.gz").read_bytes()
    contents = {"final.mdl.gz": gzip.compress(binary), "final.mdl.txt.gz": text, "final.alimdl": binary}
    (ali / name).write_bytes(contents[name])
    for archive in ("ali.1.gz", "ali.2.gz"):
        (ali / archive).write_bytes((SYNTHETIC / "ali" / archive).read_bytes())
    run(kaldi, "--stop-stage", "3")
    assert {path.name for path in (kaldi / "out/pdf/train").iterdir() if path.name[0] != "."} == {
        "final.mdl",
        "pdf.ark",
        "pdf.ark.system.json",
    }
    assert (kaldi / "out/pdf/dev/phones.txt").read_bytes() == (SYNTHETIC / "ali/phones.txt").read_bytes()
    copy, whole = (TransitionModel.read(kaldi / f"out/pdf/{name}/final.mdl") for name in ("train", "dev"))
    assert np.array_equal(copy.tid_to_pdf, whole.tid_to_pdf)


def test_alignments_without_a_model_are_refused_before_the_features(kaldi: Path) -> None:
    ali = kaldi / "exp/tri4b_ali_dev"
    ali.unlink()
    ali.mkdir()
    said = run(kaldi, "--stop-stage", "3", code=1)
    assert said.splitlines()[-1] == (
        f"run.sh: error: {ali}: there is no final.mdl, which maps transition-ids to pdf-ids"
    )
    assert not (kaldi / "out/feats").exists()


def test_rescoring_decodes_beside_the_words_of_the_graph(kaldi: Path) -> None:
    """Each network twice; the lang folder is named only if it has the graph's word graph."""
    spy = {"BASH_FUNC_asr-bn%%": '() { echo "$@" >&2; }'}
    (kaldi / "lm.arpa").touch()
    (kaldi / "lang").mkdir()

    def decodes() -> list[tuple[str, str]]:
        options = [
            "--stage",
            "8",
            "--stop-stage",
            "8",
            "--lang",
            "lang",
            "--rescore-arpa",
            f"{kaldi}/lm.arpa",
        ]
        said = run(kaldi, *options, **spy).splitlines()
        words = [line.partition("out/feats/dev ")[2] for line in said if line.startswith("decode ")]
        return [
            (line.partition(" --mdl")[0].rpartition("/")[2], line.partition("--rescore")[2]) for line in words
        ]

    arpa = f"-arpa {kaldi}/lm.arpa"
    assert decodes() == [("decode_dev", ""), ("decode_dev_rescored", arpa)] * 2
    (kaldi / "lang/G.fst").touch()
    assert decodes()[1] == ("decode_dev_rescored", f"{arpa} --lang {kaldi}/lang")


def test_rounds_of_realignment_come_last_and_seed_by_seed(
    kaldi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the script asks for is what the round's own command line takes; a report follows each round."""
    (kaldi / "data/lang").mkdir()
    (kaldi / "data/lang/lexicon.txt").touch()
    for name in ("train", "dev"):
        (kaldi / "data" / name / "text").touch()
    shown = 'printf "%s|" "$@" >&2; echo >&2'
    python = f'() {{ case "$*" in *local.realign*) {shown};; *) command python3 "$@";; esac; }}'
    spy = {"BASH_FUNC_asr-bn%%": '() { echo "$1" >&2; }', "BASH_FUNC_python3%%": python}
    said = run(kaldi, "--stage", "11", "--realign", "2", "--num-seeds", "2", "--device", "cpu", **spy)
    lines = [line for line in said.splitlines() if line == "report" or line.startswith("-m|")]
    assert ["report" if line == "report" else "round" for line in lines] == ["round", "round", "report"] * 2
    rounds: list[Round] = []
    monkeypatch.setattr("recipes.wsj.local.realign.run_round", rounds.append)
    assert [main(line.split("|")[2:-1]) for line in lines if line != "report"] == [0] * 4
    out = kaldi / "out"
    expected = [(n, s, d) for n in (1, 2) for s, d in ((1, out), (2, out / "seeds/2"))]
    assert [(found.number, found.seed, found.run_dir) for found in rounds] == expected
    assert {(found.feats, found.lang) for found in rounds} == {(out / "feats", kaldi / "data/lang")}
    assert rounds[0].graph == kaldi / "exp/tri4b/graph" and rounds[0].times == [
        kaldi / "data/train",
        kaldi / "data/dev",
    ]


@pytest.mark.parametrize(("corpus", "is_ours"), [("wsj", True), ("other", False)])
def test_the_filters_of_the_kaldi_folder_go_before_those_of_the_recipe(
    kaldi: Path, corpus: str, is_ours: bool
) -> None:
    """What stage 8 would call is seen in the place of asr-bn, as a function of the shell."""
    spy = {"BASH_FUNC_asr-bn%%": '() { echo "$@" >&2; }'}

    def filter_of() -> str:
        said = run(kaldi, "--corpus", corpus, "--stage", "8", "--stop-stage", "8", **spy)
        decodes = [line for line in said.splitlines() if line.startswith("decode ")]
        assert len(decodes) == 2
        return decodes[0].partition("--wer-filter ")[2]

    assert filter_of() == (f"{ROOT}/recipes/wsj/local/wer_output_filter" if is_ours else "")
    (kaldi / "local").mkdir()
    (kaldi / "local/wer_ref_filter").write_text("#!/bin/cat\n")
    (kaldi / "local/wer_ref_filter").chmod(0o755)
    assert filter_of() == f"{kaldi}/local"
