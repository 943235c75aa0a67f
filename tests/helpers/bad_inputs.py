"""Bad inputs for the command line: what registers a case of them, runs it, and makes its folder."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from typer.testing import CliRunner

from asr_bn.cli.errors import describe
from asr_bn.cli.main import app
from tests.helpers.kaldi_fixtures import SYNTHETIC

WAV = (SYNTHETIC / "audio/syn16.wav").read_bytes()
Case = Callable[[Path], list[str]]
Cases = dict[str, tuple[Case, str]]


def case_of(cases: Cases) -> Callable[[str], Callable[[Case], Case]]:
    """Return the decorator that registers a case in ``cases``.

    Its ``sentence`` is a regular expression for the whole line that the user sees, ``DIR`` the case's folder.
    """

    def case(sentence: str) -> Callable[[Case], Case]:
        def register(function: Case) -> Case:
            cases[function.__name__] = (function, sentence)
            return function

        return register

    return case


def check_case(make: Case, sentence: str, folder: Path) -> None:
    """Make a case in ``folder`` and run its verb in this process: one clear sentence, and no output."""
    result = CliRunner().invoke(app, make(folder))
    assert isinstance(result.exception, ValueError | OSError), result.output
    line = describe(result.exception)
    expected = sentence.replace("DIR", re.escape(str(folder)))
    assert re.fullmatch(expected, line), line
    assert len(line) < 600
    out = folder / "out"
    final = [path.name for path in out.iterdir() if not path.name.startswith(".")] if out.exists() else []
    assert final == []


def audio(folder: Path, data: bytes, name: str = "a.wav") -> list[str]:
    """Return ``features`` of a data folder with the one utterance ``u`` of these bytes."""
    (folder / name).write_bytes(data)
    return scp(folder, f"u {folder}/{name}\n")


def scp(folder: Path, wav_scp: str | bytes, *options: str, **files: str) -> list[str]:
    """Return ``features`` of a data folder with this ``wav.scp`` and these other files."""
    data = folder / "data"
    data.mkdir()
    (data / "wav.scp").write_bytes(wav_scp if isinstance(wav_scp, bytes) else wav_scp.encode())
    for name, text in files.items():
        (data / name).write_text(text)
    return ["features", str(data), str(folder / "out"), "--nj", "1", *options]


def encoded(samples: NDArray[np.generic], rate: int = 16000, **kwargs: str) -> bytes:
    """Return an audio file of ``samples``; ``kwargs`` as of ``soundfile.write``."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **kwargs)
    return buffer.getvalue()
