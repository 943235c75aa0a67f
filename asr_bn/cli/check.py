"""``asr-bn check``: does a data folder hold together, and do its alignments fit?"""

from pathlib import Path
from typing import Annotated

import typer


def check(
    data_dir: Annotated[Path, typer.Argument(help="Kaldi data folder.")],
    ali_dir: Annotated[Path | None, typer.Argument(help="Kaldi alignment folder of its utterances.")] = None,
    root: Annotated[
        Path | None, typer.Option(help="Folder that relative names in wav.scp start from [current folder].")
    ] = None,
    fbank_conf: Annotated[
        Path | None, typer.Option(help="Kaldi conf file: frame length and shift, for the numbers of frames.")
    ] = None,
    channel: Annotated[int | None, typer.Option(min=0, help="Of recordings with several, from 0.")] = None,
    no_pipes: Annotated[bool, typer.Option("--no-pipes", help="Refuse commands in wav.scp.")] = False,
) -> None:
    """Print what is there and what does not match.

    As Kaldi's utils/validate_data_dir.sh; the exit code is 1 if anything does not.
    """
    from asr_bn.data_check import CheckOptions, check_data
    from asr_bn.features.fbank_options import FbankOptions, read_channel
    from asr_bn.kaldi_io.rxfilename import PipePolicy

    fbank = None if fbank_conf is None else FbankOptions.read_conf(fbank_conf)
    channel = read_channel(fbank_conf) if channel is None and fbank_conf is not None else channel
    options = CheckOptions(root, fbank, channel, PipePolicy(allowed=not no_pipes))
    report = check_data(data_dir, ali_dir, options)
    for line in report.facts:
        print(line)
    for line in report.remarks:
        print(f"note: {line}")
    for line in report.problems:
        print(f"problem: {line}")
    if report.problems:
        raise typer.Exit(1)
    print(f"{data_dir}: no problems")
