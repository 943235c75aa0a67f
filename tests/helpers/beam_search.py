"""Kaldi's own ``FasterDecoder``, by ``kaldi-decoder``: what our search is tested against."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from asr_bn.decoding.fst_file import Fst, kaldifst
from asr_bn.decoding.graph import DecodingGraph, to_kaldifst
from asr_bn.decoding.search_options import BeamOptions, ScoreWeights
from asr_bn.system.arrays import Floats, IntVector

if TYPE_CHECKING:
    from kaldi_decoder import FasterDecoder

# Frames whose scores are spread over transition-ids at a time; bounds memory.
BLOCK_FRAMES = 200


@dataclass(frozen=True)
class Hypothesis:
    """The best path.

    Attributes:
        words: as the graph spells them.
        transition_ids: int32 ``[num_frames]``, its alignment.
        graph_cost, acoustic_cost: negated log probabilities, the acoustic one not scaled, the graph's one
            without the words' penalties.
        is_complete: it ends in a final state; otherwise it is the best of the partial ones.
    """

    words: tuple[str, ...]
    transition_ids: IntVector
    graph_cost: float
    acoustic_cost: float
    is_complete: bool


NOTHING = Hypothesis((), np.zeros(0, dtype=np.int32), 0.0, 0.0, False)


class BeamSearch:
    """Decodes log likelihoods, utterance by utterance.

    Args:
        graph: its input labels are transition-ids, whose scores are those of their pdfs.
        options: how wide to search.
    """

    def __init__(self, graph: DecodingGraph, options: BeamOptions) -> None:
        self._graph, self._options = graph, options
        self._columns = graph.model.tid_to_pdf[1:]
        self._graphs: dict[float, Fst] = {}
        self._decoders: dict[tuple[int, float], FasterDecoder] = {}

    def decode(self, log_likelihoods: Floats, acoustic_scale: float, word_penalty: float = 0.0) -> Hypothesis:
        """Find the best path of one utterance, ``[num_frames, num_pdfs]``; no frames give no words."""
        return self.decode_blocks([log_likelihoods], [ScoreWeights(acoustic_scale, word_penalty)])[0]

    def decode_blocks(self, blocks: Iterable[Floats], weights: Sequence[ScoreWeights]) -> list[Hypothesis]:
        """Find the best path with each of ``weights``, in one pass over consecutive pieces of an utterance.

        Raises:
            ValueError: columns that are not the transition model's pdfs, or a value that is not finite.
        """
        from kaldi_decoder import DecodableCtc

        decoders = [self._decoder(index, weight.word_penalty) for index, weight in enumerate(weights)]
        for decoder in decoders:
            decoder.init_decoding()
        num_frames = 0
        for block in blocks:
            self._graph.checked(block)
            for start in range(0, len(block), BLOCK_FRAMES):
                # The decoder's column k - 1 scores the label k: here, transition-id k.
                rows = block[start : start + BLOCK_FRAMES][:, self._columns]
                for decoder, weight in zip(decoders, weights, strict=True):
                    scores = np.ascontiguousarray(np.float32(weight.acoustic_scale) * rows)
                    decoder.advance_decoding(DecodableCtc(scores, offset=num_frames))
                num_frames += len(rows)
        if not num_frames:
            return [NOTHING] * len(weights)
        return [self._best_path(decoder, weight) for decoder, weight in zip(decoders, weights, strict=True)]

    def _decoder(self, index: int, word_penalty: float) -> "FasterDecoder":
        """Make or reuse the decoder of the ``index``-th weights; its paths last until its next use."""
        from kaldi_decoder import FasterDecoder, FasterDecoderOptions

        if word_penalty not in self._graphs:
            self._graphs[word_penalty] = _with_word_penalty(self._graph, word_penalty)
        if (index, word_penalty) not in self._decoders:
            settings = FasterDecoderOptions(beam=self._options.beam, max_active=self._options.max_active)
            self._decoders[index, word_penalty] = FasterDecoder(self._graphs[word_penalty], settings)
        return self._decoders[index, word_penalty]

    def _best_path(self, decoder: "FasterDecoder", weight: ScoreWeights) -> Hypothesis:
        is_complete = decoder.reached_final()
        found, lattice = decoder.get_best_path(use_final_probs=True)
        if not found:
            return NOTHING
        _, transition_ids, words, cost = kaldifst.get_linear_symbol_sequence(lattice)
        return Hypothesis(
            tuple(self._graph.words[word] for word in words),
            np.array(transition_ids, dtype=np.int32),
            float(cost.value1) - weight.word_penalty * len(words),
            float(cost.value2) / weight.acoustic_scale,
            bool(is_complete),
        )


def _with_word_penalty(graph: DecodingGraph, penalty: float) -> Fst:
    """Copy the graph, with ``penalty`` added to the cost of every word."""
    arcs = graph.arrays.arcs.copy()
    arcs["weight"][arcs["olabel"] > 0] += np.float32(penalty)
    return to_kaldifst(replace(graph.arrays, arcs=arcs))
