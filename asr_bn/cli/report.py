"""``asr-bn report``."""

from pathlib import Path
from typing import Annotated

import typer

# What the stages before leave for the report.
SOURCES = ("metrics.jsonl", "final.json", "parity.json", "decode.json", "model.onnx")


def report(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Output folder of the recipe.")],
    corpus: Annotated[str, typer.Option(help="What the corpus is called.")],
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
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.system.stamps import fingerprint, is_done, mark_done

    outputs = [out / name for name in ("results.json", "figure1.png", "report.html")]
    sources = sorted(path for name in SOURCES for path in out.rglob(name))
    inputs = SourceFiles.of_data_dir(data) + SourceFiles.of_alignments(ali)
    made_from = fingerprint(
        {"corpus": corpus, "command": command},
        [config, *sources, *(boundary_accuracy or []), *inputs.small],
        inputs.large,
    )
    stamp = out / ".report.done"
    if is_done(stamp, made_from, outputs):
        typer.echo(f"{out}/report.html: made already", err=True)
        return

    from asr_bn.report.build import build_report

    build_report(out, corpus, data, ali, config, command, boundary_accuracy or [])
    mark_done(stamp, made_from)
    typer.echo(f"{out}: wrote results.json, figure1.png, report.html", err=True)
