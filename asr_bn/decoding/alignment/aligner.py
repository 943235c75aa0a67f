"""Alignment of one utterance: log posteriors and a text to phones and words with times and confidences."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from asr_bn.data.kaldi_system import KaldiSystem
from asr_bn.decoding.alignment.hmm_graph import GraphBuilder, HmmGraph
from asr_bn.decoding.alignment.lexicon import Pronunciations
from asr_bn.decoding.alignment.phone_classes import PhoneClasses
from asr_bn.decoding.alignment.pronunciation import PhoneScorer
from asr_bn.decoding.alignment.result import AlignedPhone, AlignedUtterance, mean_confidence, words_of
from asr_bn.decoding.alignment.viterbi import Path, best_path
from asr_bn.decoding.alignment.word_graph import NO_WORD, WordGraph, word_graph
from asr_bn.decoding.hmms import Hmms
from asr_bn.decoding.no_path import NoPath
from asr_bn.system.arrays import Floats


@dataclass(frozen=True)
class AlignOptions:
    """How scores are weighed, and how wide the search is.

    Attributes:
        acoustic_scale: a factor for the log likelihoods.
        prior_scale: how much of the log prior is subtracted from the log posterior.
        beam: in scaled log likelihood.
        retry_beam: of a second search, where the first one did not reach the end.
    """

    acoustic_scale: float = 0.1
    prior_scale: float = 1.0
    beam: float = 100.0
    retry_beam: float = 1000.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (value >= 0 if name == "prior_scale" else 0 < value < math.inf):
                raise ValueError(f"{name} is {value}, expected above 0")


@dataclass(frozen=True)
class TextGraph:
    """What the words of ``text`` can sound like: their phones, and the HMMs of these."""

    text: Sequence[str]
    words: WordGraph
    hmms: HmmGraph


@dataclass(frozen=True)
class Aligner:
    """Aligns utterances, one at a time.

    Attributes:
        lexicon: the words' pronunciations.
        builder: of graphs, from a transition model and its tree.
        scorer: of the phones that are found.
        log_priors: ``[num_pdfs]``.
        options: of the search.
    """

    lexicon: Pronunciations
    builder: GraphBuilder
    scorer: PhoneScorer
    log_priors: Floats
    options: AlignOptions

    @classmethod
    def of(
        cls,
        lexicon: Pronunciations,
        system: KaldiSystem,
        log_priors: Floats,
        options: AlignOptions,
    ) -> "Aligner":
        """Take the HMMs of a system.

        Raises:
            ValueError: the system is damaged, or lexicon, transition model, tree and priors do not fit.
        """
        model, hmms = system.transition_model(), Hmms.from_stream(system.open_transition_model())
        if model.num_pdfs != len(log_priors):
            raise ValueError(
                f"the transition model has {model.num_pdfs} pdfs, the network {len(log_priors)}: it is of "
                "another system"
            )
        names = {number: phone for phone, number in lexicon.phone_ids.items()}
        used = set(np.unique(lexicon.fst.arcs["ilabel"]).tolist()) - {0}
        missing = sorted(used - hmms.phones())
        if missing:
            name = names.get(missing[0], missing[0])
            raise ValueError(f"{lexicon.path}: has the phone {name}, which the transition model lacks")
        builder = GraphBuilder(hmms, model, system.tree())
        scorer = PhoneScorer(PhoneClasses.of(system), names, lexicon.phone_ids[lexicon.silence_phone])
        return cls(lexicon, builder, scorer, log_priors, options)

    def align(self, utt_id: str, text: Sequence[str], log_posteriors: Floats) -> AlignedUtterance:
        """Align ``log_posteriors``, ``[num_frames, num_pdfs]`` of one frame or more, with ``text``.

        Raises:
            ValueError: as `graph`.
            NoPath: as `graph` and `align_graph`.
        """
        return self.align_graph(utt_id, self.graph(text), log_posteriors)

    def graph(self, text: Sequence[str]) -> TextGraph:
        """Build the graph of a text.

        Raises:
            ValueError: no words, or one without a pronunciation.
            NoPath: the lexicon's transducer has none for these words.
        """
        if not text:
            raise ValueError("its text has no words")
        words = word_graph(self.lexicon, self.lexicon.numbers(text))
        return TextGraph(text, words, self.builder.build(words))

    def align_graph(self, utt_id: str, of: TextGraph, log_posteriors: Floats) -> AlignedUtterance:
        """Align with a text whose graph is built.

        Raises:
            NoPath: more phones than the frames have room for, or no path within the beam.  The message
                does not name the utterance.
        """
        graph = of.hmms
        path = self._search(graph, log_posteriors)
        phones, speech = self._phones(graph, of.words, path, log_posteriors)
        silences = [phone for phone in phones if phone.word == NO_WORD]
        return AlignedUtterance(
            utt_id,
            path.transition_ids(graph),
            phones,
            words_of(phones, of.text),
            path.log_likelihood / len(path.nodes),
            mean_confidence([phone for phone in phones if phone.word != NO_WORD]),
            mean_confidence(silences),
            speech,
        )

    def _search(self, graph: HmmGraph, log_posteriors: Floats) -> Path:
        scale = np.float32(self.options.acoustic_scale)
        priors = scale * np.float32(self.options.prior_scale) * self.log_priors

        def log_likelihoods(start: int, end: int) -> Floats:
            scaled: Floats = scale * log_posteriors[start:end] - priors
            return scaled

        num_frames = len(log_posteriors)
        # Before two searches in vain.  A shortest path comes through no node twice: so many frames suffice.
        if num_frames < graph.num_nodes and (least := graph.least_frames()) > num_frames:
            raise NoPath(f"its text takes {least} frames at least, and its audio has {num_frames}")
        for beam in (self.options.beam, self.options.retry_beam):
            path = best_path(graph, len(log_posteriors), log_likelihoods, beam)
            if path is not None:
                return path
        raise NoPath(f"its text has no path within a beam of {self.options.retry_beam:g}")

    def _phones(
        self, graph: HmmGraph, words: WordGraph, path: Path, log_posteriors: Floats
    ) -> tuple[list[AlignedPhone], float]:
        """Cut the path into phones; also return the share of frames that are speech for the network."""
        instances = graph.phones[path.nodes]
        starts = np.flatnonzero(np.diff(instances, prepend=-1))
        numbers = self.builder.model.tid_to_phone[graph.entering[path.nodes[starts]]].tolist()
        around = [-1, *instances[starts].tolist(), -1]
        labels = [label for pair in pairwise(around) for label in graph.labels[pair]]
        return self.scorer.phones(starts, numbers, [words.words[label] for label in labels], log_posteriors)
