"""``recipes/wsj/run.sh`` on a Kaldi folder: what it chooses by itself, up to the training."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kaldi_fixtures import SYNTHETIC as FIXTURE

from asr_bn.features.fbank_options import FbankOptions

SYNTHETIC = FIXTURE.resolve()
ROOT = Path(__file__).parents[1]


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


def run(kaldi: Path, *options: str, code: int = 0) -> str:
    command = ["bash", str(ROOT / "recipes/wsj/run.sh"), "--kaldi", str(kaldi), "--out", str(kaldi / "out")]
    for name in ("train", "dev"):
        command += [f"--{name}", f"data/{name}", f"--{name}-ali", f"exp/tri4b_ali_{name}"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
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
