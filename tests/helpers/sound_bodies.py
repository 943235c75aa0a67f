"""Undamaged bodies of every kind that the server takes, of 0.4 s."""

import numpy as np

from tests.helpers.audio_files import encoded, sphere
from tests.helpers.serving import chirp, npy, wav

_SAMPLES = chirp(0.4)
SOUND = {
    "wav": wav(_SAMPLES),
    "wav-float": encoded("WAV", "FLOAT", _SAMPLES),
    "flac": encoded("FLAC", None, _SAMPLES),
    "ogg": encoded("OGG", "VORBIS", _SAMPLES),
    "opus": encoded("OGG", "OPUS", _SAMPLES),
    "mp3": encoded("MP3", None, _SAMPLES),
    "aiff": encoded("AIFF", None, _SAMPLES),
    "au": encoded("AU", None, _SAMPLES),
    "sphere": sphere(_SAMPLES.astype("<i2").tobytes(), sample_count=len(_SAMPLES), sample_coding="pcm"),
    "npy": npy(np.zeros((9, 41), np.float32)),
}
