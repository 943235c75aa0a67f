"""What tests of forced alignment share: lexicons and aligners of the fixtures' systems."""

from pathlib import Path

import numpy as np

from asr_bn.data.kaldi_system import KaldiSystem
from asr_bn.decoding.alignment.aligner import Aligner, AlignOptions
from asr_bn.decoding.alignment.hmm_graph import HmmGraph
from asr_bn.decoding.alignment.lexicon import Pronunciations
from asr_bn.decoding.alignment.word_graph import word_graph

EXACT = AlignOptions(acoustic_scale=1.0, prior_scale=0.0, beam=1e6, retry_beam=1e6)


def dict_dir(folder: Path, lexicon: str) -> Path:
    """Make a folder as Kaldi's ``data/local/dict``, with SIL between words."""
    folder.mkdir()
    (folder / "lexiconp.txt").write_text(lexicon)
    (folder / "optional_silence.txt").write_text("SIL\n")
    return folder


def make_aligner(
    dict_folder: Path, ali_dir: Path, phones_txt: Path, options: AlignOptions = EXACT
) -> Aligner:
    """Make an aligner of a system's files; log likelihoods take the place of log posteriors."""
    system = KaldiSystem.read(ali_dir / "final.mdl", phones_txt, ali_dir / "tree")
    log_priors = np.zeros(system.transition_model().num_pdfs, dtype=np.float32)
    return Aligner.of(Pronunciations.read(dict_folder, phones_txt), system, log_priors, options)


def graph_of(aligner: Aligner, words: str) -> HmmGraph:
    """Build the graph of a text."""
    return aligner.builder.build(word_graph(aligner.lexicon, aligner.lexicon.numbers(words.split())))
