"""A data folder for GMM training: features, and words as numbers of the lexicon."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from asr_bn.audio.reader import WaveformReader
from asr_bn.audio.source import AudioSource
from asr_bn.decoding.alignment.corpus import check_words, read_texts
from asr_bn.decoding.alignment.lexicon import Pronunciations
from asr_bn.features.deltas import add_deltas
from asr_bn.gmm.mfcc import cepstra, mel_options, normalize_speakers
from asr_bn.kaldi_io.data_dir import DataDir
from asr_bn.scoring.inputs import ScoringInput
from asr_bn.system.arrays import Floats
from asr_bn.system.notes import print_note

_SHOWN = 5


@dataclass(frozen=True)
class GmmCorpus:
    """Utterances with audio and text.

    Attributes:
        path: the data folder.
        words: numbers of the lexicon.
        feats: MFCC with deltas, normalized over each speaker, ``[num_frames, 39]``.
        failed: why others are left out.
    """

    path: Path
    words: dict[str, list[int]]
    feats: dict[str, Floats]
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def num_frames(self) -> int:
        """Frames of all utterances."""
        return sum(map(len, self.feats.values()))

    @classmethod
    def read(cls, path: Path, lexicon: Pronunciations, audio: AudioSource) -> "GmmCorpus":
        """Read a folder with ``wav.scp`` and ``text``, and say which words have no pronunciation.

        Raises:
            OSError: a file is missing.
            ValueError: a malformed table, no utterance with audio and words, or a text with none of the
                lexicon's words.
        """
        utterances = DataDir.read(path, audio.root).utterances
        texts = read_texts(path / "text")
        _say_unknown(path, texts, lexicon)
        corpus = cls(path, {}, {})
        corpus._check_text(list(utterances), texts, lexicon)
        rate = float(WaveformReader(audio).read(next(iter(utterances.values()))).sample_frequency)
        source = ScoringInput(mel_options(rate), audio)
        feats, total = source.feats([str(path)], lambda utt_id, error: corpus._fail(utt_id, error))
        found: dict[str, Floats] = {}
        for utt_id, log_mel in tqdm(feats, f"MFCC of {path.name}", total, unit="utt", delay=2):
            if not len(log_mel):
                corpus._fail(utt_id, ValueError("it has no frames (shorter than one frame)"))
            elif utt_id in corpus.words:
                found[utt_id] = add_deltas(cepstra(log_mel))
        speakers = {utt_id: utterances[utt_id].speaker or utt_id for utt_id in found}
        corpus.feats.update(normalize_speakers(found, speakers))
        for utt_id in corpus.words.keys() - found.keys():
            del corpus.words[utt_id]
        if not found:
            raise ValueError(f"{path}: no utterance has audio and words of the lexicon: {corpus._reason()}")
        return corpus

    def _fail(self, utt_id: str, error: Exception) -> None:
        self.failed[utt_id] = " ".join(str(error).removeprefix(f"{utt_id}: ").split())

    def _reason(self) -> str:
        return " ".join(next(iter(self.failed.items()), ("no audio",)))

    def _check_text(
        self, utt_ids: Sequence[str], texts: Mapping[str, list[str]], lexicon: Pronunciations
    ) -> None:
        """Number the words; utterances without any, or with one that has no pronunciation, fail."""
        for utt_id in utt_ids:
            try:
                if not texts.get(utt_id):
                    raise ValueError("its text has no words" if utt_id in texts else "it has no text")
                self.words[utt_id] = lexicon.numbers(texts[utt_id])
            except ValueError as error:
                self._fail(utt_id, error)


def _say_unknown(path: Path, texts: Mapping[str, Sequence[str]], lexicon: Pronunciations) -> None:
    """Name the words without a pronunciation, and how often each is spoken."""
    words = Counter(word for text in texts.values() for word in text)
    if not words:
        raise ValueError(f"{path}/text: has no words")
    check_words(path, texts, lexicon)
    unknown = Counter({word: count for word, count in words.items() if not lexicon.has(word)})
    if unknown:
        names = ", ".join(f"{word} ({count})" for word, count in unknown.most_common(_SHOWN))
        fate = (
            "their utterances are left out; --oov names a word that stands for them"
            if lexicon.oov_word is None
            else f"they are taken for {lexicon.oov_word}"
        )
        more = " ..." if len(unknown) > _SHOWN else ""
        which = f"{len(unknown)} words of its text ({unknown.total()} spoken) have no pronunciation"
        print_note(f"{path}: {which}: {names}{more}; {fate}")
