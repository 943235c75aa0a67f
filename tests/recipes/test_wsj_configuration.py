"""What ``recipes/wsj/run.sh`` trains where nothing is named: by frames, device and corpus."""

from pathlib import Path

import numpy as np
import pytest

from asr_bn.features.options import FbankOptions
from asr_bn.kaldi_io.matrix_table import MatrixWriter
from recipes.wsj.local.configuration import choose, count_frames
from recipes.wsj.local.options import RECIPE


@pytest.mark.parametrize("use_energy", [True, False])
def test_frames_are_counted_by_the_size_of_the_archive(tmp_path: Path, use_energy: bool) -> None:
    """Ids and headers, 22 bytes an utterance here, are less than a frame."""
    options = FbankOptions(num_mel_bins=23, use_energy=use_energy)
    with MatrixWriter(tmp_path / "feats.ark") as writer:
        for utt_id, num_frames in (("a", 100), ("b", 7)):
            writer.write(utt_id, np.zeros((num_frames, options.num_features), dtype=np.float32))
    assert count_frames(tmp_path) == 0
    options.write_conf(tmp_path / "fbank.conf")
    assert count_frames(tmp_path) == 107


@pytest.mark.parametrize(
    ("num_frames", "device", "kaldi", "name"),
    [
        (0, "cpu", "", "mini"),
        (1, "cuda", "", "mini"),
        (0, "cpu", "k", "small"),
        (0, "cuda", "k", "paper"),
        (89_999, "cuda", "k", "small_corpus"),
        (90_000, "cuda", "k", "paper"),
        (90_000, "cpu", "k", "small"),
    ],
)
def test_what_is_trained(num_frames: int, device: str, kaldi: str, name: str) -> None:
    chosen = choose(num_frames, device, kaldi, "", "")
    fbank = "fbank_subtract_mean" if name == "small_corpus" else "fbank"
    assert chosen["config"] == f"{RECIPE}/conf/{name}.toml"
    assert chosen["fbank_conf"] == f"{RECIPE}/conf/{fbank}.conf"
    assert bool(chosen["why"]) == (name in ("small", "small_corpus"))


def test_what_is_named_is_kept_and_a_named_small_corpus_has_its_features() -> None:
    named = {"config": "my/small_corpus.toml", "fbank_conf": "my.conf", "why": ""}
    assert choose(1, "cpu", "k", named["config"], "my.conf") == named
    subtracted = f"{RECIPE}/conf/fbank_subtract_mean.conf"
    assert choose(1, "cpu", "k", named["config"], "") == {**named, "fbank_conf": subtracted}
    assert choose(60_000, "cpu", "k", "", "my.conf")["why"].startswith("10 minutes of training speech: ")
