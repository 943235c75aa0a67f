"""A Kaldi data folder: ``wav.scp``, ``segments``, ``utt2spk``, ``spk2utt``, ``text``, ``utt2num_frames``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from asr_bn.kaldi_io.plain_text import parse_float, parse_int, split_words
from asr_bn.kaldi_io.rxfilename import DEFAULT_PIPES, PipePolicy
from asr_bn.kaldi_io.script_file import read_lines, read_table
from asr_bn.kaldi_io.specifiers import is_specifier, parse_rspecifier


@dataclass(frozen=True)
class Utterance:
    """One utterance and where its samples are.

    ``start`` and ``end`` are seconds into the recording, None for all of it; ``channel`` counts from 0,
    None where ``segments`` names none.
    """

    utt_id: str
    recording_id: str
    rxfilename: str
    start: float | None
    end: float | None
    speaker: str | None
    channel: int | None = None


@dataclass(frozen=True)
class DataDir:
    """A data folder's utterances, in the order of ``segments`` or, without it, of ``wav.scp``.

    ``text`` is None where there is no such file; ``root`` is where relative names in ``wav.scp`` start from.
    """

    path: Path
    root: Path | None
    utterances: Mapping[str, Utterance]
    text: dict[str, str] | None

    @classmethod
    def read(cls, path: Path, root: Path | None = None) -> "DataDir":
        """Read a data folder.

        ``root`` is the folder that relative names in ``wav.scp`` start from (default: the current folder,
        as Kaldi).

        Raises:
            OSError: no ``wav.scp`` there.
            ValueError: no utterances, an id twice, a malformed line, a segment of an unknown recording, an
                utterance without a speaker.
        """
        recordings = read_table(path / "wav.scp")
        utt2spk = read_table(path / "utt2spk") if (path / "utt2spk").exists() else None
        if (path / "segments").exists():
            utterances = _from_segments(path / "segments", recordings, utt2spk)
        else:
            utterances = {
                utt_id: Utterance(utt_id, utt_id, name, None, None, _speaker(utt2spk, utt_id, path))
                for utt_id, name in recordings.items()
            }
        if not utterances:
            raise ValueError(f"{path}: no utterances (an empty wav.scp or segments)")
        text_path = path / "text"
        text = read_table(text_path, value_needed=False) if text_path.exists() else None
        return cls(path, root, utterances, text)


def _from_segments(
    path: Path, recordings: dict[str, str], utt2spk: dict[str, str] | None
) -> dict[str, Utterance]:
    utterances: dict[str, Utterance] = {}
    for number, line in read_lines(path):
        utterance = _parse_segment(line, f"{path}, line {number}", recordings, utt2spk, path.parent)
        if utterance.utt_id in utterances:
            raise ValueError(f"{utterance.utt_id}: twice in {path} (again in line {number})")
        utterances[utterance.utt_id] = utterance
    return utterances


def _parse_segment(
    line: str, where: str, recordings: dict[str, str], utt2spk: dict[str, str] | None, folder: Path
) -> Utterance:
    words = split_words(line)
    if len(words) not in (4, 5):
        raise ValueError(f"{where}: expected 'utterance recording start end [channel]', found {line!r}")
    utt_id, recording_id = words[:2]
    try:
        start, end = parse_float(words[2]), parse_float(words[3])
        channel = parse_int(words[4]) if len(words) == 5 else None
    except ValueError as error:
        raise ValueError(f"{utt_id}: {where}: times and channel are not numbers: {words[2:]}") from error
    if recording_id not in recordings:
        raise ValueError(f"{utt_id}: {where}: recording {recording_id!r} is not in wav.scp")
    # Kaldi's extract-segments: an end of -1 is the end of the recording.
    if not start >= 0 or not (end == -1 or start < end < float("inf")):
        raise ValueError(f"{utt_id}: {where}: a segment from {start:g} to {end:g} seconds")
    return Utterance(
        utt_id,
        recording_id,
        recordings[recording_id],
        start,
        None if end == -1 else end,
        _speaker(utt2spk, utt_id, folder),
        channel,
    )


def _speaker(utt2spk: dict[str, str] | None, utt_id: str, folder: Path) -> str | None:
    if utt2spk is None:
        return None
    if utt_id not in utt2spk:
        raise ValueError(f"{utt_id}: not in {folder / 'utt2spk'}")
    return utt2spk[utt_id]


def read_spk2utt(path: Path, pipes: PipePolicy = DEFAULT_PIPES) -> dict[str, str]:
    """Read speakers by utterance from a ``spk2utt`` file, which may be named ``ark:FILE`` as in Kaldi.

    Raises:
        ValueError: an utterance of two speakers; a command, where ``pipes`` refuses them.
    """
    utt2spk: dict[str, str] = {}
    name = str(path)
    source = parse_rspecifier(name).rxfilename if is_specifier(name) else path
    for number, line in read_lines(source, pipes):
        speaker, *utt_ids = split_words(line)
        for utt_id in utt_ids:
            if utt_id in utt2spk:
                raise ValueError(f"{utt_id}: twice in {path} (again in line {number})")
            utt2spk[utt_id] = speaker
    return utt2spk


def read_utt2num_frames(path: Path) -> dict[str, int]:
    """Read Kaldi's ``utt2num_frames``; an absent file is an empty one.

    Raises:
        ValueError: a value that is not a number.
    """
    if not path.is_file():
        return {}
    counts: dict[str, int] = {}
    for utt_id, text in read_table(path).items():
        try:
            counts[utt_id] = parse_int(text)
        except ValueError as error:
            raise ValueError(f"{utt_id}: {path}: expected a number of frames, found {text[:40]!r}") from error
    return counts
