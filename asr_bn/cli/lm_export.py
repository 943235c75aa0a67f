"""``asr-bn lm-export``: a trained language model as ONNX."""

from pathlib import Path
from typing import Annotated

import typer


def lm_export(
    exp_dir: Annotated[Path, typer.Argument(help="Folder with a language model's final.pt.")],
) -> None:
    """Export a finished language model to ONNX.

    EXP_DIR gets model.onnx (a window) and step.onnx (one step).

    Both take and return the states of the layers. Their metadata hold the vocabulary and the configuration.
    """
    checkpoint = exp_dir / "final.pt"
    if not checkpoint.is_file():
        reason = "no such checkpoint (recipes/ptb/run.py writes it when training is done)"
        raise FileNotFoundError(2, reason, str(checkpoint))

    from asr_bn.language_model.onnx_export import export_language_model

    for path in export_language_model(exp_dir):
        typer.echo(f"{path}: written", err=True)
