"""Reference words, and the filters of references and hypotheses before errors are counted."""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr_bn.decoding.word_errors import WordErrors, count_word_errors
from asr_bn.kaldi_io.plain_text import split_words
from asr_bn.kaldi_io.script_file import read_table
from asr_bn.scoring.inputs import utterance_ids
from asr_bn.system.notes import print_note

Words = Mapping[str, Sequence[str]]
_BOTH, _REFERENCES, _HYPOTHESES = "wer_output_filter", "wer_ref_filter", "wer_hyp_filter"


@dataclass(frozen=True)
class WerFilter:
    """Programs that leave words out or respell them before they are counted, as Kaldi's scoring has them.

    Each gets lines of utterance id and words and writes what is to be counted.

    Attributes:
        references, hypotheses: their files; None changes nothing.

    Source: Kaldi ``egs/wsj/s5/steps/scoring/score_kaldi_wer.sh``.
    """

    references: Path | None = None
    hypotheses: Path | None = None

    @classmethod
    def find(cls, path: Path | None) -> "WerFilter":
        """Use a file for both; or of a folder such as ``local`` ``wer_ref_filter`` and ``wer_hyp_filter``.

        None filters nothing. In a folder ``wer_output_filter`` takes the place of a missing one.

        Raises:
            OSError: no such file, or none of them in the folder.
        """
        if path is None:
            return cls()
        if path.is_dir():
            both = path / _BOTH
            found = [_first_file(path / name, both) for name in (_REFERENCES, _HYPOTHESES)]
            if not any(found):
                raise FileNotFoundError(2, f"no {_BOTH}, {_REFERENCES} or {_HYPOTHESES} there", str(path))
            return cls(*found)
        if not path.is_file():
            raise FileNotFoundError(2, "no such filter", str(path))
        return cls(path, path)

    @property
    def files(self) -> list[Path]:
        """The files there are."""
        return [path for path in (self.references, self.hypotheses) if path is not None]


NO_FILTER = WerFilter()


@dataclass(frozen=True)
class References:
    """Words by utterance, filtered, and the filter for what is compared with them."""

    words: Words
    wer_filter: WerFilter = NO_FILTER

    @classmethod
    def read(
        cls, data_dir: Path, utt_ids: Sequence[str], wer_filter: WerFilter = NO_FILTER
    ) -> "References | None":
        """Read ``data_dir/text``; None where there is no such file.

        Args:
            utt_ids: of the utterances that are to be compared with it.

        Raises:
            ValueError: it has none of them; a filter fails.
        """
        path = data_dir / "text"
        if not path.exists():
            return None
        words = {u: split_words(line) for u, line in read_table(path, value_needed=False).items()}
        if not any(utt_id in words for utt_id in utt_ids):
            raise ValueError(f"{path}: has none of the {len(utt_ids)} utterances of {data_dir}")
        return cls(run_filter(wer_filter.references, words), wer_filter)

    def errors(self, hypotheses: Words) -> WordErrors:
        """Filter hypotheses and count their errors; see `count_errors`."""
        return count_errors(self.words, run_filter(self.wer_filter.hypotheses, hypotheses))


@dataclass(frozen=True)
class TuningData:
    """Where acoustic scale and word penalty are chosen."""

    folder: Path
    references: References

    @classmethod
    def read(cls, folder: Path, wer_filter: WerFilter = NO_FILTER) -> "TuningData":
        """Read the text of a data folder.

        Raises:
            ValueError: it has none, or one of other utterances.
        """
        references = References.read(folder, utterance_ids(folder), wer_filter)
        if references is None:
            raise ValueError(f"{folder}: has no text to tune the acoustic scale with")
        return cls(folder, references)


def count_errors(references: Words, hypotheses: Words) -> WordErrors:
    """Count errors over the utterances in both, as ``compute-wer --mode=present`` does.

    Raises:
        ValueError: none is in both.
    """
    common = [utt_id for utt_id in references if utt_id in hypotheses]
    if not common:
        raise ValueError("no decoded utterance is in the reference text")
    counts = (count_word_errors(references[utt_id], hypotheses[utt_id]) for utt_id in common)
    return sum(counts, WordErrors(num_absent=len(references) - len(common)))


def run_filter(path: Path | None, words: Words) -> Words:
    """Run the filter ``path`` on ``words``; a file that is not executable and has no ``#!`` is a sed script.

    Raises:
        ValueError: it fails (its standard error is in the message), writes what is not UTF-8, or changes
            utterance ids.  Of those that it leaves out the number is printed.
    """
    if path is None:
        return words
    filtered = _run(path, words)
    strange = sorted(filtered.keys() - words.keys())
    if strange or (words and not filtered):
        found = f"{strange[0]!r} is none" if strange else "none is left"
        raise ValueError(f"{path}: the filter changes utterance ids: {found}")
    if num_lost := len(words) - len(filtered):
        print_note(f"{path}: leaves out {num_lost} of {len(words)} utterances")
    return filtered


def _run(path: Path, words: Words) -> Words:
    lines = "".join(f"{' '.join([utt_id, *rest])}\n" for utt_id, rest in words.items())
    try:
        done = subprocess.run(
            [*_interpreter(path), str(path.absolute())],
            input=lines.encode(),
            capture_output=True,
            check=False,
            env=os.environ | {"LC_ALL": "C"},  # as Kaldi's path.sh
        )
        done.check_returncode()
        table = [[word.decode() for word in line.split()] for line in done.stdout.split(b"\n")]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be used as a filter of words ({error})") from error
    except subprocess.CalledProcessError as error:
        reason = " ".join(done.stderr.decode("utf-8", "replace").split())[-300:]
        raise ValueError(f"{path}: the filter failed with exit code {done.returncode}: {reason}") from error
    return {utt_id: rest for utt_id, *rest in filter(None, table)}


def _interpreter(path: Path) -> list[str]:
    """Choose the program that runs ``path``.

    Kaldi's filters begin with ``#!/bin/sed -f`` or ``#!/usr/bin/env sed -f``: the first is not everywhere,
    and Linux hands ``env`` the second as one word.
    """
    with path.open("rb") as stream:
        first = stream.readline(200).decode("utf-8", "replace")
    if not first.startswith("#!"):
        return ["/bin/sh", "-c", '"$0"'] if os.access(path, os.X_OK) else ["sed", "-f"]
    program, *options = shlex.split(first[2:]) or ["/bin/sh"]
    if Path(program).name == "env":
        program, *options = [word for word in options if word != "-S"] or ["env"]
    return [program if Path(program).exists() else Path(program).name, *options]


def _first_file(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)
