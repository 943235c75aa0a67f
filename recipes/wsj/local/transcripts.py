"""Transcripts of the WSJ: finding them in .dot files, and their normalization.

Source: Kaldi ``egs/wsj/s5/local/find_transcripts.pl`` and ``normalize_transcript.pl``; the marks are
described on the disks, in ``wsj0/transcrp/doc/dot_spec.doc``.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase

from tqdm import tqdm

from asr_bn.kaldi_io.plain_text import WHITESPACE, split_words

NOISE_WORD = "<NOISE>"
_DOT_NAME = re.compile(r"(\w{6})00\.dot", re.ASCII | re.IGNORECASE)
_DOT_LINE = re.compile(r"(.+)\((\w{8})\)\s*", re.ASCII)
# A noise during a neighbouring word, [<door_slam] and [door_slam>]; where one starts and ends, [noise/] and
# [/noise].
_NOISE_ELSEWHERE = re.compile(r"^\[<\w+\]$|^\[\w+>\]$|\[\w+/\]$|\[/\w+\]$", re.ASCII)
_NOISE = re.compile(r"\[\w+\]", re.ASCII)
_VERBAL_DELETION = re.compile(r"<([\w']+)>", re.ASCII)
_TRUNCATION, _PAUSE = "~", "."
# As the source's tr:a-z:A-Z:, which knows no other letters.
_UPPER = str.maketrans(ascii_lowercase, ascii_uppercase)
_SPELLINGS = {"%PERCENT": "PERCENT", ".POINT": "POINT", "--DASH": "-DASH"}


def normalize_transcript(transcript: str) -> str:
    """Return the words of a .dot transcript as CMU's dictionary spells them, noises as ``<NOISE>``.

    Verbalized punctuation such as ``,COMMA`` stays: it was read aloud.
    """
    words = (_normalize_word(word) for word in split_words(transcript))
    return " ".join(word for word in words if word is not None)


def _normalize_word(word: str) -> str | None:
    """The word as it is written into ``text``; None for a mark that stands for no word."""
    word = word.translate(_UPPER).replace("\\", "")
    word = _SPELLINGS.get(word, word)
    if word in (_TRUNCATION, _PAUSE) or _NOISE_ELSEWHERE.search(word):
        return None
    if _NOISE.search(word):
        return NOISE_WORD
    # <AND>: the prompt had it deleted, but it is spoken.
    deletion = _VERBAL_DELETION.fullmatch(word)
    return deletion[1] if deletion else word


def find_dot_files(folders: Iterable[Path]) -> dict[str, list[Path]]:
    """Find the .dot files below ``folders``, by the six characters that their utterance ids start with."""
    dot_files: dict[str, list[Path]] = {}
    walked = (entry for folder in folders for entry in _walk(folder))
    for folder, names in tqdm(walked, desc="finding .dot files", unit=" folders", leave=False):
        for name in names:
            session = _DOT_NAME.fullmatch(name)
            if session:
                dot_files.setdefault(session[1].lower(), []).append(folder / name)
    return dot_files


def _walk(top: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders and their file names, sorted; linked folders too (as ``find -L``), each but once."""
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(top, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders.sort()
        yield Path(folder), sorted(names)


def read_transcripts(utt_ids: Iterable[str], dot_files: dict[str, list[Path]]) -> dict[str, str]:
    """Read the transcript of each utterance as it stands in its .dot file.

    Raises:
        ValueError: an utterance has none, or a line of a .dot file is not a transcript and an id.
    """
    read: dict[str, dict[str, str]] = {}
    transcripts: dict[str, str] = {}
    for utt_id in utt_ids:
        session = utt_id[:6]
        if session not in dot_files:
            raise ValueError(f"{utt_id}: no {session}00.dot in the folders of the corpus")
        if session not in read:
            read[session] = {}
            for path in dot_files[session]:
                read[session].update(_read_dot_file(path))
        if utt_id not in read[session]:
            raise ValueError(f"{utt_id}: no transcript in {dot_files[session][-1]}")
        transcripts[utt_id] = read[session][utt_id]
    return transcripts


def _read_dot_file(path: Path) -> dict[str, str]:
    transcripts: dict[str, str] = {}
    # Latin-1 takes any byte; the disks hold ASCII.
    for number, line in enumerate(path.read_text(encoding="latin-1").split("\n"), 1):
        if not line.strip(WHITESPACE):
            continue
        match = _DOT_LINE.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{path}, line {number}: {line.strip(WHITESPACE)!r}, expected a transcript and (UTT_ID)"
            )
        transcripts[match[2].lower()] = match[1]
    return transcripts
