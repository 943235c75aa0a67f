"""What several verbs need of their options: the same names, help and checks for all."""

import atexit
import math
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer
from typer.core import TyperArgument, TyperCommand

from asr_bn.audio.source import AudioSource
from asr_bn.kaldi_io.rxfilename import MAX_SOURCE_BYTES, PipePolicy
from asr_bn.kaldi_io.rxfilename import PIPE_TIMEOUT_S as PIPE_TIMEOUT_S

_BLOCK = 1 << 20

Model = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Exported model.")]
Data = Annotated[Path, typer.Option(help="Features of the training set: the OUT_DIR of 'asr-bn features'.")]
Ali = Annotated[Path, typer.Option(help="Kaldi alignment folder of the training set (final.mdl, ali.*.gz).")]
DevData = Annotated[Path, typer.Option(help="Features of the development set.")]
DevAli = Annotated[Path, typer.Option(help="Alignment folder of the development set.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
NumJobs = Annotated[int | None, typer.Option(min=1, help="Processes [number of cores].")]
Compress = Annotated[bool, typer.Option("--compress", help="Write Kaldi's compressed matrices.")]
MaxDifference = Annotated[
    float,
    typer.Option(
        help="Allowed in log posterior.  Larger differences to PyTorch pass only if float32 rounding of the "
        "features explains them."
    ),
]
Root = Annotated[
    Path | None, typer.Option(help="Folder that relative names in script files start from [current folder].")
]
Channel = Annotated[int | None, typer.Option(min=0, help="Channel of recordings with several, from 0.")]
Resample = Annotated[bool, typer.Option("--resample", help="Convert recordings of other sample frequencies.")]
NoPipes = Annotated[bool, typer.Option("--no-pipes", help="Refuse commands among the inputs.")]
PipeTimeout = Annotated[
    float, typer.Option(help="Seconds that a recording's command may take, or a table's may be silent.")
]


class Verb(TyperCommand):
    """A verb whose arguments are in capitals in ``--help`` and whose numbers have to be finite.

    NaN would only be found in what it leads to.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for parameter in self.params:
            if isinstance(parameter, TyperArgument) and parameter.name is not None:
                parameter.metavar = parameter.metavar or parameter.name.upper()

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the verb.

        Raises:
            ValueError: an option is infinite or not a number.
        """
        for name, value in ctx.params.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"--{name.replace('_', '-')} is {value}, expected a finite number")
        return super().invoke(ctx)


def rereadable(path: Path | None) -> Path | None:
    """Return an input's path, or that of a copy if it can be read only once: a FIFO, ``<(command)``.

    The copy goes when the process ends.  Its name differs each time, so that no stamp vouches for it.

    Raises:
        ValueError: an endless source.
    """
    if path is None or not path.exists() or path.is_file() or path.is_dir():
        return path
    folder = tempfile.mkdtemp(prefix="asr-bn.")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = Path(folder, path.name)
    with path.open("rb") as source, copy.open("wb") as target:
        while block := source.read(_BLOCK):
            target.write(block)
            if target.tell() > MAX_SOURCE_BYTES:
                raise ValueError(f"{path}: more than {MAX_SOURCE_BYTES} bytes; stopped")
    return copy


def script_path(path: Path | None) -> Path | None:
    """Return the path of a script file, which may be named ``scp:FILE`` as in Kaldi; see `rereadable`."""
    return rereadable(None if path is None else Path(str(path).removeprefix("scp:")))


def pipe_policy(no_pipes: bool, timeout_s: float) -> PipePolicy:
    """Return how commands among the inputs are run.

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
    """Return the transition model's file, also where ``mdl`` is the folder that has one.

    Raises:
        ValueError: it has none.
    """
    from asr_bn.data.alignments import find_model

    return find_model(mdl) if mdl.is_dir() else mdl


def device_of(name: str) -> Literal["auto", "cpu", "cuda"]:
    """Return ``name`` as a device.

    Raises:
        ValueError: it is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"--device is {name!r}, expected auto, cpu or cuda")
    return cast(Literal["auto", "cpu", "cuda"], name)
