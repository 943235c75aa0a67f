"""Where the files written by the real Kaldi are: small ones in the repository, others beside it."""

from pathlib import Path

import pytest

from asr_bn.audio.reader import read_waveform
from asr_bn.audio.source import AudioSource
from asr_bn.kaldi_io.script_file import read_table
from asr_bn.system.arrays import Floats

SYNTHETIC = Path(__file__).parents[1] / "fixtures" / "kaldi_synthetic"
SHARED = Path(__file__).parents[2].parent / "shared"
FSDD = SHARED / "kaldi" / "fsdd"
SPHERE = SHARED / "sphere"

needs_fsdd = pytest.mark.skipif(
    not FSDD.is_dir(), reason="no ../shared/kaldi/fsdd (its audio is never committed)"
)
needs_sphere = pytest.mark.skipif(not SPHERE.is_dir(), reason="no ../shared/sphere (sph2pipe's test files)")


def waveforms(folder: Path, wav_scp: str) -> dict[str, tuple[Floats, int]]:
    """Samples and rate of every utterance; names in the script file start from ``folder``."""
    result = {}
    for utt_id, name in read_table(folder / wav_scp).items():
        waveform = read_waveform(name, AudioSource(root=folder))
        result[utt_id] = (waveform.samples, waveform.sample_frequency)
    return result
