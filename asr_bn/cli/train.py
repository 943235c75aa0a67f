"""``asr-bn train`` and ``asr-bn finish``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from asr_bn.acoustic_model.experiment import ExperimentConfig
    from asr_bn.data.source_files import SourceFiles

ConfigFile = Annotated[
    Path, typer.Argument(metavar="CONFIG", help="TOML file, e.g. recipes/wsj/conf/paper.toml.")
]
Data = Annotated[Path, typer.Option(help="Features of the training set: the OUT_DIR of 'asr-bn features'.")]
Ali = Annotated[Path, typer.Option(help="Kaldi alignment folder of the training set (final.mdl, ali.*.gz).")]
DevData = Annotated[Path, typer.Option(help="Features of the development set.")]
DevAli = Annotated[Path, typer.Option(help="Alignment folder of the development set.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def train(
    config: ConfigFile,
    data: Data,
    ali: Ali,
    dev_data: DevData,
    dev_ali: DevAli,
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and metrics.")],
    norm: Annotated[str | None, typer.Option(help="Override [model] norm: none or sequence.")] = None,
    seed: Annotated[int | None, typer.Option(help="Override [training] seed.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")] = False,
    device: Device = "auto",
    num_workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that read batches ahead [none beside a CPU, up to 4 for each GPU].", min=0
        ),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write event files to OUT/tensorboard too.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check data, configuration, OUT, and a step on the largest mini-batch; write nothing.",
        ),
    ] = False,
) -> None:
    """Train an acoustic model.

    OUT gets last.pt, previous.pt (the checkpoint before it) and best.pt (lowest development FCE), and after
    every epoch metrics.jsonl, metrics.txt and figure.png.

    On several GPUs, which share each mini-batch: torchrun --nproc_per_node=N -m asr_bn.cli train CONFIG ...
    """
    from asr_bn.acoustic_model.experiment import ExperimentConfig
    from asr_bn.system.stamps import fingerprint, is_done, mark_done

    experiment = ExperimentConfig.read(config)
    if norm is not None:
        experiment = experiment.replace("model", norm=norm)
    if seed is not None:
        experiment = experiment.replace("training", seed=seed)
    folders = [data, ali, dev_data, dev_ali]
    if dry_run:
        _dry_run(experiment, folders, out, device)
        return
    sources = _sources(*folders)
    made_from = fingerprint({"config": experiment.to_dict()}, sources.small, sources.large)
    stamp = out / ".train.done"
    if resume and is_done(stamp, made_from, [out / "last.pt", out / "best.pt", out / "metrics.jsonl"]):
        typer.echo(f"{out}: trained already", err=True)
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
        mark_done(stamp, made_from)


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


def finish(
    exp_dir: Annotated[Path, typer.Argument(metavar="EXP_DIR", help="Output folder of 'asr-bn train'.")],
    data: Data,
    ali: Ali,
    dev_data: DevData,
    dev_ali: DevAli,
    device: Device = "auto",
) -> None:
    """Estimate population statistics of the best epoch.

    It is evaluated too; EXP_DIR gets final.pt and final.json.
    """
    from asr_bn.system.stamps import is_done, mark_done

    best, stamp = exp_dir / "best.pt", exp_dir / ".finish.done"
    sources = _sources(data, ali, dev_data, dev_ali)
    outputs = [exp_dir / "final.pt", exp_dir / "final.json"]
    if best.is_file() and is_done(stamp, _made_from(best, sources), outputs):
        typer.echo(f"{exp_dir}: population statistics are there already", err=True)
        return

    from asr_bn.acoustic_model.data import DataFolders, load_data
    from asr_bn.acoustic_model.run import best_config, finish_model
    from asr_bn.training.device import choose_device

    run_data = load_data(DataFolders(data, ali, dev_data, dev_ali), best_config(exp_dir))
    figures = finish_model(exp_dir, run_data, choose_device(device))
    typer.echo(f"{exp_dir}: {json.dumps({key: round(value, 4) for key, value in figures.items()})}", err=True)
    mark_done(stamp, _made_from(best, sources))


def _sources(data: Path, ali: Path, dev_data: Path, dev_ali: Path) -> "SourceFiles":
    from asr_bn.data.source_files import SourceFiles

    feats, alignments = SourceFiles.of_data_dir, SourceFiles.of_alignments
    return feats(data) + alignments(ali) + feats(dev_data) + alignments(dev_ali)


def _made_from(best: Path, sources: "SourceFiles") -> str:
    from asr_bn.system.stamps import fingerprint

    return fingerprint({}, [best, *sources.small], sources.large)
