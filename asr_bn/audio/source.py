"""How recordings are read: one object for every place that reads them."""

from dataclasses import dataclass
from pathlib import Path

from asr_bn.kaldi_io.rxfilename import DEFAULT_PIPES, PipePolicy


@dataclass(frozen=True)
class AudioSource:
    """How recordings are read.

    Attributes:
        root: where relative names start from (default: the current folder).
        channel: of recordings with several, from 0; a channel in ``segments`` goes before it.
        resample: convert recordings of another rate than the one wanted, instead of refusing them.
        pipes: whether commands in script files are run, and how long they may take.
    """

    root: Path | None = None
    channel: int | None = None
    resample: bool = False
    pipes: PipePolicy = DEFAULT_PIPES
