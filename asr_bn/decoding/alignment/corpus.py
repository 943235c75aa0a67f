"""Alignment of a data folder: from audio and text to aligned utterances, whatever one of them lacks."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from asr_bn.decoding.alignment.aligner import Aligner
from asr_bn.decoding.alignment.fit import Report
from asr_bn.decoding.alignment.lexicon import Pronunciations
from asr_bn.decoding.alignment.result import AlignedUtterance
from asr_bn.kaldi_io.plain_text import split_words
from asr_bn.kaldi_io.script_file import read_table
from asr_bn.scoring.corpus import Scores, score_blocks
from asr_bn.scoring.inputs import Feats, ScoringInput, utterance_ids
from asr_bn.scoring.scorer import AcousticScorer
from asr_bn.system.arrays import Floats
from asr_bn.system.notes import print_note


@dataclass(frozen=True)
class CorpusAligner:
    """Scores and aligns data folders.

    Attributes:
        scorer: the acoustic model; its session with one thread.
        aligner: of single utterances.
        source: how audio is read.
        num_threads: calls of the model at a time.
    """

    scorer: AcousticScorer
    aligner: Aligner
    source: ScoringInput
    num_threads: int

    def align(self, data_dir: Path, report: Report) -> Iterator[AlignedUtterance]:
        """Yield the utterances that can be aligned, in the folder's order; ``report`` gets the others.

        Raises:
            OSError: the folder has no ``text``, or it cannot be read.
            ValueError: no word of the text is in the lexicon.
        """
        texts = read_texts(data_dir / "text")
        check_words(data_dir, texts, self.aligner.lexicon)
        feats, total = self.source.feats([str(data_dir)], report.fail)
        _say_unheard(data_dir, texts)
        items = self._with_text(feats, texts, report)
        scores = score_blocks(self.scorer, items, self.num_threads)
        for item in tqdm(scores, "align", total, unit="utt", delay=2):
            try:
                with _log_posteriors(item) as log_posteriors:
                    aligned = self.aligner.align(item.utt_id, texts[item.utt_id], log_posteriors)
            except ValueError as error:
                report.fail(item.utt_id, error)
                continue
            report.judge(aligned)
            yield aligned

    def _with_text(
        self, feats: Feats, texts: Mapping[str, Sequence[str]], report: Report
    ) -> Iterator[tuple[str, Floats]]:
        """Leave out utterances without words, and features that do not fit the model."""
        for utt_id, values in feats:
            try:
                if utt_id not in texts:
                    raise ValueError("it has no text")
                if not texts[utt_id]:
                    raise ValueError("its text has no words")
                if not len(values):
                    raise ValueError("it has no frames (shorter than one frame)")
                complete = self.scorer.with_deltas(values)
            except ValueError as error:
                report.fail(utt_id, error)
                continue
            yield utt_id, complete


def read_texts(path: Path) -> dict[str, list[str]]:
    """Read the words of each utterance; some may have none.

    Raises:
        OSError: no such file.
        ValueError: it is malformed, or has no utterances.
    """
    texts = {utt_id: split_words(line) for utt_id, line in read_table(path, value_needed=False).items()}
    if not texts:
        raise ValueError(f"{path}: no utterances in it")
    return texts


def check_words(data_dir: Path, texts: Mapping[str, Sequence[str]], lexicon: Pronunciations) -> None:
    """Make sure that a lexicon has some words of a folder's text, if that has any.

    Raises:
        ValueError: it has none of them.
    """
    words = {word for text in texts.values() for word in text}
    if words and not any(map(lexicon.has, words)):
        raise ValueError(
            f"{lexicon.path}: has none of the {len(words)} words of {data_dir}/text, such as {min(words)!r}"
        )


def _say_unheard(data_dir: Path, texts: Mapping[str, Sequence[str]]) -> None:
    heard = set(utterance_ids(data_dir))
    unheard = [utt_id for utt_id in texts if utt_id not in heard]
    if unheard:
        which = f"{len(unheard)} utterances of the text have no audio, such as {unheard[0]}"
        print_note(f"{data_dir}: {which}")


@contextmanager
def _log_posteriors(scores: Scores) -> Iterator[Floats]:
    """All rows; those of a long recording in a temporary file, since they are needed more than once."""
    if not scores.is_long:
        yield scores.matrix()
        return
    with tempfile.TemporaryFile() as file:
        num_pdfs = 0
        for block in scores.blocks:
            num_pdfs = block.shape[1]
            file.write(np.ascontiguousarray(block).tobytes())
        file.flush()
        yield np.memmap(file, dtype=np.float32, mode="r", shape=(scores.num_frames, num_pdfs))
