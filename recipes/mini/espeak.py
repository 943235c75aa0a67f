"""espeak-ng through ctypes: speech and the time of each phoneme.

The library comes in the wheel ``espeakng-loader``.  It keeps state from one sentence to the next (the phase
of its noise and flutter), so equal bytes need equal histories: use one process for each speaker.
"""

import ctypes
from dataclasses import dataclass
from itertools import count

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

# speak_lib.h of espeak-ng 1.52
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_PHONEME_EVENTS = 1
_CHARS_UTF8 = 1
_PARAMETER_RATE, _PARAMETER_PITCH, _PARAMETER_RANGE = 1, 3, 4
_EVENT_LIST_TERMINATED, _EVENT_PHONEME = 0, 7
_SEPARATE_WITH_SPACES = ord(" ") << 8
_RANDOM_SEED = 1


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),  # a union; phonemes have their name here
    ]


_SynthCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Phoneme:
    """An espeak-ng phoneme (its mnemonic) and where it starts and ends, in seconds."""

    mnemonic: str
    start: float
    end: float


@dataclass(frozen=True)
class Speech:
    """What the synthesizer said: int16 samples at its own rate, and its phonemes, pauses included."""

    samples: NDArray[np.int16]
    sample_frequency: int
    phonemes: list[Phoneme]


class Synthesizer:
    """espeak-ng with one voice.  The library is global: use one of these in a process."""

    def __init__(self, voice: str) -> None:
        """Load the library and choose ``voice``, such as ``en-us+f2``.

        Raises:
            OSError: the library or its data cannot be loaded.
            ValueError: there is no such voice.
        """
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._samples: list[NDArray[np.int16]] = []
        self._events: list[tuple[int, str]] = []
        data_path = espeakng_loader.get_data_path()
        self.sample_frequency = self._library.espeak_Initialize(
            _AUDIO_OUTPUT_SYNCHRONOUS, 0, data_path.encode(), _INITIALIZE_PHONEME_EVENTS
        )
        if self.sample_frequency <= 0:
            raise OSError(f"espeak-ng cannot load its data from {data_path}")
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice}")
        self._callback = _SynthCallback(self._receive)  # kept: the library holds only a bare pointer
        self._library.espeak_SetSynthCallback(self._callback)

    def say(self, text: str, rate: int, pitch: int, pitch_range: int) -> Speech:
        """Speak ``text``: ``rate`` in words a minute, ``pitch`` and ``pitch_range`` from 0 to 100."""
        self._samples.clear()
        self._events.clear()
        self._library.espeak_ng_SetRandSeed(_RANDOM_SEED)  # otherwise the time of day
        self._library.espeak_SetParameter(_PARAMETER_RATE, rate, 0)
        self._library.espeak_SetParameter(_PARAMETER_PITCH, pitch, 0)
        self._library.espeak_SetParameter(_PARAMETER_RANGE, pitch_range, 0)
        data = text.encode() + b"\0"
        status = self._library.espeak_Synth(data, len(data), 0, 1, 0, _CHARS_UTF8, None, None)
        if status != 0 or not self._samples:
            raise ValueError(f"espeak-ng cannot speak {text!r} (status {status})")
        samples = np.concatenate(self._samples)
        return Speech(samples, self.sample_frequency, self._phonemes(samples.size))

    def pronounce(self, word: str) -> list[str]:
        """Return the phoneme mnemonics of a word spoken alone."""
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        pointer = ctypes.c_char_p(word.encode())
        names: bytes = self._library.espeak_TextToPhonemes(
            ctypes.byref(pointer), _CHARS_UTF8, _SEPARATE_WITH_SPACES
        )
        return names.decode().split()

    def _receive(
        self, samples: "ctypes._Pointer[ctypes.c_short]", num_samples: int, events: "ctypes._Pointer[_Event]"
    ) -> int:
        if num_samples > 0:
            self._samples.append(np.ctypeslib.as_array(samples, (num_samples,)).copy())
        for event in map(events.__getitem__, count()):
            if event.type == _EVENT_LIST_TERMINATED:
                break
            if event.type == _EVENT_PHONEME:
                self._events.append((event.sample, event.id.decode()))
        return 0

    def _phonemes(self, num_samples: int) -> list[Phoneme]:
        starts = [start for start, _ in self._events]
        ends = [*starts[1:], num_samples]
        frequency = self.sample_frequency
        return [
            Phoneme(mnemonic, start / frequency, end / frequency)
            for (start, mnemonic), end in zip(self._events, ends, strict=True)
        ]
