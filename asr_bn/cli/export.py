"""``asr-bn export``: a finished model as ONNX."""

from pathlib import Path
from typing import Annotated

import typer

WithFrontend = Annotated[
    Path | None, typer.Option(help="Also write a model that takes samples instead of features.")
]
Triton = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Also add the model to this Triton model repository, as version 1."),
]
Data = Annotated[Path | None, typer.Option(help="With --int8: development features [EXP_DIR/../feats/dev].")]
Ali = Annotated[Path | None, typer.Option(help="With --int8: their alignments [EXP_DIR/../pdf/dev].")]
TrainAli = Annotated[
    Path | None,
    typer.Option(
        help="Alignments that it was trained on, for its phones [the checkpoint has them, unless it was "
        "made by an earlier version or from pdf-ids alone]."
    ),
]


def export(
    exp_dir: Annotated[Path, typer.Argument(help="Folder with final.pt, or that file.")],
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="File to write.")],
    int8: Annotated[bool, typer.Option("--int8", help="8-bit weights and activations, for the CPU.")] = False,
    float16: Annotated[bool, typer.Option("--float16", help="Half-precision weights, for CUDA.")] = False,
    with_frontend: WithFrontend = None,
    triton: Triton = None,
    data: Data = None,
    ali: Ali = None,
    train_ali: TrainAli = None,
) -> None:
    """Export a finished model to ONNX.

    All normalization is folded into its weights.

    With --int8, measure how much the frame error rate on the development set rises, and write that into the
    file's metadata and MODEL.json.
    """
    from asr_bn.cli.stage import Stage, aligned_sources, stamp_beside
    from asr_bn.data.source_files import SourceFiles

    if int8 and float16:
        raise ValueError("--int8 and --float16: choose one")
    checkpoint = exp_dir / "final.pt" if exp_dir.is_dir() else exp_dir
    if not checkpoint.is_file():
        raise FileNotFoundError(2, "no such checkpoint (run 'asr-bn finish' first)", str(checkpoint))
    run_dir = checkpoint.parent.parent
    data, ali = data or run_dir / "feats" / "dev", ali or run_dir / "pdf" / "dev"
    if int8 and not ((data / "feats.scp").is_file() and ali.exists()):
        raise ValueError(
            f"--int8 measures its loss on development data: {data} or {ali} is missing (--data, --ali)"
        )
    sources = SourceFiles.of([checkpoint]) + (aligned_sources(data, ali) if int8 else SourceFiles())
    options = {"int8": int8, "float16": float16, "with_frontend": with_frontend, "triton": triton}
    if train_ali is not None:
        sources += SourceFiles.of_alignments(train_ali)
        options |= {"train_ali": train_ali}
    outputs = [model, *([with_frontend] if with_frontend else [])]
    if triton is not None:
        from asr_bn.export.triton_repository import repository_files, write_repository

        outputs += repository_files(model, triton)
    stage = Stage(stamp_beside(model), outputs, options, sources)
    if stage.is_done(f"{model}: exported already"):
        return

    from asr_bn.export.variants import write_variants

    for line in write_variants(checkpoint, model, int8, float16, with_frontend, data, ali, train_ali):
        typer.echo(line, err=True)
    if triton is not None:
        typer.echo(f"{write_repository(model, triton)}: for Triton", err=True)
    stage.mark_done()
