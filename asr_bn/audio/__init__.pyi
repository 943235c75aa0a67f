from .reader import Recording as Recording
from .reader import SkippedSegment as SkippedSegment
from .reader import Waveform as Waveform
from .reader import WaveformReader as WaveformReader
from .reader import decode_audio as decode_audio
from .reader import read as read
from .reader import read_waveform as read_waveform
from .source import AudioSource as AudioSource

__all__ = [
    "AudioSource",
    "Recording",
    "SkippedSegment",
    "Waveform",
    "WaveformReader",
    "decode_audio",
    "read",
    "read_waveform",
]
