"""Conf files: Kaldi's syntax, and everything written is read back."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_bn.features.options import FbankOptions, read_channel


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
        ("--min-duration=0.5", r"--min-duration=0\.5 is not supported"),
        ("--allow-downsample=True", r"--allow-downsample=True is not supported"),
        ("--verbose=much", r"line 1: --verbose: expected a value like 0, found 'much'"),
        ("--use-energy=", r"line 1: --use-energy: expected true or false, found ''"),
        ("--num-mel-bins=2_3", r"line 1: --num-mel-bins: expected a value like 0, found '2_3'"),
        ("--num-mel-bins=\u0664\u0660", r"line 1: --num-mel-bins: expected a value like 0"),
        ("--frame-length=25ms", r"line 1: --frame-length: expected a value like 0\.0, found '25ms'"),
        ("--frame-length=inf", r"fbank option frame_length_ms=inf is out of its range"),
        ("--sample-frequency=1e39", r"fbank option frame_length_ms=25\.0 is out of its range"),
        ("--=40", r"line 1: expected --name=value"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "fbank.conf"
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=sentence):
        FbankOptions.read_conf(path)


@pytest.mark.parametrize(
    "line",
    [
        "--use-energy=False",
        "--USE-Energy=f",
        "--Vtln-Warp=1.0\n--use_energy=0",
        "--min-duration=0.0\n--use-energy=FALSE",
        "--allow-downsample=False\n--allow_upsample=f\n--debug-mel=0\n--use-energy=false",
        "--max-feature-vectors=-1\n--output-format=kaldi\n--verbose=0\n--print-args=False\n--use-energy=false",
    ],
)
def test_values_are_compared_as_values_and_names_in_any_case(line: str, tmp_path: Path) -> None:
    (tmp_path / "c").write_text(line + "\n")
    assert FbankOptions.read_conf(tmp_path / "c") == FbankOptions(use_energy=False)


def test_a_comment_may_be_in_any_encoding(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"# caf\xe9\n--num-mel-bins=23 # \xff\n")
    assert FbankOptions.read_conf(tmp_path / "c").num_mel_bins == 23
    (tmp_path / "c").write_bytes(b"--window-type=\xe9\n")
    with pytest.raises(ValueError, match=r"c, line 1: not UTF-8"):
        FbankOptions.read_conf(tmp_path / "c")


@pytest.mark.parametrize(
    ("line", "channel"), [("", None), ("--channel=-1", None), ("--channel=0", 0), ("--Channel=1", 1)]
)
def test_the_channel_of_a_conf_file(line: str, channel: int | None, tmp_path: Path) -> None:
    (tmp_path / "c").write_text(f"{line}\n--dither=0\n")
    assert read_channel(tmp_path / "c") == channel
    assert FbankOptions.read_conf(tmp_path / "c") == FbankOptions()


@pytest.mark.parametrize(
    ("rate", "length_ms", "window_size"),
    # Kaldi's int(float(rate) * 0.001 * float(length)) in C++: float32 lengths a little below are cut.
    [(10000, 10.2, 101), (10000, 10.4, 103), (20000, 10.2, 203), (16000, 25.6, 409), (16000, 25, 400)],
)
def test_lengths_are_float32_as_kaldis(rate: int, length_ms: float, window_size: int) -> None:
    assert FbankOptions(rate, frame_length_ms=length_ms).window_size == window_size
    assert FbankOptions(rate, frame_shift_ms=length_ms).window_shift == window_size


def test_window_sizes_are_those_of_a_c_program(tmp_path: Path) -> None:
    """All lengths of 0.1 ms steps from 1 to 99 ms at eleven rates, by the expression of feature-window.h."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    rates = (8000, 10000, 11025, 12000, 16000, 20000, 22050, 24000, 32000, 44100, 48000)
    (tmp_path / "w.c").write_text(
        "#include <stdio.h>\n#include <stdlib.h>\nint main(int n, char **v) {\n"
        " for (int i = 1; i < n; i++) for (int k = 10; k < 990; k++) {\n"
        '  char text[16]; sprintf(text, "%d.%d", k / 10, k % 10);\n'
        "  float rate = strtof(v[i], 0), ms = strtof(text, 0);\n"
        '  printf("%d\\n", (int)(rate * 0.001 * ms)); } }\n'
    )
    subprocess.run([compiler, "-o", tmp_path / "w", tmp_path / "w.c"], check=True)
    output = subprocess.run([tmp_path / "w", *map(str, rates)], check=True, capture_output=True).stdout
    lengths = [float(f"{k // 10}.{k % 10}") for k in range(10, 990)]
    ours = [FbankOptions(rate, frame_length_ms=ms).window_size for rate in rates for ms in lengths]
    assert ours == [int(word) for word in output.split()]
