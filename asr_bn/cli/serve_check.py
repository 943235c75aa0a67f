"""``asr-bn serve-check``."""

from pathlib import Path
from typing import Annotated

import typer

from asr_bn.cli.options import PIPE_TIMEOUT_S, Channel, NoPipes, PipeTimeout, Resample, Root, audio_source


def serve_check(
    exp_dir: Annotated[Path, typer.Argument(metavar="EXP_DIR", help="Folder with final.pt and model.onnx.")],
    data: Annotated[Path, typer.Option(help="Kaldi data dir; its first utterance is posted.")],
    root: Root = None,
    channel: Channel = None,
    resample: Resample = False,
    no_pipes: NoPipes = False,
    pipe_timeout: PipeTimeout = PIPE_TIMEOUT_S,
    max_difference: Annotated[
        float,
        typer.Option(
            help="Allowed in log posterior; more to PyTorch only where the features' last bits make so much."
        ),
    ] = 1e-4,
) -> None:
    """Post an utterance to the server and compare its answer.

    The server is started for it; EXP_DIR gets serve_check.json.
    """
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.kaldi_io.data_dir import DataDir
    from asr_bn.system.stamps import fingerprint, is_done, mark_done

    source = audio_source(root, channel, resample, no_pipes, pipe_timeout)
    stamp, report = exp_dir / ".serve_check.done", exp_dir / "serve_check.json"
    utterance = next(iter(DataDir.read(data, root).utterances.values()))
    audio = SourceFiles.of_names([(utterance.utt_id, utterance.rxfilename)], root)
    options = {"max_difference": max_difference, "channel": channel, "resample": resample}
    files = [exp_dir / "final.pt", exp_dir / "model.onnx"]
    made_from = fingerprint(options | {"utterance": utterance}, files, audio.large)
    if is_done(stamp, made_from, [report]):
        typer.echo(f"{report}: checked already{audio.remark}", err=True)
        return

    from asr_bn.audio.reader import read_waveform
    from asr_bn.export.server_check import check_server
    from asr_bn.scoring.scorer import AcousticScorer
    from asr_bn.system.files import write_json

    metadata = AcousticScorer.load(exp_dir / "model.onnx", device="cpu").metadata
    rate = int(metadata.fbank.sample_frequency) if resample else None
    waveform = read_waveform(utterance, source, rate)
    result = check_server(exp_dir, utterance.utt_id, waveform, max_difference)
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
    mark_done(stamp, made_from)
