"""The whole corpus: every speaker's utterances, and the lexicon heard in them."""

import multiprocessing
import shutil
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from recipes.mini.data_dir import write_data_dir, write_dictionary
from recipes.mini.grammar import GRAMMAR_PATH, Grammar
from recipes.mini.lexicon import Pronunciation, build_lexicon, isolated_pronunciations, without_silence
from recipes.mini.speakers import DEV_SPEAKERS, TRAIN_SPEAKERS, Speaker
from recipes.mini.synthesize import SpokenUtterance, speak


def synthesize_corpus(out: Path, minutes: dict[str, float], seed: int, num_jobs: int) -> None:
    """Write audio, data folders, dictionary and grammar below ``out``; ``minutes`` are those of each set."""
    shutil.rmtree(out / "wav", ignore_errors=True)  # of an earlier run with other options
    sets = {"train": TRAIN_SPEAKERS, "dev": DEV_SPEAKERS}
    tasks = [
        (speaker, 60.0 * minutes[name] / len(speakers), seed, out / "wav" / name)
        for name, speakers in sets.items()
        for speaker in speakers
    ]
    accents = {speaker.speaker_id: speaker.accent for speakers in sets.values() for speaker in speakers}
    utterances, alone = _run(tasks, sorted(set(accents.values())), Grammar.read().vocabulary(), num_jobs)
    for name, speakers in sets.items():
        spoken = [utterance for speaker in speakers for utterance in utterances[speaker.speaker_id]]
        write_data_dir(out / "data" / name, spoken, out / "wav" / name)
    lexicon = build_lexicon(
        alone.values(),
        (
            (u.words, without_silence(phone.phone for phone in u.phones), alone[speaker.accent])
            for speaker in TRAIN_SPEAKERS
            for u in utterances[speaker.speaker_id]
        ),
    )
    write_dictionary(out / "data" / "local", lexicon)
    shutil.copyfile(GRAMMAR_PATH, out / "data" / "local" / GRAMMAR_PATH.name)


def _run(
    tasks: Sequence[tuple[Speaker, float, int, Path]],
    accents: Sequence[str],
    words: Sequence[str],
    num_jobs: int,
) -> tuple[dict[str, list[SpokenUtterance]], dict[str, dict[str, Pronunciation]]]:
    """Run each speaker in a new process (see ``espeak.py``).

    Returns the utterances of each speaker, and for each accent its pronunciations of the words alone.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(num_jobs, maxtasksperchild=1) as pool:
        alone = {accent: pool.apply_async(isolated_pronunciations, (accent, words)) for accent in accents}
        spoken = [pool.apply_async(speak, task) for task in tasks]
        utterances = {
            task[0].speaker_id: result.get()
            for task, result in zip(tasks, tqdm(spoken, desc="synthesis", unit="speaker"), strict=True)
        }
        return utterances, {accent: result.get() for accent, result in alone.items()}
