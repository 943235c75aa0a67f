"""``asr-bn serve-check``: an answer of the server compared with both models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr_bn.audio.source import AudioSource
from asr_bn.cli import options

if TYPE_CHECKING:
    from asr_bn.kaldi_io.data_dir import Utterance


def serve_check(
    exp_dir: Annotated[Path, typer.Argument(help="Folder with final.pt and model.onnx.")],
    data: Annotated[Path, typer.Option(help="Kaldi data dir; its first utterance is posted.")],
    root: options.Root = None,
    channel: options.Channel = None,
    resample: options.Resample = False,
    no_pipes: options.NoPipes = False,
    pipe_timeout: options.PipeTimeout = options.PIPE_TIMEOUT_S,
    max_difference: options.MaxDifference = 1e-4,
) -> None:
    """Post an utterance to the server and compare its answer.

    Start the server for it; EXP_DIR gets serve_check.json.
    """
    from asr_bn.cli.stage import Stage
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.kaldi_io.data_dir import DataDir

    audio = options.audio_source(root, channel, resample, no_pipes, pipe_timeout)
    report = exp_dir / "serve_check.json"
    utterance = next(iter(DataDir.read(data, root).utterances.values()))
    sources = SourceFiles((exp_dir / "final.pt", exp_dir / "model.onnx"))
    sources += SourceFiles.of_names([(utterance.utt_id, utterance.rxfilename)], root)
    settings = {"max_difference": max_difference, "channel": channel, "resample": resample}
    stage = Stage(exp_dir / ".serve_check.done", [report], settings | {"utterance": utterance}, sources)
    if not stage.is_done(f"{report}: checked already"):
        _check(exp_dir, utterance, audio, max_difference, report)
        stage.mark_done()


def _check(
    exp_dir: Path, utterance: "Utterance", audio: AudioSource, max_difference: float, report: Path
) -> None:
    """Start the server, post the utterance, write ``report``, refuse too large a difference."""
    from asr_bn.audio.reader import read_waveform
    from asr_bn.export.server_check import check_server
    from asr_bn.scoring.scorer import AcousticScorer
    from asr_bn.system.files import write_json

    metadata = AcousticScorer.load(exp_dir / "model.onnx", device="cpu").metadata
    rate = int(metadata.fbank.sample_frequency) if audio.resample else None
    result = check_server(exp_dir, utterance.utt_id, read_waveform(utterance, audio, rate), max_difference)
    write_json(report, result)
    to_onnx, to_pytorch = result["difference_to_onnx"], result["difference_to_pytorch"]
    typer.echo(
        f"{utterance.utt_id}: {result['num_frames']} frames over HTTP; largest difference in log posterior "
        f"{to_onnx:.1e} to the exported model, {to_pytorch:.1e} to PyTorch",
        err=True,
    )
    if to_onnx > max_difference or not result["is_explained"]:
        worst = max(to_onnx, to_pytorch)
        raise ValueError(
            f"{utterance.utt_id}: the server's answer differs by {worst:.1e}, "
            f"expected at most {max_difference:.1e}"
        )
