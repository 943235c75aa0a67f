"""Make the corpus: ``python -m recipes.mini.make_data OUT [--minutes 30] [--dev-minutes 4] [--seed 1]``.

It writes Kaldi data directories ``OUT/data/train`` and ``OUT/data/dev``, the audio under ``OUT/wav``, and
the dictionary and the grammar under ``OUT/data/local``.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from asr_bn.system.stamps import is_done, mark_done
from recipes.command_line import exit_status
from recipes.mini.data_dir import write_data_dir, write_dictionary
from recipes.mini.grammar import GRAMMAR_PATH, Grammar
from recipes.mini.lexicon import Pronunciation, build_lexicon, isolated_pronunciations, without_silence
from recipes.mini.sources import made_from, require
from recipes.mini.speakers import DEV_SPEAKERS, TRAIN_SPEAKERS, Speaker
from recipes.mini.synthesize import SpokenUtterance, speak


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and make the corpus; return 1 after an error, told in one line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.mini.make_data", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training speech (%(default)s)")
    parser.add_argument("--dev-minutes", type=float, default=4.0, help="of development speech (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of sentences and voices (%(default)s)")
    parser.add_argument("--num-jobs", type=int, default=min(4, os.cpu_count() or 1))
    options = vars(parser.parse_args(arguments))
    return exit_status("make_data", lambda: make_data(**options))


def make_data(out: Path, minutes: float, dev_minutes: float, seed: int, num_jobs: int = 2) -> None:
    """Synthesize and write everything, unless it is already there.

    Raises:
        ValueError: an amount of speech is not positive, or ``espeakng-loader`` is not installed.
    """
    if not (minutes > 0 and dev_minutes > 0):
        raise ValueError(f"--minutes and --dev-minutes must be positive, got {minutes:g} and {dev_minutes:g}")
    stamp = out / "data" / ".made"
    wav_dir = str((out / "wav").resolve())  # in wav.scp: data that were moved are made again
    key = made_from({"minutes": minutes, "dev_minutes": dev_minutes, "seed": seed, "wav_dir": wav_dir})
    if is_done(stamp, key, [out / "data" / name / "wav.scp" for name in ("train", "dev")]):
        return
    require("espeakng_loader")
    stamp.unlink(missing_ok=True)
    _synthesize(out, {"train": minutes, "dev": dev_minutes}, seed, num_jobs)
    mark_done(stamp, key)


def _synthesize(out: Path, minutes: dict[str, float], seed: int, num_jobs: int) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
