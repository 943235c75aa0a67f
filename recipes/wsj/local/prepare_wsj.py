"""Kaldi data folders of the WSJ disks: ``python -m recipes.wsj.local.prepare_wsj WSJ0_DIR WSJ1_DIR OUT_DIR``.

WSJ0_DIR and WSJ1_DIR hold LDC's disks (11-1.1 ... and 13-1.1 ..., also one or two folders further down), or a
folder wsj0 or wsj1 into which they were merged; they may be the same folder.  OUT_DIR gets train_si284
and test_dev93.  Source: Kaldi ``egs/wsj/s5/local/wsj_data_prep.sh``.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr_bn.kaldi_io.plain_text import WHITESPACE, split_words
from asr_bn.system.files import write_text
from recipes.command_line import exit_status
from recipes.data_folder import table_text, write_data_folder
from recipes.wsj.local.disks import Part
from recipes.wsj.local.transcripts import find_dot_files, normalize_transcript, read_transcripts

_INDEX_LINE = re.compile(r"([0-9_]+):\s*(\S+)", re.ASCII)
_AUDIO_NAME = re.compile(r"(\w{8})\.wv1", re.ASCII | re.IGNORECASE)
# Kaldi leaves this speaker's 98 utterances out.
_EXCLUDED = "wsj0/si_tr_s/401"


Name = tuple[str, str]
"""Disk and name of a file, as index files have them; the name's first four characters are the part."""
DATA_SETS: dict[str, tuple[Name, ...]] = {
    "train_si284": (
        ("13_34_1", "wsj1/doc/indices/si_tr_s.ndx"),
        ("11_13_1", "wsj0/doc/indices/train/tr_s_wv1.ndx"),
    ),
    # The 20,000 word development set, no verbalized punctuation: 503 utterances.
    "test_dev93": (("13_34_1", "wsj1/doc/indices/h1_p0.ndx"),),
}
SPEAKER_INFO: tuple[Name, ...] = (
    ("11_13_1", "wsj0/doc/spkrinfo.txt"),
    ("13_32_1", "wsj1/doc/evl_spok/spkrinfo.txt"),
    ("13_34_1", "wsj1/doc/dev_spok/spkrinfo.txt"),
    ("13_34_1", "wsj1/doc/train/spkrinfo.txt"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and prepare; return 1 after an error, told in one line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.wsj.local.prepare_wsj", description=__doc__)
    parser.add_argument("wsj0_dir", type=Path, metavar="WSJ0_DIR", help="LDC93S6A or LDC93S6B")
    parser.add_argument("wsj1_dir", type=Path, metavar="WSJ1_DIR", help="LDC94S13A or LDC94S13B")
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="such as data")
    parser.add_argument(
        "--spkrinfo",
        type=Path,
        metavar="FILE",
        help="LDC's wsj0-train-spkrinfo.txt, which the disks lack, for spk2gender",
    )
    options = vars(parser.parse_args(arguments))
    return exit_status("prepare_wsj", lambda: prepare(**options))


def prepare(wsj0_dir: Path, wsj1_dir: Path, out_dir: Path, spkrinfo: Path | None = None) -> None:
    """Write ``out_dir/train_si284`` and ``out_dir/test_dev93``.

    Raises:
        ValueError: a disk, an index, an audio file or a transcript is missing, a line is malformed, or a
            folder of another origin, such as Kaldi's, would be overwritten.
        OSError: a file cannot be read or written.
    """
    parts = {"wsj0": Part.find("wsj0", wsj0_dir), "wsj1": Part.find("wsj1", wsj1_dir)}
    audio = {name: find_audio(indices, parts) for name, indices in DATA_SETS.items()}
    dot_files = find_dot_files(dict.fromkeys(folder for part in parts.values() for folder in part.folders()))
    genders = read_genders(parts, spkrinfo)
    text = {name: read_transcripts(paths, dot_files) for name, paths in audio.items()}
    for name, paths in audio.items():
        refuse_other(out_dir / name / "wav.scp", paths)
    for name, paths in audio.items():
        write_data_dir(out_dir / name, paths, text[name], genders)


def find_audio(indices: Sequence[Name], parts: dict[str, Part]) -> dict[str, Path]:
    """Find the .wv1 file of each utterance that the indices list, sorted by utterance id.

    Raises:
        ValueError: a file is missing, an id is there twice, or a line is malformed.
    """
    audio: dict[str, Path] = {}
    for index in indices:
        part = parts[index[1][:4]]
        for disk_id, filename in read_index(part.file(*index)):
            if filename.startswith(_EXCLUDED):
                continue
            path = part.file(disk_id, filename)
            name = _AUDIO_NAME.fullmatch(path.name)
            if name is None:
                raise ValueError(f"{path}: not the name of an utterance, expected eight characters and .wv1")
            utt_id = name[1].lower()
            if utt_id in audio:
                raise ValueError(f"{utt_id}: twice, in {audio[utt_id]} and {path}")
            audio[utt_id] = path
    return dict(sorted(audio.items()))


def read_index(path: Path) -> Iterator[tuple[str, str]]:
    """Read disk ids, such as ``11_1_1``, and file names of an .ndx file (Kaldi's ``ndx2flist.pl``).

    Raises:
        ValueError: a line is neither a comment nor ``DISK_ID: FILENAME``.
    """
    for number, line in enumerate(path.read_text(encoding="latin-1").split("\n"), 1):
        if not line.strip(WHITESPACE) or line.startswith(";"):
            continue
        match = _INDEX_LINE.fullmatch(line.strip(WHITESPACE))
        if match is None:
            raise ValueError(f"{path}, line {number}: {line.strip(WHITESPACE)!r}, expected DISK_ID: FILENAME")
        yield match[1], match[2].lstrip("/")


def read_genders(parts: dict[str, Part], spkrinfo: Path | None) -> dict[str, str]:
    """Read ``m`` or ``f`` of each speaker from those spkrinfo.txt that are there, and from ``spkrinfo``."""
    found = [parts[name[1][:4]].file_if_there(*name) for name in SPEAKER_INFO]
    paths = [path for path in (*found, spkrinfo) if path is not None]
    genders: dict[str, str] = {}
    for path in paths:
        for line in path.read_text(encoding="latin-1").lower().split("\n"):
            columns = split_words(line)
            if len(columns) >= 2 and not line.startswith(";") and columns[1] in ("m", "f"):
                genders[columns[0]] = columns[1]
    return genders


def refuse_other(path: Path, audio: dict[str, Path]) -> None:
    """Refuse to go on if the ``wav.scp`` at ``path`` is not what would be written there.

    Kaldi's calls sph2pipe, without which Kaldi's own programs cannot read the audio.

    Raises:
        ValueError: it differs.
    """
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") != table_text(audio):
        raise ValueError(f"{path}: there already, with other contents; remove it or choose another OUT_DIR")


def write_data_dir(
    folder: Path, audio: dict[str, Path], text: dict[str, str], genders: dict[str, str]
) -> None:
    """Write a Kaldi data folder; ``wav.scp`` last, so that a folder that has one is complete.

    ``spk2gender`` is written only if every speaker's is known.
    """
    utt2spk = {utt_id: utt_id[:3] for utt_id in audio}
    speakers = dict.fromkeys(utt2spk.values())
    unknown = [speaker for speaker in speakers if speaker not in genders]
    if not unknown:
        spk2gender = {speaker: genders[speaker] for speaker in speakers}
        write_text(folder / "spk2gender", table_text(spk2gender))
    else:
        # One of an earlier run would no longer fit.
        (folder / "spk2gender").unlink(missing_ok=True)
    normalized = {utt_id: normalize_transcript(transcript) for utt_id, transcript in text.items()}
    write_data_folder(folder, audio, normalized, utt2spk)
    note = f"; no spk2gender: {len(unknown)} speakers are in no spkrinfo.txt (--spkrinfo)" if unknown else ""
    print(f"{folder}: {len(audio)} utterances, {len(speakers)} speakers{note}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
