"""A Kaldi data folder: ``wav.scp``, ``segments``, ``utt2spk``, ``spk2utt``, ``text``, ``utt2num_frames``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from asr_bn.kaldi_io.plain_text import parse_float, parse_int, split_words
from asr_bn.kaldi_io.rxfilename import DEFAULT_PIPES, PipePolicy
from asr_bn.kaldi_io.script_file import read_lines, read_table
from asr_bn.kaldi_io.specifiers import is_specifier, parse_rspecifier
from asr_bn.system.notes import print_note

_SHOWN = 5


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
    def read(cls, path: Path, root: Path | None = None, say: Callable[[str], None] = print_note) -> "DataDir":
        """Read a data folder.

        Lines of ``segments`` that Kaldi's ``extract-segments`` skips are left out: malformed ones, and those
        of a recording that ``wav.scp`` lacks.

        Args:
            root: where relative names in ``wav.scp`` start from (default: the current folder, as Kaldi).
            say: called with a sentence for each of the first lines left out (default: standard error).

        Raises:
            OSError: no ``wav.scp`` there.
            ValueError: no utterances, an id twice, a malformed line of another file, an utterance without a
                speaker.
        """
        recordings = read_table(path / "wav.scp")
        utt2spk = read_table(path / "utt2spk") if (path / "utt2spk").exists() else None
        if (path / "segments").exists():
            utterances = _from_segments(path / "segments", recordings, utt2spk, say)
        else:
            utterances = {
                utt_id: Utterance(utt_id, utt_id, name, None, None, _speaker(utt2spk, utt_id, path))
                for utt_id, name in recordings.items()
            }
        if not utterances:
            raise ValueError(f"{path}: no utterances (an empty wav.scp or segments, or all lines left out)")
        text_path = path / "text"
        text = read_table(text_path, value_needed=False) if text_path.exists() else None
        return cls(path, root, utterances, text)


def _from_segments(
    path: Path, recordings: dict[str, str], utt2spk: dict[str, str] | None, say: Callable[[str], None]
) -> dict[str, Utterance]:
    utterances: dict[str, Utterance] = {}
    num_left_out = 0
    for number, line in read_lines(path):
        try:
            utterance = _parse_segment(line, f"{path}, line {number}", recordings)
        except ValueError as error:
            num_left_out += 1
            if num_left_out <= _SHOWN:
                say(f"{error}; left out, as extract-segments does")
            continue
        if utterance.utt_id in utterances:
            raise ValueError(f"{utterance.utt_id}: twice in {path} (again in line {number})")
        speaker = _speaker(utt2spk, utterance.utt_id, path.parent)
        utterances[utterance.utt_id] = replace(utterance, speaker=speaker)
    if num_left_out > _SHOWN:
        say(f"{path}: {num_left_out} lines left out in all")
    return utterances


def _parse_segment(line: str, where: str, recordings: dict[str, str]) -> Utterance:
    """Parse a line of ``segments``; what Kaldi's ``featbin/extract-segments.cc`` warns of is a ValueError."""
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
    # An end of -1 is the end of the recording.
    if not start >= 0 or not (end == -1 or start < end < float("inf")):
        raise ValueError(f"{utt_id}: {where}: a segment from {start:g} to {end:g} seconds")
    if channel is not None and channel < 0:
        raise ValueError(f"{utt_id}: {where}: channel {channel} (they count from 0)")
    name, until = recordings[recording_id], None if end == -1 else end
    return Utterance(utt_id, recording_id, name, start, until, None, channel)


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
