"""Conf files: Kaldi's syntax, and everything written is read back."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_bn.features.fbank_options import FbankOptions


@settings(deadline=None, max_examples=40)
@given(
    st.builds(
        FbankOptions,
        sample_frequency=st.sampled_from([8000.0, 16000.0, 44100.0]),
        num_mel_bins=st.integers(3, 80),
        frame_shift_ms=st.floats(1.0, 50.0),
        use_energy=st.booleans(),
        dither=st.floats(0, 1),
        window_type=st.sampled_from(["povey", "hamming"]),
    )
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, options: FbankOptions) -> None:
    path = tmp_path_factory.mktemp("conf") / "fbank.conf"
    options.write_conf(path)
    assert FbankOptions.read_conf(path) == options


def test_kaldis_syntax(tmp_path: Path) -> None:
    path = tmp_path / "fbank.conf"
    path.write_text(
        "# a comment\n--use-energy=false  # another\n\n--num_mel_bins=23\n"
        "--frame-length = 20\n--htk-compat\n--verbose=2\n"
    )
    options = FbankOptions.read_conf(path, sample_frequency=8000.0)
    assert options == FbankOptions(
        8000.0, frame_length_ms=20.0, num_mel_bins=23, use_energy=False, htk_compat=True
    )
    assert options.num_features == 23


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--num-mel-bin=40", r"line 1: unknown option --num-mel-bin$"),
        ("num-mel-bins=40", r"line 1: expected --name=value, found 'num-mel-bins=40'"),
        ("--num-mel-bins=many", r"line 1: --num-mel-bins: expected a value like 0, found 'many'"),
        ("--use-energy=maybe", r"line 1: --use-energy: expected true or false, found 'maybe'"),
        ("--num-mel-bins=2", r"fbank\.conf: fbank option num_mel_bins=2 is out of its range"),
        ("--high-freq=9000", r"fbank option high_freq=9000\.0 is out of its range"),
        ("--vtln-warp=1.1", r"--vtln-warp=1\.1 is not supported"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "fbank.conf"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=sentence):
        FbankOptions.read_conf(path)
