"""A corpus whose phones are tones in noise, at known times: a GMM system finds them in seconds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16000
# Two partials of each phone, in Hz.
TONES = {
    "A": (300, 900),
    "E": (500, 1800),
    "I": (250, 2600),
    "M": (200, 1200),
    "S": (3500, 5200),
    "T": (1500, 4200),
}
LEXICON = {"mat": "M A T", "sit": "S I T", "set": "S E T", "team": "T I M", "same": "S E M", "at": "A T"}
Span = tuple[str, float]
"""A phone, and when it begins in seconds."""


def write_tone_corpus(folder: Path, num_utterances: int = 40, seed: int = 0) -> dict[str, list[Span]]:
    """Write ``data`` and ``dict``; return what is spoken when, without silence."""
    rng = np.random.default_rng(seed)
    spoken, texts = {}, {}
    for number in range(num_utterances):
        utt_id = f"s{2 * number // num_utterances}-{number:02d}"
        texts[utt_id] = " ".join(rng.choice(list(LEXICON), size=3))
        phones = [phone for word in texts[utt_id].split() for phone in LEXICON[word].split()]
        samples, spoken[utt_id] = _speak(phones, rng)
        (folder / "wav").mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"wav/{utt_id}.wav", samples, RATE, subtype="PCM_16")
    write_tables(folder / "data", {utt_id: folder / f"wav/{utt_id}.wav" for utt_id in spoken}, texts)
    write_dict(folder / "dict")
    return spoken


def write_tables(data: Path, audio: dict[str, Path], texts: dict[str, str]) -> None:
    """Write a data folder."""
    data.mkdir(exist_ok=True)
    (data / "wav.scp").write_text("".join(f"{utt_id} {path}\n" for utt_id, path in audio.items()))
    (data / "text").write_text("".join(f"{utt_id} {words}\n" for utt_id, words in texts.items()))
    (data / "utt2spk").write_text("".join(f"{utt_id} {utt_id[:2]}\n" for utt_id in audio))


def write_dict(folder: Path) -> None:
    """Write a dictionary folder without ``phones.txt``."""
    folder.mkdir()
    (folder / "lexicon.txt").write_text("".join(f"{word} {phones}\n" for word, phones in LEXICON.items()))
    (folder / "silence_phones.txt").write_text("SIL\n")
    (folder / "optional_silence.txt").write_text("SIL\n")
    (folder / "nonsilence_phones.txt").write_text("".join(f"{phone}\n" for phone in TONES))


def _speak(phones: Sequence[str], rng: np.random.Generator) -> tuple[NDArray[np.float64], list[Span]]:
    silence = np.zeros(round(0.2 * RATE))
    pieces, begins = [silence], []
    for phone in phones:
        begins.append((phone, sum(map(len, pieces)) / RATE))
        times = np.arange(round(rng.uniform(0.08, 0.16) * RATE)) / RATE
        partials = [np.sin(2 * np.pi * rng.normal(f, 0.02 * f) * times) for f in TONES[phone]]
        pieces.append(0.1 * np.sum(partials, axis=0))
    samples = np.concatenate([*pieces, silence])
    return samples + 0.02 * rng.standard_normal(len(samples)), begins
