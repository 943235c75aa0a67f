"""``asr-bn export`` and ``asr-bn parity``."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    exp_dir: Annotated[Path, typer.Argument(metavar="EXP_DIR", help="Folder with final.pt, or the checkpoint itself.")],
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="File to write.")],
) -> None:
    """Export a finished model to ONNX, all normalization folded into its weights."""
    from asr_bn.files import sha256_of_file
    from asr_bn.stamps import fingerprint, is_done, mark_done

    checkpoint = exp_dir / "final.pt" if exp_dir.is_dir() else exp_dir
    if not checkpoint.is_file():
        raise FileNotFoundError(2, "no such checkpoint (run 'asr-bn finish' first)", str(checkpoint))
    stamp = model.parent / f".{model.name}.done"
    made_from = fingerprint({}, [checkpoint])
    if is_done(stamp, made_from, [model]):
        typer.echo(f"{model}: exported already", err=True)
        return

    from asr_bn.onnx_export import export_onnx, metadata_of
    from asr_bn.training_run import load_model

    acoustic_model, state = load_model(checkpoint)
    export_onnx(acoustic_model, metadata_of(state, sha256_of_file(checkpoint)), model)
    mark_done(stamp, made_from)
    typer.echo(f"{model}: {model.stat().st_size / 1e6:.1f} MB", err=True)


def parity(
    exp_dir: Annotated[Path, typer.Argument(metavar="EXP_DIR", help="Folder with final.pt and model.onnx.")],
    data: Annotated[Path, typer.Option(help="Features to compare on.")],
    max_difference: Annotated[float, typer.Option(help="Largest difference allowed, in log posterior.")] = 5e-5,
) -> None:
    """Compare the exported model with the PyTorch model on every utterance: parity.json."""
    from asr_bn.stamps import fingerprint, is_done, mark_done

    stamp, report = exp_dir / ".parity.done", exp_dir / "parity.json"
    files = [exp_dir / "final.pt", exp_dir / "model.onnx", data / "feats.scp"]
    made_from = fingerprint({"max_difference": max_difference}, files)
    if is_done(stamp, made_from, [report]):
        typer.echo(f"{report}: compared already", err=True)
        return

    from asr_bn.files import write_json
    from asr_bn.kaldi_io.matrix_table import MatrixScp
    from asr_bn.parity import compare
    from asr_bn.posteriors import AcousticScorer
    from asr_bn.training_run import load_model

    model, _ = load_model(exp_dir / "final.pt")
    scorer = AcousticScorer.load(exp_dir / "model.onnx", device="cpu")
    result = compare(model, scorer, MatrixScp(data / "feats.scp"))
    write_json(report, result)
    typer.echo(f"{exp_dir}: PyTorch and ONNX Runtime differ by at most {result['max_difference']:.1e}", err=True)
    if result["max_difference"] > max_difference:
        raise ValueError(
            f"{exp_dir}/model.onnx: differs from final.pt by {result['max_difference']:.1e} in log posterior "
            f"({result['utt_id']}), expected at most {max_difference:.1e}"
        )
    mark_done(stamp, made_from)
