"""``asr-bn train``: an acoustic model from features and alignments."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr_bn.cli import options

if TYPE_CHECKING:
    from asr_bn.acoustic_model.experiment import ExperimentConfig

NumWorkers = Annotated[
    int | None,
    typer.Option(help="Processes that read batches ahead [none beside a CPU, up to 4 for each GPU].", min=0),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Check data, configuration, OUT, and a step on the largest mini-batch; write nothing.",
    ),
]


def train(
    config: Annotated[Path, typer.Argument(help="TOML file, e.g. recipes/wsj/conf/paper.toml.")],
    data: options.Data,
    ali: options.Ali,
    dev_data: options.DevData,
    dev_ali: options.DevAli,
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and metrics.")],
    norm: Annotated[str | None, typer.Option(help="Override [model] norm: none or sequence.")] = None,
    seed: Annotated[int | None, typer.Option(help="Override [training] seed.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")] = False,
    device: options.Device = "auto",
    num_workers: NumWorkers = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files to OUT/tensorboard too.")
    ] = False,
    dry_run: DryRun = False,
) -> None:
    """Train an acoustic model.

    OUT gets last.pt, previous.pt (the checkpoint before it) and best.pt (lowest development FCE), and after
    every epoch metrics.jsonl, metrics.txt and figure.png.

    On several GPUs, which share each mini-batch: torchrun --nproc_per_node=N -m asr_bn.cli train CONFIG ...
    """
    from asr_bn.acoustic_model.experiment import ExperimentConfig
    from asr_bn.cli.stage import Stage, aligned_sources

    experiment = ExperimentConfig.read(config)
    if norm is not None:
        experiment = experiment.replace("model", norm=norm)
    if seed is not None:
        experiment = experiment.replace("training", seed=seed)
    folders = [data, ali, dev_data, dev_ali]
    if dry_run:
        _dry_run(experiment, folders, out, device)
        return
    sources = aligned_sources(data, ali) + aligned_sources(dev_data, dev_ali)
    outputs = [out / name for name in ("last.pt", "best.pt", "metrics.jsonl")]
    stage = Stage(out / ".train.done", outputs, {"config": experiment.to_dict()}, sources)
    if resume and stage.is_done(f"{out}: trained already"):
        return

    from asr_bn.acoustic_model.data import DataFolders, load_data
    from asr_bn.acoustic_model.run import train_model
    from asr_bn.system.memory import keep_freed_memory
    from asr_bn.training.device import choose_device, default_num_workers
    from asr_bn.training.ranks import Ranks, process_group

    keep_freed_memory()
    ranks = Ranks.from_environment()
    chosen = choose_device(device, ranks)
    workers = default_num_workers(chosen, ranks) if num_workers is None else num_workers
    with process_group(ranks, chosen):
        run_data = load_data(DataFolders(*folders), experiment, quiet=not ranks.is_first)
        train_model(experiment, run_data, out, chosen, resume, workers, ranks, tensorboard)
    if ranks.is_first:
        stage.mark_done()


def _dry_run(experiment: "ExperimentConfig", folders: list[Path], out: Path, device: str) -> None:
    from asr_bn.acoustic_model.data import DataFolders, load_data
    from asr_bn.acoustic_model.dry_run import dry_run
    from asr_bn.training.device import choose_device
    from asr_bn.training.ranks import Ranks

    if Ranks.from_environment().size > 1:
        raise ValueError("--dry-run is for one process: leave torchrun out")
    run_data = load_data(DataFolders(*folders), experiment)
    for line in dry_run(experiment, run_data, out, choose_device(device)):
        typer.echo(line)
