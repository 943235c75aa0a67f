"""What several verbs need of their options: the same names, help and checks for all."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer
from typer.core import TyperCommand

from asr_bn.audio.source import AudioSource
from asr_bn.kaldi_io.rxfilename import PIPE_TIMEOUT_S, PipePolicy

__all__ = [
    "PIPE_TIMEOUT_S",
    "Channel",
    "NoPipes",
    "PipeTimeout",
    "Resample",
    "Root",
    "Verb",
    "audio_source",
    "device_of",
    "model_of",
    "pipe_policy",
]
Root = Annotated[
    Path | None, typer.Option(help="Folder that relative names in script files start from [current folder].")
]
Channel = Annotated[int | None, typer.Option(min=0, help="Of recordings with several, from 0.")]
Resample = Annotated[bool, typer.Option("--resample", help="Convert other sample frequencies.")]
NoPipes = Annotated[bool, typer.Option("--no-pipes", help="Refuse commands among the inputs.")]
PipeTimeout = Annotated[
    float, typer.Option(help="Seconds that a command may take for a recording, or a table's be silent.")
]


class Verb(TyperCommand):
    """A verb whose numbers have to be finite: NaN would only be found in what it leads to."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the verb.

        Raises:
            ValueError: an option is infinite or not a number.
        """
        for name, value in ctx.params.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"--{name.replace('_', '-')} is {value}, expected a finite number")
        return super().invoke(ctx)


def pipe_policy(no_pipes: bool, timeout_s: float) -> PipePolicy:
    """How commands among the inputs are run.

    Raises:
        ValueError: no time for them.
    """
    if timeout_s <= 0:
        raise ValueError(f"--pipe-timeout is {timeout_s:g}, expected above 0")
    return PipePolicy(not no_pipes, timeout_s)


def audio_source(
    root: Path | None, channel: int | None, resample: bool, no_pipes: bool, pipe_timeout_s: float
) -> AudioSource:
    """Return how recordings are read; raises as `pipe_policy`."""
    return AudioSource(root, channel, resample, pipe_policy(no_pipes, pipe_timeout_s))


def model_of(mdl: Path) -> Path:
    """A transition model's file, where ``mdl`` is the folder that has one.

    Raises:
        ValueError: it has none.
    """
    from asr_bn.data.alignments import find_model

    return find_model(mdl) if mdl.is_dir() else mdl


def device_of(name: str) -> Literal["auto", "cpu", "cuda"]:
    """``name`` as a device.

    Raises:
        ValueError: it is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"--device is {name!r}, expected auto, cpu or cuda")
    return cast(Literal["auto", "cpu", "cuda"], name)
