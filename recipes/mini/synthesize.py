"""One speaker's utterances: sentences, speech at 16 kHz with low noise around it, and phone times."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr_bn.system.files import atomic_path
from recipes.mini.grammar import Grammar
from recipes.mini.phones import phone_of
from recipes.mini.speakers import Speaker

SAMPLE_FREQUENCY = 16000
SILENCE_SECONDS = 0.15  # before and after: the obligatory SIL states need frames of their own
PEAK_RANGE = (4000.0, 16000.0)  # of an utterance's loudest sample, int16 units
NOISE_RANGE = (3.0, 12.0)  # standard deviation of the added white noise, int16 units
# Shorter than half a frame shift: espeak-ng's markers and elided phonemes, which nobody hears.
MINIMUM_PHONE_SECONDS = 0.005


@dataclass(frozen=True)
class Phone:
    """A phone as the synthesizer spoke it; times in seconds from the start of the utterance's audio."""

    phone: str
    start: float
    end: float


@dataclass(frozen=True)
class SpokenUtterance:
    """What is known of one synthesized utterance besides its audio."""

    utt_id: str
    speaker_id: str
    words: list[str]
    phones: list[Phone]


def speak(speaker: Speaker, seconds: float, seed: int, wav_dir: Path) -> list[SpokenUtterance]:
    """Synthesize at least ``seconds`` of one speaker into ``wav_dir/UTT_ID.wav``.

    The same arguments give the same bytes if no other voice has spoken in the process before.
    """
    from recipes.mini.espeak import Synthesizer  # loads a C library: only the processes that speak need it

    rng = random.Random(f"{seed} {speaker.speaker_id}")
    noise = np.random.default_rng([seed, *speaker.speaker_id.encode()])
    grammar = Grammar.read()
    synthesizer = Synthesizer(speaker.voice)
    utterances: list[SpokenUtterance] = []
    remaining = round(seconds * SAMPLE_FREQUENCY)
    while remaining > 0:
        words = grammar.sentence(rng)
        speech = synthesizer.say(
            " ".join(words),
            rate=round(speaker.rate * rng.uniform(0.88, 1.12)),
            pitch=speaker.pitch + rng.randint(-12, 12),
            pitch_range=rng.randint(30, 70),
        )
        samples = room(speech.samples, speech.sample_frequency, rng.uniform(*PEAK_RANGE), noise)
        phones = [
            Phone(phone_of(p.mnemonic, speaker.accent), SILENCE_SECONDS + p.start, SILENCE_SECONDS + p.end)
            for p in speech.phonemes
            if p.end - p.start >= MINIMUM_PHONE_SECONDS
        ]
        utt_id = f"{speaker.speaker_id}-{len(utterances):04d}"
        with atomic_path(wav_dir / f"{utt_id}.wav") as temporary:
            soundfile.write(temporary, samples, SAMPLE_FREQUENCY, subtype="PCM_16", format="WAV")
        utterances.append(SpokenUtterance(utt_id, speaker.speaker_id, words, phones))
        remaining -= samples.size
    return utterances


def room(
    speech: NDArray[np.int16], sample_frequency: int, peak: float, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Resample to 16 kHz, scale to ``peak``, put silence on both sides and white noise over everything."""
    import soxr

    resampled = soxr.resample(speech.astype(np.float64), sample_frequency, SAMPLE_FREQUENCY)
    silence = np.zeros(round(SILENCE_SECONDS * SAMPLE_FREQUENCY))
    samples = np.concatenate([silence, resampled * (peak / np.abs(resampled).max()), silence])
    samples += rng.uniform(*NOISE_RANGE) * rng.standard_normal(samples.size)
    rounded: NDArray[np.int16] = np.rint(samples).clip(-32768, 32767).astype(np.int16)
    return rounded
