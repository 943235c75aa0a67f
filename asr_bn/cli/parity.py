"""``asr-bn parity``: the exported model compared with the trained one."""

from pathlib import Path
from typing import Annotated

import typer

from asr_bn.cli import options


def parity(
    exp_dir: Annotated[Path, typer.Argument(help="Folder with final.pt and model.onnx.")],
    data: Annotated[Path, typer.Option(help="Features to compare on.")],
    max_difference: options.MaxDifference = 5e-5,
) -> None:
    """Compare the exported model with the PyTorch model.

    Every utterance is scored alone and in batches. EXP_DIR gets parity.json.
    """
    from asr_bn.cli.stage import Stage
    from asr_bn.data.source_files import SourceFiles

    report = exp_dir / "parity.json"
    sources = SourceFiles((exp_dir / "final.pt", exp_dir / "model.onnx")) + SourceFiles.of_data_dir(data)
    stage = Stage(exp_dir / ".parity.done", [report], {"max_difference": max_difference}, sources)
    if not stage.is_done(f"{report}: compared already"):
        _compare(exp_dir, data, max_difference, report)
        stage.mark_done()


def _compare(exp_dir: Path, data: Path, max_difference: float, report: Path) -> None:
    """Compare the models on every utterance, write ``report``, refuse what rounding does not explain."""
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
