"""Writing the corpus as Kaldi keeps data: a data directory, a dictionary, and the oracle's phone times."""

from collections.abc import Sequence
from pathlib import Path

from asr_bn.kaldi_io.phone_table import read_phone_names
from asr_bn.kaldi_io.plain_text import parse_float, split_words
from asr_bn.kaldi_io.script_file import read_lines
from asr_bn.system.files import write_text
from recipes.data_folder import write_data_folder
from recipes.mini.lexicon import Lexicon
from recipes.mini.phones import SILENCE, all_phones
from recipes.mini.synthesize import SpokenUtterance

ORACLE = "phones.ctm"


def write_data_dir(path: Path, utterances: Sequence[SpokenUtterance], wav_dir: Path) -> None:
    """Write ``wav.scp`` (absolute paths), ``text``, ``utt2spk``, ``spk2utt`` and the oracle ``phones.ctm``.

    ``phones.ctm`` has a line ``utt_id 1 start duration phone`` for each phone that was spoken, seconds.
    All are sorted by utterance id, as Kaldi's ``validate_data_dir.sh`` wants.
    """
    ordered = sorted(utterances, key=lambda utterance: utterance.utt_id)
    wav_dir = wav_dir.resolve()
    ctm = [
        f"{utterance.utt_id} 1 {phone.start:.5f} {phone.end - phone.start:.5f} {phone.phone}"
        for utterance in ordered
        for phone in utterance.phones
    ]
    _write_lines(path / ORACLE, ctm)
    write_data_folder(
        path,
        {u.utt_id: f"{wav_dir / u.utt_id}.wav" for u in ordered},
        {u.utt_id: " ".join(u.words) for u in ordered},
        {u.utt_id: u.speaker_id for u in ordered},
    )


def write_dictionary(path: Path, lexicon: Lexicon) -> None:
    """Write what ``prepare_lang.sh`` wants, and the symbol tables ``phones.txt`` and ``words.txt``."""
    entries = lexicon.entries()
    phones = all_phones()
    _write_lines(path / "lexicon.txt", [f"{word} {' '.join(phones)}" for word, _, phones in entries])
    _write_lines(
        path / "lexiconp.txt", [f"{word} {prob:.4f} {' '.join(phones)}" for word, prob, phones in entries]
    )
    _write_lines(path / "silence_phones.txt", [SILENCE])
    _write_lines(path / "optional_silence.txt", [SILENCE])
    _write_lines(path / "nonsilence_phones.txt", phones[1:])
    words = sorted({word for word, _, _ in entries})
    for name, symbols in (("phones.txt", phones), ("words.txt", words)):
        _write_lines(path / name, [f"{symbol} {index}" for index, symbol in enumerate(["<eps>", *symbols])])


def read_symbol_table(path: Path) -> dict[str, int]:
    """Read OpenFst's text form."""
    return {symbol: index for index, symbol in read_phone_names(path).items()}


def read_lexiconp(path: Path) -> list[tuple[str, float, tuple[str, ...]]]:
    """Read ``word probability phones...`` lines."""
    fields = [split_words(line) for _, line in read_lines(path)]
    return [(word, parse_float(probability), tuple(phones)) for word, probability, *phones in fields]


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    write_text(path, "".join(f"{line}\n" for line in lines))
