"""Kaldi's text: the C library's ``isspace`` and ``strtod`` as oracles, and readers that use nothing else."""

import ast
import ctypes
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_bn.kaldi_io.plain_text import WHITESPACE, parse_float, parse_int, split_words

ROOT = Path(__file__).parents[2]
LIBC = ctypes.CDLL(None)
LIBC.strtod.restype = ctypes.c_double
LIBC.strtod.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)]
# What Python's own methods cut at besides, and letters around it.
AWKWARD = st.text(st.sampled_from("aé1\x1c\x1d\x85\xa0\u1680\u2003\u2028\u202f\u3000\ufeff" + WHITESPACE))


def test_the_separators_are_those_of_c() -> None:
    assert {chr(byte) for byte in range(256) if LIBC.isspace(byte)} == set(WHITESPACE)


@given(AWKWARD)
def test_words_are_what_lies_between_the_separators(line: str) -> None:
    """Split by hand, a character at a time."""
    words, word = [], ""
    for character in line + " ":
        if character in WHITESPACE:
            words += [word] if word else []
            word = ""
        else:
            word += character
    assert split_words(line) == words


def _strtod(text: bytes) -> float | None:
    end = ctypes.c_char_p()
    value = LIBC.strtod(text, ctypes.byref(end))
    return float(value) if text and end.value == b"" else None


@given(
    st.one_of(
        st.floats().map(repr),
        st.text(st.sampled_from("+-.0123456789eEinfaty"), min_size=1, max_size=8),
        st.sampled_from(["inf", "-INF", "Infinity", "nan", "-nan", "infinit", "+.5", "5.", ".", "1e", "1_0"]),
    )
)
def test_numbers_are_those_of_strtod(word: str) -> None:
    expected = _strtod(word.encode())
    if expected is not None and math.isinf(expected) and "n" not in word.lower():
        expected = None  # too large: C++'s streams fail
    try:
        value = parse_float(word)
    except ValueError:
        assert expected is None
        return
    assert expected is not None
    assert value == expected or (math.isnan(value) and math.isnan(expected))


@pytest.mark.parametrize(
    "word",
    ["1_0", "\u0661\u0662", "\uff11", "\xb2", "", " ", "1 2", "0x10", "3.5", "\u3000" + "5", "2147483648"],
)
def test_what_is_no_integer(word: str) -> None:
    with pytest.raises(ValueError, match="^expected an integer"):
        parse_int(word)


@pytest.mark.parametrize("word", ["1_0", "\u0661", "\xa01", "1e999", "", "1 2", "0x1p3", "infinit", "1d5"])
def test_what_is_no_number(word: str) -> None:
    with pytest.raises(ValueError, match="^expected a number"):
        parse_float(word)


def test_integers() -> None:
    words = {"007": 7, "+5": 5, "-2147483648": -(1 << 31), "2147483647": (1 << 31) - 1}
    assert {word: parse_int(word) for word in words} == words


READERS = ["asr_bn", "recipes"]
# Those that define it, or work on bytes, which Python cuts as C does.
OF_BYTES = {
    *(
        f"asr_bn/kaldi_io/{name}.py"
        for name in ("plain_text", "script_file", "binary", "matrix", "rxfilename")
    ),
    *(f"asr_bn/decoding/{name}.py" for name in ("arpa", "references")),
}
# Headers of audio, messages, what our own programs print.
OTHERS = {
    "asr_bn/audio/sphere.py",
    "asr_bn/language_model/scoring.py",
    "asr_bn/onnx_io/model_check.py",
    "asr_bn/training/out_of_memory.py",
    "asr_bn/onnx_io/session.py",
    "asr_bn/training/curves.py",
    "asr_bn/report/results.py",
    "asr_bn/export/server_check.py",
    "recipes/mini/espeak.py",
}
OF_PYTHON = {"split", "rsplit", "strip", "lstrip", "rstrip"}


def _python_ideas_of_text(path: Path) -> Iterator[str]:
    """Calls such as ``x.split()``; ``" ".join(x.split())``, which makes one line of a message, is none."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    joined = {id(argument) for call in calls if _is_join(call) for argument in call.args}
    for call in calls:
        if not isinstance(call.func, ast.Attribute) or id(call) in joined:
            continue
        cuts = call.func.attr in OF_PYTHON and not call.args
        if cuts or call.func.attr in ("splitlines", "isdigit", "isdecimal", "isnumeric"):
            yield f"{path.relative_to(ROOT)}:{call.lineno}: .{call.func.attr}()"


def _is_join(call: ast.Call) -> bool:
    function = call.func
    return isinstance(function, ast.Attribute) and function.attr == "join"


def test_no_reader_has_pythons_idea_of_text() -> None:
    files = [path for folder in READERS for path in sorted((ROOT / folder).rglob("*.py"))]
    used = [line for path in files for line in _python_ideas_of_text(path)]
    allowed = tuple(f"{name}:" for name in OF_BYTES | OTHERS)
    found = [line for line in used if not line.startswith(allowed)]
    assert not found, f"split and count with asr_bn.kaldi_io.plain_text instead: {found}"
