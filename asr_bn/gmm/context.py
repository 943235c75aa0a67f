"""Phones in context: Kaldi's ``steps/train_deltas.sh`` and ``steps/train_lda_mllt.sh``.

``kaldi-hmm-gmm`` has no decision trees of context; tree and graphs are ours, and so is the search.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from asr_bn.decoding.alignment.hmm_graph import GraphBuilder
from asr_bn.decoding.alignment.lexicon import Pronunciations
from asr_bn.decoding.alignment.viterbi import best_path
from asr_bn.decoding.alignment.word_graph import WordGraph, word_graph
from asr_bn.decoding.hmms import Hmms
from asr_bn.gmm.mfcc import NUM_CEPS, splice
from asr_bn.gmm.mixtures import Mixture, reestimate, total
from asr_bn.gmm.mono import ACOUSTIC_SCALE
from asr_bn.gmm.phone_sets import PhoneSets
from asr_bn.gmm.shard import Shard, Shards
from asr_bn.gmm.system import BEAM, RETRY_BEAM, SPLICE, GmmOptions, GmmSystem
from asr_bn.gmm.topology import topology
from asr_bn.gmm.transforms import LdaStats, accumulate_mllt, estimate_lda, estimate_mllt
from asr_bn.gmm.transitions import TransitionIds
from asr_bn.gmm.tree import ContextStats, cluster_questions, context_keys, grow_tree
from asr_bn.gmm.write_mdl import TransitionModelData, encode_transition_model
from asr_bn.kaldi_io.context_dependency import ContextDependency
from asr_bn.kaldi_io.model_stream import ModelStream
from asr_bn.kaldi_io.transition_model import TransitionModel
from asr_bn.system.arrays import Doubles, Floats, IntVector

LDA_DIM = 40
_REALIGN, _MLLT = (10, 20, 30), (2, 4, 6, 12)


class ContextShard(Shard):
    """Utterances whose phones have a context."""

    def __init__(
        self,
        lexicon: Pronunciations,
        words: Mapping[str, Sequence[int]],
        feats: Mapping[str, Floats],
        alignments: Mapping[str, IntVector],
    ) -> None:
        super().__init__(words, feats)
        self._lexicon, self._inputs = lexicon, feats
        self.alignments = dict(alignments)
        self._graphs: dict[str, WordGraph] = {}

    def lda_stats(self, tid_to_class: IntVector, num_classes: int) -> LdaStats:
        """Collect spliced cepstra by class; the last class, of silence, is left out."""
        dim = NUM_CEPS * (2 * SPLICE + 1)
        counts, sums, products = np.zeros(num_classes), np.zeros((num_classes, dim)), np.zeros((dim, dim))
        for utt_id, transition_ids in self.alignments.items():
            classes = tid_to_class[transition_ids]
            spliced = splice(self._inputs[utt_id][:, :NUM_CEPS], SPLICE).astype(np.float64)
            spliced, classes = spliced[classes < num_classes], classes[classes < num_classes]
            counts += np.bincount(classes, minlength=num_classes)
            np.add.at(sums, classes, spliced)
            products += spliced.T @ spliced
        return LdaStats(counts, sums, products)

    def project(self, matrix: Floats) -> None:
        """Replace the features by spliced cepstra through ``matrix``, ``[dim, spliced_dim]``."""
        self.feats = {
            utt_id: splice(feats[:, :NUM_CEPS], SPLICE) @ matrix.T for utt_id, feats in self._inputs.items()
        }

    def tree_stats(self, tids: TransitionIds, silences: Sequence[int]) -> ContextStats:
        """Collect the frames of states in context (``acc-tree-stats``)."""
        dim = next(iter(self.feats.values())).shape[1] if self.feats else 0
        keys, feats = [np.zeros((0, 4), np.int32)], [np.zeros((0, dim), np.float32)]
        for utt_id, alignment in sorted(self.alignments.items()):
            keys.append(context_keys(*tids.split(alignment), tids.states[alignment], silences))
            feats.append(self.feats[utt_id])
        return ContextStats.of(np.concatenate(keys), np.concatenate(feats))

    def convert(self, tids: TransitionIds, tree: ContextDependency, model: bytes) -> None:
        """Give the alignments the transition-ids of another model, of one topology (``convert-ali``)."""
        hmms, known = _hmms(model), dict[tuple[int, ...], int]()
        for utt_id, alignment in self.alignments.items():
            keys = context_keys(*tids.split(alignment), tids.states[alignment], ()).tolist()
            for key in map(tuple, keys):
                if key not in known:
                    leaving = hmms.in_context(key[:3], tree).transitions
                    known[key] = next(t.transition_id for t in leaving if t.source == key[3])
            first = np.array([known[tuple(key)] for key in keys], dtype=np.int32)
            self.alignments[utt_id] = first + tids.places[alignment]

    def align(
        self,
        model: bytes,
        tree: ContextDependency,
        mixtures: Sequence[Mixture],
        boosts: Doubles,
        beam: float,
        retry_beam: float,
    ) -> list[str]:
        """Align by Viterbi; return the utterances that could not be aligned.

        Args:
            boosts: added to the log likelihoods of each pdf.
        """
        transition_model = TransitionModel.from_stream(_open(model))
        builder, failed = GraphBuilder(_hmms(model), transition_model, tree), []
        for utt_id, numbers in self.words.items():
            if utt_id not in self._graphs:
                self._graphs[utt_id] = word_graph(self._lexicon, numbers)
            graph, feats = builder.build(self._graphs[utt_id]), self.feats[utt_id]
            scores = np.zeros((len(feats), len(mixtures)), np.float32)
            for pdf in np.unique(graph.pdfs).tolist():
                scores[:, pdf] = (
                    np.logaddexp.reduce(mixtures[pdf].log_likelihoods(feats), axis=1) + boosts[pdf]
                )
            scores *= np.float32(ACOUSTIC_SCALE)
            rows = _Rows(scores)
            for width in (beam, retry_beam):
                path = best_path(graph, len(feats), rows, width)
                if path is not None:
                    self.alignments[utt_id] = path.transition_ids(graph)
                    break
            else:
                failed.append(utt_id)
                self.alignments.pop(utt_id, None)
        return failed

    def mllt_stats(self, mixtures: Sequence[Mixture], tid_to_pdf: IntVector) -> Doubles:
        """Collect what MLLT is estimated from, ``[dim, dim, dim]``."""
        dim = mixtures[0].means.shape[1]
        by_pdf, _ = self.frames_by_pdf(len(mixtures), dim, tid_to_pdf)
        result = np.zeros((dim,) * 3)
        for mixture, frames in zip(mixtures, by_pdf, strict=True):
            if len(frames):
                result += accumulate_mllt(mixture, frames)
        return result


class ContextTrainer:
    """Trains a system of phones in context from the alignments of another.

    Attributes:
        system: as it is now.
        log_likelihoods: of a frame, on average, before each estimation.
    """

    def __init__(self, shards: Shards, before: Hmms, sets: PhoneSets, options: GmmOptions, lda: bool) -> None:
        """Estimate LDA, grow the tree, and begin with a Gaussian for each leaf.

        Raises:
            ValueError: no alignments, or too few.
        """
        tids, silences = TransitionIds.of(before), list(sets.silences)
        matrix = self._lda(shards, tids, silences) if lda else None
        if matrix is not None:
            shards.call("project", matrix)
        stats = ContextStats.merge(shards.call("tree_stats", tids, silences))
        questions = [*cluster_questions(stats, sets.sets), *sets.questions]
        tree, mixtures = grow_tree(stats, sets.sets, questions, options.num_leaves)
        transitions = TransitionModelData.of_tree(topology(silences, sets.speech), tree)
        self.system = GmmSystem(tree, transitions, mixtures, matrix)
        self.log_likelihoods: list[float] = []
        self._options, self._tid_to_pdf = options, transitions.tid_to_pdf()
        self._silence_pdfs = sorted({pdf for phone, _, pdf in transitions.triples if phone in silences})
        self._rng = np.random.default_rng(options.seed)
        shards.call("convert", tids, tree, self._model())

    def train(self, shards: Shards) -> None:
        """Train with realignments and, for LDA, with MLLT."""
        num_gauss = float(len(self.system.mixtures))
        increment = (self._options.num_gauss - num_gauss) / self._options.max_iter_inc
        name = "triphones" if self.system.matrix is None else "LDA and MLLT"
        for iteration in tqdm(range(1, self._options.num_iters), desc=name, unit="iteration"):
            if iteration in _REALIGN:
                self._align(shards, BEAM, RETRY_BEAM, self._options.boost_silence)
            if self.system.matrix is not None and iteration in _MLLT:
                self._transform(shards, self.system.matrix)
            self._estimate(shards, round(num_gauss))
            if iteration <= self._options.max_iter_inc:
                num_gauss += increment

    def align(self, shards: Shards) -> list[str]:
        """Align with the finished system; return the utterances that cannot be aligned."""
        if self.system.matrix is not None:
            shards.call("project", self.system.matrix)
        return self._align(shards, self._options.beam, self._options.retry_beam, 1.0)

    def _lda(self, shards: Shards, tids: TransitionIds, silences: list[int]) -> Floats:
        num_pdfs = 1 + int(tids.pdfs.max())
        classes = np.where(np.isin(tids.phones, silences), num_pdfs, tids.pdfs)
        return estimate_lda(shards.call("lda_stats", classes, num_pdfs), LDA_DIM)

    def _align(self, shards: Shards, beam: float, retry_beam: float, boost: float) -> list[str]:
        boosts = np.zeros(len(self.system.mixtures))
        boosts[self._silence_pdfs] = np.log(boost)
        system = self.system
        answers = shards.call("align", self._model(), system.tree, system.mixtures, boosts, beam, retry_beam)
        return [utt_id for ids in answers for utt_id in ids]

    def _transform(self, shards: Shards, before: Floats) -> None:
        """Estimate MLLT, and turn the features and the means."""
        counts = total(shards.call("accumulate", self.system.mixtures, self._tid_to_pdf)).transitions
        parts = shards.call("mllt_stats", self.system.mixtures, self._tid_to_pdf)
        turn = estimate_mllt(sum(parts[1:], parts[0]), float(counts.sum()))
        matrix = (turn @ before).astype(np.float32)
        mixtures = [replace(mixture, means=mixture.means @ turn.T) for mixture in self.system.mixtures]
        self.system = replace(self.system, mixtures=mixtures, matrix=matrix)
        shards.call("project", matrix)

    def _estimate(self, shards: Shards, num_gauss: int) -> None:
        stats = total(shards.call("accumulate", self.system.mixtures, self._tid_to_pdf))
        self.log_likelihoods.append(stats.log_likelihood())
        self.system = replace(
            self.system,
            transitions=self.system.transitions.update(stats.transitions),
            mixtures=reestimate(self.system.mixtures, stats, num_gauss, 10.0, self._rng),
        )

    def _model(self) -> bytes:
        return b"\0B" + encode_transition_model(self.system.transitions)


@dataclass(frozen=True)
class _Rows:
    """Scores of an utterance, given some frames at a time."""

    scores: Floats

    def __call__(self, start: int, end: int) -> Floats:
        return self.scores[start:end]


def _open(model: bytes) -> ModelStream:
    return ModelStream.begin(io.BytesIO(model), "the transition model")


def _hmms(model: bytes) -> Hmms:
    return Hmms.from_stream(_open(model))
