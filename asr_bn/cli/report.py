"""``asr-bn report``: the results of a recipe as a page."""

from pathlib import Path
from typing import Annotated

import typer

# What the stages before leave for the report.
SOURCES = ("metrics.jsonl", "final.json", "parity.json", "decode.json", "model.onnx", "realign.json")


def report(
    out: Annotated[Path, typer.Argument(help="Output folder of the recipe.")],
    corpus: Annotated[str, typer.Option(help="Name of the corpus.")],
    data: Annotated[Path, typer.Option(help="Features of the development set.")],
    ali: Annotated[Path, typer.Option(help="Alignments of the development set.")],
    config: Annotated[Path, typer.Option(help="The experiment's TOML file.")],
    command: Annotated[str, typer.Option(help="The command that reproduces the run.")],
    boundary_accuracy: Annotated[
        list[Path] | None,
        typer.Option(help="boundary_accuracy.json of an alignment folder; may be repeated."),
    ] = None,
) -> None:
    """Write results.json, figure1.png and report.html into OUT."""
    from asr_bn.cli.stage import Stage, aligned_sources
    from asr_bn.data.source_files import SourceFiles

    outputs = [out / name for name in ("results.json", "figure1.png", "report.html")]
    found = sorted(path for name in SOURCES for path in out.rglob(name))
    sources = SourceFiles((config, *found, *(boundary_accuracy or []))) + aligned_sources(data, ali)
    stage = Stage(out / ".report.done", outputs, {"corpus": corpus, "command": command}, sources)
    if stage.is_done(f"{out}/report.html: made already"):
        return

    from asr_bn.report.build import build_report

    build_report(out, corpus, data, ali, config, command, boundary_accuracy or [])
    stage.mark_done()
    typer.echo(f"{out}: wrote results.json, figure1.png, report.html", err=True)
