"""``asr-bn features``: filter-bank features of a Kaldi data folder."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from asr_bn.cli import options
from asr_bn.system.cores import available_cores


def features(
    data_dir: Annotated[Path, typer.Argument(help="Kaldi data folder: wav.scp, segments, utt2spk, text.")],
    out_dir: Annotated[Path, typer.Argument(help="Folder for feats.ark, feats.scp and fbank.conf.")],
    nj: options.NumJobs = None,
    compress: options.Compress = False,
    deltas: Annotated[bool, typer.Option("--deltas", help="Append first and second deltas.")] = False,
    root: options.Root = None,
    fbank_conf: Annotated[
        Path | None, typer.Option(help="Kaldi conf file of the filter bank.", callback=options.rereadable)
    ] = None,
    sample_frequency: Annotated[
        int | None, typer.Option(min=1, help="In Hz [as the conf file or the first recording].")
    ] = None,
    resample: options.Resample = False,
    channel: options.Channel = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the dither, if the conf file asks for any.")] = 0,
    no_pipes: options.NoPipes = False,
    pipe_timeout: options.PipeTimeout = options.PIPE_TIMEOUT_S,
    feats: Annotated[
        Path | None,
        typer.Option(
            help="Read the static features of this feats.scp instead of audio.", callback=options.script_path
        ),
    ] = None,
    cmvn: Annotated[
        str | None, typer.Option(help="Normalize with these statistics: cmvn.scp, ark:FILE, or one matrix.")
    ] = None,
    norm_vars: Annotated[bool, typer.Option("--norm-vars", help="With --cmvn: the variance too.")] = False,
    engine: Annotated[str, typer.Option(help="processes, or ray (pip install 'asr-bn[ray]').")] = "processes",
) -> None:
    """Compute Kaldi's log mel filter bank with energy.

    The features have 41 columns, or 123 with --deltas.

    Run again after an interruption, it continues where it was; run again when done, it ends at once.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # the processes share the cores, not the threads of each product
    from asr_bn.extraction.computation import ExtractionOptions
    from asr_bn.extraction.extract import extract_features
    from asr_bn.extraction.request import ExtractionRequest
    from asr_bn.system.memory import keep_freed_memory

    keep_freed_memory()
    audio = options.audio_source(root, channel, resample, no_pipes, pipe_timeout)
    settings = ExtractionOptions(audio, deltas, compress, seed, feats)
    request = ExtractionRequest(data_dir, out_dir, settings, fbank_conf, sample_frequency, cmvn, norm_vars)
    summary = extract_features(request, nj or available_cores(), engine)
    if summary is None:
        remark = request.sources(request.utterances()).remark
        print(f"{out_dir}: already done{remark}", file=sys.stderr)
        return
    print(
        f"{out_dir}: {summary.num_utterances} utterances ({summary.num_reused} from an earlier run),"
        f" {summary.num_frames} frames, {summary.hours:.2f} hours;"
        f" {summary.num_empty} shorter than a frame",
        file=sys.stderr,
    )
