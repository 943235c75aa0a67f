"""``asr-bn export`` and ``asr-bn parity``."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    exp_dir: Annotated[Path, typer.Argument(metavar="EXP_DIR", help="Folder with final.pt, or that file.")],
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="File to write.")],
    int8: Annotated[bool, typer.Option("--int8", help="8-bit weights and activations, for the CPU.")] = False,
    float16: Annotated[bool, typer.Option("--float16", help="Half-precision weights, for CUDA.")] = False,
    with_frontend: Annotated[
        Path | None, typer.Option(help="Also write this file, which takes raw samples instead of features.")
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also add the model to this Triton model repository, as version 1."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="With --int8: development features [EXP_DIR/../feats/dev].")
    ] = None,
    ali: Annotated[
        Path | None, typer.Option(help="With --int8: their alignments [EXP_DIR/../pdf/dev].")
    ] = None,
    train_ali: Annotated[
        Path | None,
        typer.Option(
            help="Alignments that it was trained on, for its phones [the checkpoint has them, unless it was "
            "made by an earlier version or from pdf-ids alone]."
        ),
    ] = None,
) -> None:
    """Export a finished model to ONNX.

    All normalization is folded into its weights.

    With --int8 the loss in frame error rate on the development set is measured, and written into the
    file's metadata and MODEL.json.
    """
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.system.files import find_place
    from asr_bn.system.stamps import fingerprint, is_done, mark_done

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
    stamp = model.parent / f".{model.name}.done"
    sources = SourceFiles.of([checkpoint])
    if int8:
        sources += SourceFiles.of_data_dir(data) + SourceFiles.of_alignments(ali)
    if train_ali is not None:
        sources += SourceFiles.of_alignments(train_ali)
    options = {"int8": int8, "float16": float16, "with_frontend": with_frontend, "triton": triton}
    options |= {} if train_ali is None else {"train_ali": train_ali}
    made_from = fingerprint(options, sources.small, sources.large)
    outputs = [model, *([with_frontend] if with_frontend else [])]
    if triton is not None:
        from asr_bn.export.triton_repository import repository_files, write_repository

        outputs += repository_files(model, triton)
    stays = find_place(model)[1]  # a device or a FIFO has to be written every time
    if stays and is_done(stamp, made_from, outputs):
        typer.echo(f"{model}: exported already", err=True)
        return

    from asr_bn.export.variants import write_variants

    for line in write_variants(checkpoint, model, int8, float16, with_frontend, data, ali, train_ali):
        typer.echo(line, err=True)
    if triton is not None:
        typer.echo(f"{write_repository(model, triton)}: for Triton", err=True)
    if stays:
        mark_done(stamp, made_from)


def parity(
    exp_dir: Annotated[Path, typer.Argument(metavar="EXP_DIR", help="Folder with final.pt and model.onnx.")],
    data: Annotated[Path, typer.Option(help="Features to compare on.")],
    max_difference: Annotated[
        float,
        typer.Option(
            help="Allowed in log posterior.  Larger differences pass only if float32 rounding of the "
            "features explains them."
        ),
    ] = 5e-5,
) -> None:
    """Compare the exported model with the PyTorch model.

    On every utterance, alone and in batches: EXP_DIR/parity.json.
    """
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.system.stamps import fingerprint, is_done, mark_done

    stamp, report = exp_dir / ".parity.done", exp_dir / "parity.json"
    sources = SourceFiles.of_data_dir(data)
    files = [exp_dir / "final.pt", exp_dir / "model.onnx", *sources.small]
    made_from = fingerprint({"max_difference": max_difference}, files, sources.large)
    if is_done(stamp, made_from, [report]):
        typer.echo(f"{report}: compared already", err=True)
        return

    from dataclasses import asdict

    from asr_bn.acoustic_model.model import load_model
    from asr_bn.export.parity import compare
    from asr_bn.kaldi_io.matrix_table import MatrixScp
    from asr_bn.scoring.scorer import AcousticScorer
    from asr_bn.system.files import write_json

    model, _ = load_model(exp_dir / "final.pt")
    scorer = AcousticScorer.load(exp_dir / "model.onnx", device="cpu")
    result = compare(model, scorer, MatrixScp(data / "feats.scp"), max_difference)
    write_json(report, asdict(result))
    typer.echo(
        f"{exp_dir}: PyTorch and ONNX Runtime differ by at most {result.max_difference:.1e} "
        f"({result.utt_id}; rounding of its features makes {result.input_sensitivity:.1e})",
        err=True,
    )
    if result.unexplained:
        raise ValueError(
            f"{exp_dir}/model.onnx: differs from final.pt by more than {max_difference:.1e} in log posterior "
            f"on {len(result.unexplained)} of {result.num_utterances} utterances "
            f"({result.unexplained[0]}), which rounding does not explain"
        )
    mark_done(stamp, made_from)
