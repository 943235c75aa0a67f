"""Writing Kaldi data folders."""

from collections.abc import Mapping
from pathlib import Path

from asr_bn.kaldi_io.plain_text import WHITESPACE
from asr_bn.system.files import write_text


def table_text(table: Mapping[str, object]) -> str:
    """Return a line ``key value`` for each element, in the table's order."""
    return "".join(f"{key} {value}".rstrip(WHITESPACE) + "\n" for key, value in table.items())


def write_data_folder(
    folder: Path, wav_scp: Mapping[str, object], text: Mapping[str, str], utt2spk: Mapping[str, str]
) -> None:
    """Write the files of a data folder, ``wav.scp`` last: a folder that has one is complete."""
    spk2utt: dict[str, str] = {}
    for utt_id, speaker in utt2spk.items():
        spk2utt[speaker] = f"{spk2utt[speaker]} {utt_id}" if speaker in spk2utt else utt_id
    for name, table in {"text": text, "utt2spk": utt2spk, "spk2utt": spk2utt}.items():
        write_text(folder / name, table_text(table))
    write_text(folder / "wav.scp", table_text(wav_scp))
