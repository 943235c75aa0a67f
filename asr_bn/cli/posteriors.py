"""``asr-bn posteriors``: framewise posteriors as a Kaldi archive."""

import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr_bn.cli import options
from asr_bn.system.cores import available_cores

if TYPE_CHECKING:
    from asr_bn.kaldi_io.matrix_table import MatrixWriter
    from asr_bn.scoring.corpus import Scores
    from asr_bn.system.arrays import Floats


class Output(StrEnum):
    """What is written."""

    posterior = "posterior"
    log_posterior = "log_posterior"
    log_likelihood = "log_likelihood"


class ScoreLevel(StrEnum):
    """What is scored."""

    pdf = "pdf"
    phone = "phone"
    phone_class = "phone-class"


Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="Data folder, ark: or scp: rspecifier of features, - (ark:-), or audio files.",
    ),
]
Level = Annotated[
    ScoreLevel,
    typer.Option(
        help="Score pdfs, phones (AH_B) or phones of all word positions (AH): sums over pdfs, of which "
        "shared ones are divided as in the training alignments."
    ),
]
Names = Annotated[Path | None, typer.Option(help="Write the names of the columns, as phones.txt: from 0.")]
PriorScale = Annotated[float, typer.Option(help="For log_likelihood: share of the log prior to subtract.")]
PriorFloor = Annotated[float, typer.Option(help="For log_likelihood: smallest prior, as probability.")]
NumJobs = Annotated[int | None, typer.Option(min=1, help="Batches at a time [number of cores; 1 on CUDA].")]


def posteriors(
    model: options.Model,
    inputs: Inputs,
    wspecifier: Annotated[str, typer.Argument(help="Such as ark:post.ark, ark,t:- or ark,scp:A,S.")],
    output: Annotated[Output, typer.Option(help="What to write.")] = Output.log_posterior,
    level: Level = ScoreLevel.pdf,
    names: Names = None,
    prior_scale: PriorScale = 1.0,
    prior_floor: PriorFloor = 0.0,
    acoustic_scale: Annotated[float, typer.Option(help="For log_likelihood: factor of the result.")] = 1.0,
    nj: NumJobs = None,
    device: options.Device = "auto",
    root: options.Root = None,
    channel: options.Channel = None,
    resample: options.Resample = False,
    compress: options.Compress = False,
    no_pipes: options.NoPipes = False,
    pipe_timeout: options.PipeTimeout = options.PIPE_TIMEOUT_S,
) -> None:
    """Score utterances into a Kaldi archive.

    The archive is a file, or with ark:- a stream for a decoder.
    """
    from asr_bn.kaldi_io.matrix_table import MatrixWriter
    from asr_bn.scoring.corpus import score_blocks
    from asr_bn.scoring.inputs import ScoringInput
    from asr_bn.scoring.scorer import AcousticScorer, check_prior_floor, floor_priors, to_output

    check_prior_floor(prior_floor)
    audio = options.audio_source(root, channel, resample, no_pipes, pipe_timeout)
    scorer = AcousticScorer.load(model, options.device_of(device), num_threads=1)
    nj = nj or (1 if scorer.on_cuda else available_cores())
    columns = scorer.columns(level.value)
    if names is not None:
        _write_names(names, columns.names, model)
    feats, total = ScoringInput(scorer.metadata.fbank, audio).feats(inputs)
    log_priors = floor_priors(columns.log_priors, prior_floor)
    skipped: list[str] = []

    def score(rows: "Floats") -> "Floats":
        scores = columns.log_posteriors(rows)
        return to_output(scores, log_priors, output.value, prior_scale, acoustic_scale)

    scores = (each.mapped(score) for each in score_blocks(scorer, feats, nj, skipped.append))
    with MatrixWriter(wspecifier, compress) as writer:
        num_utterances, num_frames = _write(writer, scores, total)
        if not num_utterances:
            found = f"{len(skipped)} utterances without frames"
            raise ValueError(f"{' '.join(inputs)}: nothing to score ({found})")
    for utt_id in skipped:
        print(f"{utt_id}: no frames (shorter than one frame), left out", file=sys.stderr)
    print(f"{model}: {num_utterances} utterances, {num_frames} frames to {wspecifier}", file=sys.stderr)


def _write_names(path: Path, names: tuple[str, ...] | None, model: Path) -> None:
    from asr_bn.system.files import write_text

    if names is None:
        raise ValueError(f"--names: {model} does not know its phones")
    write_text(path, "".join(f"{name} {number}\n" for number, name in enumerate(names)))


def _write(writer: "MatrixWriter", scores: "Iterable[Scores]", total: int | None) -> tuple[int, int]:
    """Write the scores of every utterance, of long ones block by block; count utterances and frames."""
    from tqdm import tqdm

    num_utterances = num_frames = 0
    for each in tqdm(scores, desc="posteriors", unit="utt", total=total, delay=2):
        if each.is_long:
            writer.write_blocks(each.utt_id, each.num_frames, each.blocks)
        else:
            writer.write(each.utt_id, each.matrix())
        num_utterances, num_frames = num_utterances + 1, num_frames + each.num_frames
    return num_utterances, num_frames
