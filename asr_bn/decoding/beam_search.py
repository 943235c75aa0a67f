"""Beam search through a decoding graph, by ``kaldi-decoder``."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr_bn.decoding.graph import DecodingGraph

# Frames whose scores are spread over the transition-ids at a time, so that memory does not grow with length.
BLOCK_FRAMES = 200


@dataclass(frozen=True)
class BeamOptions:
    """As Kaldi's: ``beam`` in the units of scaled log likelihoods, ``max_active`` states in a frame."""

    beam: float = 13.0
    max_active: int = 7000

    def __post_init__(self) -> None:
        if not self.beam > 0 or self.max_active < 2:
            raise ValueError(
                f"beam {self.beam} and max_active {self.max_active}: expected above 0, and at least 2"
            )


@dataclass(frozen=True)
class Hypothesis:
    """The best path.

    Attributes:
        words: as the graph spells them.
        transition_ids: int32 ``[num_frames]``, its alignment.
        graph_cost, acoustic_cost: negated log probabilities; the acoustic one is not scaled.
        is_complete: it ends in a final state; otherwise it is the best of the partial ones.
    """

    words: tuple[str, ...]
    transition_ids: NDArray[np.int32]
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
        import kaldi_decoder

        self._graph = graph
        self._columns = graph.model.tid_to_pdf[1:]
        settings = kaldi_decoder.FasterDecoderOptions(beam=options.beam, max_active=options.max_active)
        self._decoder: Any = kaldi_decoder.FasterDecoder(graph.fst, settings)
        self._decodable = kaldi_decoder.DecodableCtc

    def decode(self, log_likelihoods: NDArray[np.float32], acoustic_scale: float) -> Hypothesis:
        """Best path of one utterance, ``[num_frames, num_pdfs]``; no frames give no words."""
        return self.decode_blocks([log_likelihoods], acoustic_scale)

    def decode_blocks(self, blocks: Iterable[NDArray[np.float32]], acoustic_scale: float) -> Hypothesis:
        """The same from consecutive pieces of an utterance.

        Raises:
            ValueError: a scale that is not positive, or columns that are not the transition model's pdfs.
        """
        if not acoustic_scale > 0:
            raise ValueError(f"acoustic scale {acoustic_scale}: expected above 0")
        self._decoder.init_decoding()
        num_frames = 0
        for block in blocks:
            self._check(block)
            for start in range(0, len(block), BLOCK_FRAMES):
                scaled = np.float32(acoustic_scale) * block[start : start + BLOCK_FRAMES]
                # The decoder's column k - 1 scores the label k: here, transition-id k.
                scores = np.ascontiguousarray(scaled[:, self._columns])
                self._decoder.advance_decoding(self._decodable(scores, offset=num_frames))
                num_frames += len(scores)
        return self._best_path(acoustic_scale) if num_frames else NOTHING

    def _check(self, block: NDArray[np.float32]) -> None:
        if block.ndim != 2 or block.shape[1] != self._graph.model.num_pdfs:
            raise ValueError(
                f"scores have shape {list(block.shape)}, expected [num_frames, {self._graph.model.num_pdfs}] "
                "for the graph's transition model"
            )
        if not np.isfinite(block).all():
            raise ValueError("scores hold a value that is not finite")

    def _best_path(self, acoustic_scale: float) -> Hypothesis:
        import kaldifst

        is_complete = self._decoder.reached_final()
        found, lattice = self._decoder.get_best_path(use_final_probs=True)
        if not found:
            return NOTHING
        _, transition_ids, words, weight = kaldifst.get_linear_symbol_sequence(lattice)
        return Hypothesis(
            tuple(self._graph.words[word] for word in words),
            np.array(transition_ids, dtype=np.int32),
            float(weight.value1),
            float(weight.value2) / acoustic_scale,
            bool(is_complete),
        )
