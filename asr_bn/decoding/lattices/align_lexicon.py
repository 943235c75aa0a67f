"""Pronunciations by number, as in ``phones/align_lexicon.int`` of Kaldi's lang and graph folders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr_bn.kaldi_io.plain_text import parse_ints
from asr_bn.kaldi_io.script_file import read_lines
from asr_bn.kaldi_io.utterance_id import prefix_errors
from asr_bn.system.files import write_text

ALIGN_LEXICON = "phones/align_lexicon.int"
Phones = tuple[int, ...]


@dataclass(frozen=True)
class AlignLexicon:
    """Pronunciations by word, as numbers; those of 0 may stand between words."""

    phones_of: Mapping[int, Sequence[Phones]]

    @classmethod
    def read(cls, path: Path) -> "AlignLexicon":
        """Read lines of a word, the word again (or what it is written as) and its phones.

        Raises:
            OSError: no such file.
            ValueError: a line that is not at least three numbers.
        """
        found: dict[int, list[Phones]] = {}
        for number, line in read_lines(path):
            with prefix_errors(f"{path}, line {number}"):
                word, _, *phones = parse_ints(line.encode())
                if not phones:
                    raise ValueError(f"{line[:60]!r}, expected two words and phones")
            found.setdefault(word, []).append(tuple(phones))
        return cls(found)

    def write(self, path: Path) -> None:
        """Write the lines that :meth:`read` reads."""
        lines = (
            " ".join(map(str, [word, word, *phones]))
            for word, entries in self.phones_of.items()
            for phones in dict.fromkeys(entries)
        )
        write_text(path, "".join(f"{line}\n" for line in lines))
