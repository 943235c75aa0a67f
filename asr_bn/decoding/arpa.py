"""Word graphs (G) from ARPA files, by ``kaldilm``, which is Kaldi's ``arpa2fst``."""

import codecs
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from asr_bn.decoding.fst_file import Fst, kaldifst
from asr_bn.kaldi_io.plain_text import parse_floats
from asr_bn.kaldi_io.rxfilename import open_input
from asr_bn.kaldi_io.utterance_id import prefix_errors

BACKOFF, BEGIN, END = "#0", "<s>", "</s>"
RESERVED = ("<eps>", BACKOFF, BEGIN, END)
"""Words that mean something else in a graph, and that Kaldi's ``validate_dict_dir.pl`` refuses too."""
_SECTION = re.compile(rb"\\([0-9]+)-grams:$")
_HEADER = re.compile(rb"\s*ngram\s+([0-9]{1,20})\s*=")
_MAX_ORDER = 100
_UNKNOWN = ("<unk>", "[unk]")
_SHOWN = 5
# kaldilm needs its own process: it hangs where another OpenFst than its own is loaded.
_PROGRAM = """
import sys, kaldilm

arpa, words, out = sys.argv[1:]
text = kaldilm.arpa2fst(input_arpa=arpa, disambig_symbol="#0", read_symbol_table=words, max_arpa_warnings=0)
open(out, "w").write(text)
"""


def arpa_fst(arpa: Path, word_ids: Mapping[str, int], lexicon: Path, say: Callable[[str], None]) -> Fst:
    """Convert an n-gram model to a transducer with ``#0`` on its backoff arcs, as ``arpa2fst`` does.

    N-grams with a word that is not in ``word_ids`` are left out, as there, and reported.

    Args:
        arpa: gzipped or not, with any line ends.
        word_ids: of the lexicon, ``#0``, ``<s>`` and ``</s>``.
        lexicon: its file, for errors.
        say: called with the remark.

    Raises:
        OSError: no such file.
        ValueError: not an ARPA file, one without ``<s>`` or ``</s>``, or none of its words is in the lexicon.
    """
    if not arpa.is_file():
        raise FileNotFoundError(2, "no such ARPA file", str(arpa))
    with tempfile.TemporaryDirectory() as folder:
        words, plain, out = (Path(folder, name) for name in ("words.txt", "arpa", "G.txt"))
        words.write_text("".join(f"{word} {number}\n" for word, number in word_ids.items()), encoding="utf-8")
        with open_input(str(arpa)) as source, plain.open("wb") as copy:
            survey = copy_arpa(source, copy, {word.encode() for word in word_ids}, arpa)
        survey.check(arpa, lexicon, say)
        command = [sys.executable, "-P", "-c", _PROGRAM, str(plain), str(words), str(out)]
        process = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        if process.returncode != 0 or not out.exists():
            reason = " ".join(process.stderr.rpartition("[E] ")[2].split())[-300:]
            raise ValueError(f"{arpa}: kaldilm cannot make a graph of it ({reason})")
        fst = kaldifst.compile(out.read_text(encoding="utf-8"))
    kaldifst.arcsort(fst, sort_type="ilabel")
    return fst


@dataclass
class Survey:
    """What an ARPA file holds: its words, those that the lexicon lacks, and how many n-grams have such.

    Attributes:
        twice: words with several unigrams, whose probabilities the graph adds, as Kaldi's does.
    """

    words: set[bytes] = field(default_factory=set)
    unknown: dict[bytes, None] = field(default_factory=dict)
    num_left_out: int = 0
    twice: dict[bytes, None] = field(default_factory=dict)

    def check(self, arpa: Path, lexicon: Path, say: Callable[[str], None]) -> None:
        """Say what is left out or strange.

        Raises:
            ValueError: there is no ``<s>`` or ``</s>``, or none of the words is in the lexicon.
        """
        if not self.words:
            return  # no ARPA file, which kaldilm says better
        for symbol, role in ((BEGIN, "begins"), (END, "ends")):
            if symbol.encode() not in self.words:
                raise ValueError(f"{arpa}: has no {symbol}, so that no sentence {role}")
        special = {symbol.encode() for symbol in (BEGIN, END)}
        ordinary = {word for word in self.words - special if word.lower().decode("latin-1") not in _UNKNOWN}
        if ordinary and ordinary <= self.unknown.keys():
            raise ValueError(f"{arpa}: none of its {len(ordinary)} words is in {lexicon}")
        if self.twice:
            words = list_words(_decoded(self.twice))
            say(f"{arpa}: several unigrams, whose probabilities add up as in Kaldi: {words}")
        if self.num_left_out:
            say(describe_left_out(arpa, "n-grams", self.num_left_out, _decoded(self.unknown)))


def describe_left_out(path: Path, what: str, number: int, words: list[str]) -> str:
    """Say how much of a word graph is left out, and for which words."""
    return f"{path}: {number} {what} left out, words not in the lexicon: {list_words(words)}"


def list_words(words: list[str]) -> str:
    """List the first words, and how many more there are."""
    rest = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + rest


def copy_arpa(source: IO[bytes], copy: IO[bytes], known: set[bytes], arpa: Path) -> Survey:
    """Copy an ARPA file without the whitespace at the ends of its lines, and survey it.

    Args:
        known: the words of the lexicon and Kaldi's own.
        arpa: its name, for errors.

    Raises:
        ValueError: what ``kaldilm`` cannot be given: a byte-order mark, an impossible order, no number where
            one should be.
    """
    survey, order = Survey(), 0
    for number, line in enumerate(map(bytes.rstrip, source), start=1):
        if line.startswith(codecs.BOM_UTF8):
            raise ValueError(f"{arpa}: begins with a byte-order mark, which Kaldi does not skip")
        copy.write(line + b"\n")
        if line.startswith(b"\\"):
            match = _SECTION.match(line)
            order = int(match[1]) if match else 0
        elif not order and (header := _HEADER.match(line)) and not 0 < int(header[1]) <= _MAX_ORDER:
            # kaldilm makes room for every order up to it, and writes before its memory for order 0.
            raise ValueError(f"{arpa}: line {number}: n-grams of order {int(header[1])}")
        elif order and line:
            probability, *words = line.split()
            # kaldilm reads up to the first odd character, as ``-0`` of ``-0,5``, and Kaldi refuses it.
            with prefix_errors(f"{arpa}: line {number}"):
                parse_floats(b" ".join([probability, *words[order:]]))
            words = words[:order]
            if order == 1:
                survey.twice.update(dict.fromkeys(word for word in words if word in survey.words))
                survey.words.update(words)
            unknown = [word for word in words if word not in known]
            survey.unknown.update(dict.fromkeys(unknown))
            survey.num_left_out += bool(unknown)
    return survey


def _decoded(words: Mapping[bytes, None]) -> list[str]:
    return [word.decode("utf-8", "replace") for word in words]
