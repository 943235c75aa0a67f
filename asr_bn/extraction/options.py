"""What the user of ``asr-bn features`` decides and every process has to know."""

from dataclasses import dataclass
from pathlib import Path

from asr_bn.audio.source import AudioSource


@dataclass(frozen=True)
class ExtractionOptions:
    """How utterances become features, beside the filter bank.

    Attributes:
        audio: how recordings are read.
        deltas: append first and second deltas.
        compress: write Kaldi's compressed matrices.
        seed: of the dither; every utterance has a seed of its own, so their order does not matter.
        feats_scp: read static features from there instead of computing them.
    """

    audio: AudioSource = AudioSource()
    deltas: bool = False
    compress: bool = False
    seed: int = 0
    feats_scp: Path | None = None
