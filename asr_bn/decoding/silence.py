"""How likely silence is after each word (Kaldi's ``lexiconp_silprob.txt`` and ``silprob.txt``).

Source: Chen et al. 2015, "Pronunciation and silence probability modeling for ASR"; Kaldi
``utils/dict_dir_add_pronprobs.sh``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr_bn.kaldi_io.plain_text import parse_float, split_words
from asr_bn.kaldi_io.script_file import read_lines

_BEGIN, _END_SILENCE, _END_SPEECH = "<s>", "</s>_s", "</s>_n"


@dataclass(frozen=True)
class WordSilence:
    """Of a pronunciation: the probability of silence after it, and its factors after silence and without."""

    after: float
    factor_after_silence: float
    factor_after_speech: float

    def __post_init__(self) -> None:
        factors = (self.factor_after_silence, self.factor_after_speech)
        if not 0 <= self.after <= 1 or not all(0 < factor < math.inf for factor in factors):
            raise ValueError("a probability of silence outside 0 to 1, or a factor that is not above 0")


@dataclass(frozen=True)
class SilenceProbabilities:
    """Of each pronunciation, and of the sentence.

    Attributes:
        words: in the order of the lexicon.
        begin: probability that a sentence begins with silence.
        end_factor_after_silence, end_factor_after_speech: factors of its end.
    """

    words: Sequence[WordSilence]
    begin: float
    end_factor_after_silence: float
    end_factor_after_speech: float

    @classmethod
    def read(cls, path: Path, words: Sequence[WordSilence]) -> "SilenceProbabilities":
        """Read ``silprob.txt``.

        Raises:
            OSError: no such file.
            ValueError: a line that is not a name and a number, one that is missing, or out of its range.
        """
        values: dict[str, float] = {}
        for number, line in read_lines(path):
            name, *rest = split_words(line)
            if name in values:
                raise ValueError(f"{path}, line {number}: {name} comes twice")
            try:
                (values[name],) = map(parse_float, rest)
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number}: {line[:60]!r}, expected a name and a number"
                ) from error
        missing = [name for name in (_BEGIN, _END_SILENCE, _END_SPEECH) if name not in values]
        if missing:
            raise ValueError(f"{path}: no line for {missing[0]}")
        begin, after_silence, after_speech = (values[n] for n in (_BEGIN, _END_SILENCE, _END_SPEECH))
        if not 0 <= begin <= 1 or not all(0 < factor < math.inf for factor in (after_silence, after_speech)):
            raise ValueError(f"{path}: a probability outside 0 to 1, or a factor that is not above 0")
        return cls(words, begin, after_silence, after_speech)
