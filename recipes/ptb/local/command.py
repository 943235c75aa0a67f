"""The command line of ``recipes/ptb/run.py``."""

import shlex
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from asr_bn.cli.errors import run as run_app
from asr_bn.system.files import locked_folder
from asr_bn.system.memory import keep_freed_memory

Task = Literal["word", "char"]
# Of options that may be given several times, the command line library takes these but no Literal.
Size = StrEnum("Size", ["small", "medium", "large"])
Norm = StrEnum("Norm", ["none", "frame", "recurrent"])
CONF = Path(__file__).parents[1] / "conf"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder with ptb.train.txt, ptb.valid.txt, ptb.test.txt, or an archive of them. Default: "
        "download them; where that fails, a synthetic text of known entropy."
    ),
]
Sizes = Annotated[
    list[Size] | None,
    typer.Option(
        help="Of the word model; several for several. Default: small; on the synthetic text "
        "conf/synthetic.toml."
    ),
]
Norms = Annotated[
    list[Norm] | None,
    typer.Option(help="Train only the models with these. Default: none, and the paper's for the task."),
]
Configs = Annotated[
    list[str] | None,
    typer.Option(help="More configs: TOML files, or names of those in conf; several times for several."),
]
Search = Annotated[
    int,
    typer.Option(
        min=0,
        max=1_000_000,
        help="Trials of the appendix's random search (the paper made 52); 0: none. Several processes of "
        "the same command share them.",
    ),
]


@app.command()
def run(
    data: Data = None,
    any_text: Annotated[
        bool, typer.Option("--any-text", help="Accept texts in --data that are not the Penn Treebank.")
    ] = False,
    size: Sizes = None,
    task: Annotated[Task, typer.Option(help="Words, or the appendix's characters.")] = "word",
    norm: Norms = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="In the place of each config's.")] = None,
    config: Configs = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a value of every config, e.g. training.epochs=3."),
    ] = None,
    search: Search = 0,
    out: Annotated[
        Path | None, typer.Option(help="Output folder [exp/ptb, exp/ptb_synthetic, or exp/text].")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Of the initial weights, and of the synthetic text.")
    ] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Train the paper's language models with and without batch normalization, and report on them."""
    from asr_bn.training.device import choose_device
    from recipes.ptb.local.experiments import run_experiments, run_random_search
    from recipes.ptb.local.overrides import read_experiment
    from recipes.ptb.local.report import write_report
    from recipes.ptb.local.texts import find_text

    keep_freed_memory()
    overrides = [*(override or []), *([] if epochs is None else [f"training.epochs={epochs}"])]
    if task == "char" and size:
        raise ValueError(f"--task char has one size, that of conf/char.toml: --size {size[0]} is of words")
    names = [*(["char"] if task == "char" else size or []), *(config or [])]
    experiments = {Path(name).stem: read_experiment(_config_file(name), overrides, seed) for name in names}
    where = choose_device(device)
    text = find_text(data, any_text, seed)
    if not experiments and not search:
        name = "synthetic" if text.kind == "ptb_synthetic" else "small"
        experiments[name] = read_experiment(_config_file(name), overrides, seed)
    out = out or Path("exp") / text.kind
    command = shlex.join(["python", "recipes/ptb/run.py", *sys.argv[1:]])
    if experiments:
        with locked_folder(out):
            for name, experiment in experiments.items():
                run_experiments(out / name, experiment, text, where, norm or [])
    if search:  # not under the lock: processes share the trials, each of which has a lock of its own
        base = read_experiment(CONF / "char.toml", overrides, seed)
        run_random_search(out / "search", base, text, search, where, seed)
    write_report(out, list(experiments), text, command)
    typer.echo(f"{out}: results.json, report.html", err=True)


def _config_file(name: str) -> Path:
    path = CONF / f"{name}.toml"
    return path if path.is_file() else Path(name)


def spread(arguments: Sequence[str], options: Sequence[str] = ("--norm", "--size")) -> list[str]:
    """Write ``--norm none frame`` as ``--norm none --norm frame``: options that take several values."""
    result: list[str] = []
    several = None
    for argument in arguments:
        if argument.startswith("-"):
            several = argument if argument in options else None
        elif several is not None and result[-1] != several:
            result.append(several)
        result.append(argument)
    return result


def main() -> None:
    """Run the command; errors are one line and exit code 1."""
    sys.argv[1:] = spread(sys.argv[1:])
    run_app(app, "run.py")
