"""``asr-bn cmvn``: Kaldi's CMVN statistics of features."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from asr_bn.cli import options


def cmvn(
    feats: Annotated[str, typer.Argument(help="Features: feats.scp or a Kaldi rspecifier.")],
    out: Annotated[str, typer.Argument(help="Kaldi wspecifier, such as ark,scp:cmvn.ark,cmvn.scp.")],
    spk2utt: Annotated[Path | None, typer.Option(help="Statistics of each speaker [each utterance].")] = None,
    whole: Annotated[
        bool, typer.Option("--global", help="Statistics of everything, under the id 'global'.")
    ] = False,
    root: options.Root = None,
    no_pipes: options.NoPipes = False,
    pipe_timeout: options.PipeTimeout = options.PIPE_TIMEOUT_S,
) -> None:
    """Write CMVN statistics, as compute-cmvn-stats does."""
    from tqdm import tqdm

    from asr_bn.features.cmvn import compute_stats
    from asr_bn.kaldi_io.data_dir import read_spk2utt
    from asr_bn.kaldi_io.matrix_table import MatrixWriter, read_matrices

    if whole and spk2utt is not None:
        raise ValueError("--global and --spk2utt: give one of them")
    pipes = options.pipe_policy(no_pipes, pipe_timeout)
    groups = _Everything() if whole else None if spk2utt is None else read_spk2utt(spk2utt, pipes)
    matrices = read_matrices(feats, root, pipes)
    with MatrixWriter(out) as writer:
        stats = compute_stats(tqdm(matrices, desc="cmvn", unit="utt", delay=2.0), groups)
        if not stats:
            raise ValueError(f"{feats}: no frames to make statistics of")
        for key, matrix in stats.items():
            writer.write(key, matrix)
    print(f"{out}: {len(stats)} statistics", file=sys.stderr)


class _Everything(dict[str, str]):
    """A ``spk2utt`` that gives every utterance the same speaker."""

    def __contains__(self, utt_id: object) -> bool:
        return True

    def __missing__(self, utt_id: str) -> str:
        from asr_bn.features.cmvn import GLOBAL

        return GLOBAL
