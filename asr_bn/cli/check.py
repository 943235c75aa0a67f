"""``asr-bn check``: a data folder and its alignments, validated."""

from pathlib import Path
from typing import Annotated

import typer

from asr_bn.cli import options


def check(
    data_dir: Annotated[Path, typer.Argument(help="Kaldi data folder.")],
    ali_dir: Annotated[Path | None, typer.Argument(help="Kaldi alignment folder of its utterances.")] = None,
    root: options.Root = None,
    fbank_conf: Annotated[
        Path | None, typer.Option(help="Conf file with frame length and shift.", callback=options.rereadable)
    ] = None,
    channel: options.Channel = None,
    resample: options.Resample = False,
    no_pipes: options.NoPipes = False,
    pipe_timeout: options.PipeTimeout = options.PIPE_TIMEOUT_S,
) -> None:
    """Validate a Kaldi data folder and its alignments.

    Print a summary of what Kaldi's utils/validate_data_dir.sh checks, and more; exit with 1 on problems.
    """
    from asr_bn.data.check import check_data
    from asr_bn.features.options import read_channel

    channel = read_channel(fbank_conf) if channel is None and fbank_conf is not None else channel
    audio = options.audio_source(root, channel, resample, no_pipes, pipe_timeout)
    report = check_data(data_dir, ali_dir, audio, fbank_conf)
    for mark, lines in (("", report.facts), ("note: ", report.remarks), ("problem: ", report.problems)):
        for line in lines:
            print(f"{mark}{line}")
    if report.problems:
        raise typer.Exit(1)
    print(f"{data_dir}: no problems")
