"""``asr-bn posteriors``: framewise posteriors of data folders, features or audio files as a Kaldi archive."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asr_bn.cli.options import (
    PIPE_TIMEOUT_S,
    Channel,
    NoPipes,
    PipeTimeout,
    Resample,
    Root,
    audio_source,
    device_of,
)
from asr_bn.system.cores import available_cores


class Output(StrEnum):
    """What is written."""

    posterior = "posterior"
    log_posterior = "log_posterior"
    log_likelihood = "log_likelihood"


def posteriors(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Exported model.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Data folder, ark: or scp: rspecifier of features, - (ark:-), or audio files.",
        ),
    ],
    wspecifier: Annotated[
        str, typer.Argument(metavar="WSPECIFIER", help="As ark:post.ark, ark,t:-, ark,scp:A,S.")
    ],
    output: Annotated[Output, typer.Option(help="What to write.")] = Output.log_posterior,
    prior_scale: Annotated[
        float, typer.Option(help="Of log_likelihood: how much of the log prior to subtract.")
    ] = 1.0,
    prior_floor: Annotated[
        float, typer.Option(help="Of log_likelihood: smallest prior, as a probability.")
    ] = 0.0,
    acoustic_scale: Annotated[float, typer.Option(help="Of log_likelihood: a factor for all of it.")] = 1.0,
    nj: Annotated[
        int | None, typer.Option(min=1, help="Batches at a time [number of cores; 1 on CUDA].")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    root: Root = None,
    channel: Channel = None,
    resample: Resample = False,
    compress: Annotated[bool, typer.Option("--compress", help="Write Kaldi's compressed matrices.")] = False,
    no_pipes: NoPipes = False,
    pipe_timeout: PipeTimeout = PIPE_TIMEOUT_S,
) -> None:
    """Score utterances into a Kaldi archive.

    It goes to a file, or with ark:- to a decoder.
    """
    import sys

    from tqdm import tqdm

    from asr_bn.kaldi_io.matrix_table import MatrixWriter
    from asr_bn.scoring.corpus import score_blocks
    from asr_bn.scoring.inputs import ScoringInput
    from asr_bn.scoring.scorer import AcousticScorer, check_prior_floor, floor_priors, to_output

    check_prior_floor(prior_floor)
    audio = audio_source(root, channel, resample, no_pipes, pipe_timeout)
    scorer = AcousticScorer.load(model, device_of(device), num_threads=1)
    nj = nj or (1 if scorer.on_cuda else available_cores())
    source = ScoringInput(scorer.metadata.fbank, audio)
    feats, total = source.feats(inputs)
    log_priors = floor_priors(scorer.metadata.log_priors, prior_floor)
    skipped: list[str] = []
    num_utterances = num_frames = 0
    with (
        MatrixWriter(wspecifier, compress) as writer,
        tqdm(desc="posteriors", unit="utt", total=total, delay=2) as progress,
    ):
        for log_posteriors in score_blocks(scorer, feats, nj, skipped.append):
            scores = log_posteriors.mapped(
                lambda rows: to_output(rows, log_priors, output.value, prior_scale, acoustic_scale)
            )
            if scores.is_long:
                writer.write_blocks(scores.utt_id, scores.num_frames, scores.blocks)
            else:
                writer.write(scores.utt_id, scores.matrix())
            num_utterances, num_frames = num_utterances + 1, num_frames + scores.num_frames
            progress.update()
        if not num_utterances:
            raise ValueError(
                f"{' '.join(inputs)}: nothing to score ({len(skipped)} utterances without frames)"
            )
    for utt_id in skipped:
        print(f"{utt_id}: no frames (shorter than one frame), left out", file=sys.stderr)
    print(f"{model}: {num_utterances} utterances, {num_frames} frames to {wspecifier}", file=sys.stderr)
