"""From the log posteriors of an utterance to its words and phones, with times and confidences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_bn.data.kaldi_system import KaldiSystem
from asr_bn.decoding.alignment.phone_classes import PhoneClasses
from asr_bn.decoding.alignment.pronunciation import PhoneScorer
from asr_bn.decoding.alignment.result import AlignedPhone
from asr_bn.decoding.alignment.word_graph import NO_WORD
from asr_bn.decoding.answers import Answer, AnswerMaker
from asr_bn.decoding.graph import DecodingGraph, find_transition_model
from asr_bn.decoding.graph_files import GraphFiles
from asr_bn.decoding.hmms import Hmms
from asr_bn.decoding.lattices.align_lexicon import AlignLexicon
from asr_bn.decoding.lattices.decoder import LatticeDecoder, LatticeOptions
from asr_bn.decoding.lattices.word_times import WordTimes
from asr_bn.decoding.search_options import BeamOptions, ScoreWeights
from asr_bn.scoring.scorer import to_output
from asr_bn.system.arrays import Floats

_BLOCK_FRAMES = 512


@dataclass(frozen=True)
class Transcript:
    """What was found: words, phones, and whether a path reached the end of the graph."""

    answer: Answer
    phones: Sequence[AlignedPhone]
    is_complete: bool


@dataclass(frozen=True)
class Transcriber:
    """Decodes utterances, one at a time.

    Attributes:
        decoder: finds the lattice.
        maker: finds the words in it.
        log_priors: ``[num_pdfs]``.
        times: of words, and where phones begin.
        scorer: of the phones that are found.
    """

    decoder: LatticeDecoder
    maker: AnswerMaker
    log_priors: Floats
    times: WordTimes
    scorer: PhoneScorer

    @classmethod
    def open(
        cls,
        graph_dir: Path,
        system: KaldiSystem,
        log_priors: Floats,
        weights: ScoreWeights,
        posterior_scale: float = 1.0,
    ) -> "Transcriber":
        """Load a graph, as ``asr-bn make-graph`` leaves it; words have no times without its pronunciations.

        Args:
            graph_dir: its folder.
            system: of the network.
            log_priors: of the network.
            weights: of search and lattices.
            posterior_scale: of the words' confidences.

        Raises:
            OSError: a file is missing.
            ValueError: one is damaged, or of another system.
        """
        mdl = find_transition_model(graph_dir)
        graph = DecodingGraph.load(graph_dir, mdl)
        if not np.array_equal(graph.model.tid_to_pdf, system.transition_model().tid_to_pdf):
            raise ValueError(f"{graph_dir}: {mdl} is not the network's transition model: a graph of another")
        known = GraphFiles(graph_dir).word_times(mdl)
        times = known or WordTimes.of(AlignLexicon({}), Hmms.read(mdl))
        maker = AnswerMaker(graph.words, weights, posterior_scale, times=known)
        decoder = LatticeDecoder(graph, BeamOptions(), LatticeOptions(weights.acoustic_scale))
        scorer = PhoneScorer(PhoneClasses.of(system), system.phone_names, None)
        return cls(decoder, maker, log_priors, times, scorer)

    def transcribe(self, utt_id: str, log_posteriors: Floats) -> Transcript:
        """Find the words and phones of ``log_posteriors``, ``[num_frames, num_pdfs]``.

        Raises:
            NoPath: the graph has none of that length.
            ValueError: columns that are not the graph's pdfs, or a value that is not finite.
        """
        blocks = (
            to_output(log_posteriors[start : start + _BLOCK_FRAMES], self.log_priors, "log_likelihood")
            for start in range(0, len(log_posteriors), _BLOCK_FRAMES)
        )
        decoded = self.decoder.decode(blocks, ())
        answer = self.maker.answer(utt_id, decoded.lattice)
        return Transcript(answer, self._phones(answer, log_posteriors), decoded.is_complete)

    def _phones(self, answer: Answer, log_posteriors: Floats) -> list[AlignedPhone]:
        transition_ids = answer.path.transition_ids
        starts = np.flatnonzero(self.times.begins[transition_ids])
        starts[:1] = 0
        numbers = self.times.tid_to_phone[transition_ids[starts]].tolist()
        spans = answer.spans or ()
        words = [
            next((place for place, (first, end) in enumerate(spans) if first <= start < end), NO_WORD)
            for start in starts.tolist()
        ]
        return self.scorer.phones(starts, numbers, words, log_posteriors)[0]
