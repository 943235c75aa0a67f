"""``asr-bn finish``: the final model from the best epoch of a run."""

import json
from pathlib import Path
from typing import Annotated

import typer

from asr_bn.cli import options


def finish(
    exp_dir: Annotated[Path, typer.Argument(help="Output folder of 'asr-bn train'.")],
    data: options.Data,
    ali: options.Ali,
    dev_data: options.DevData,
    dev_ali: options.DevAli,
    device: options.Device = "auto",
) -> None:
    """Estimate population statistics of the best epoch.

    Evaluate it too; EXP_DIR gets final.pt and final.json.
    """
    from asr_bn.cli.stage import Stage, aligned_sources
    from asr_bn.data.source_files import SourceFiles

    def stage() -> Stage:  # of best.pt as it is: where it is lost, it is restored
        return Stage(exp_dir / ".finish.done", outputs, {}, SourceFiles((exp_dir / "best.pt",)) + sources)

    sources = aligned_sources(data, ali) + aligned_sources(dev_data, dev_ali)
    outputs = [exp_dir / "final.pt", exp_dir / "final.json"]
    done = f"{exp_dir}: population statistics are there already"
    if (exp_dir / "best.pt").is_file() and stage().is_done(done):
        return

    from asr_bn.acoustic_model.data import DataFolders, load_data
    from asr_bn.acoustic_model.run import best_config, finish_model
    from asr_bn.training.device import choose_device

    run_data = load_data(DataFolders(data, ali, dev_data, dev_ali), best_config(exp_dir))
    figures = finish_model(exp_dir, run_data, choose_device(device))
    typer.echo(f"{exp_dir}: {json.dumps({key: round(value, 4) for key, value in figures.items()})}", err=True)
    stage().mark_done()
