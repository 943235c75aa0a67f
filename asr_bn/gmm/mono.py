"""Flat-start monophone training, as Kaldi's ``steps/train_mono.sh``."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import kaldi_hmm_gmm as khg
import kaldifst
import numpy as np
from tqdm import tqdm

from asr_bn.decoding.alignment.lexicon import Pronunciations
from asr_bn.decoding.graph import to_kaldifst
from asr_bn.gmm.mixtures import Mixture, reestimate, to_am_diag_gmm, total
from asr_bn.gmm.phone_sets import PhoneSets
from asr_bn.gmm.shard import Shard, Shards
from asr_bn.gmm.system import BEAM, RETRY_BEAM, GmmOptions, GmmSystem
from asr_bn.gmm.topology import topology
from asr_bn.gmm.write_mdl import TransitionModelData
from asr_bn.kaldi_io.context_dependency import ContextDependency
from asr_bn.system.arrays import Floats

INITIAL_BEAM = 6.0
_REALIGN = (*range(1, 11), 12, 14, 16, 18, 20, 23, 26, 29, 32, 35, 38)
# steps/train_mono.sh, steps/align_si.sh
ACOUSTIC_SCALE = 0.1
TRANSITION_SCALE = 1.0
SELF_LOOP_SCALE = 0.1


@dataclass(frozen=True)
class FlatStart:
    """The system before training: ``kaldi-hmm-gmm`` has the training graphs of monophones."""

    tree: khg.ContextDependency
    transition_model: khg.TransitionModel
    system: GmmSystem

    @classmethod
    def of(cls, sets: PhoneSets, feats: Mapping[str, Floats]) -> "FlatStart":
        """Give every pdf the mean and variance of all the frames (``gmm-init-mono``)."""
        topo = topology(sets.silences, sets.speech)
        num_pdf_classes = topo.get_phone_to_num_pdf_classes()
        tree = khg.monophone_context_dependency_shared(sets.sets, num_pdf_classes)
        with tempfile.TemporaryDirectory() as folder:
            tree.write(True, f"{folder}/tree")
            ours = ContextDependency.read(Path(folder, "tree"))
        frames = np.concatenate(list(feats.values())).astype(np.float64)
        mixture = Mixture(np.ones(1), frames.mean(axis=0)[None], frames.var(axis=0)[None])
        transitions = TransitionModelData.of_tree(topo, ours)
        system = GmmSystem(ours, transitions, [mixture] * tree.num_pdfs)
        return cls(tree, khg.TransitionModel(tree, topo), system)


class MonoShard(Shard):
    """Utterances with their compiled training graphs."""

    def __init__(
        self,
        start: tuple[khg.TransitionModel, khg.ContextDependency, Pronunciations],
        words: Mapping[str, Sequence[int]],
        feats: Mapping[str, Floats],
    ) -> None:
        super().__init__(words, feats)
        transition_model, tree, lexicon = start
        options = khg.TrainingGraphCompilerOptions(transition_scale=0.0, self_loop_scale=0.0)
        lexicon_fst = to_kaldifst(lexicon.fst)
        kaldifst.arcsort(lexicon_fst, sort_type="olabel")
        compiler = khg.TrainingGraphCompiler(transition_model, tree, lexicon_fst, [], options)
        self._graphs = {
            utt_id: compiler.compile_graph_from_text(list(numbers)) for utt_id, numbers in words.items()
        }

    def align_equally(self) -> None:
        """Spread each utterance evenly over the states of a path of its graph (``align-equal-compiled``)."""
        for utt_id, graph in self._graphs.items():
            done, path = kaldifst.equal_align(
                ifst=graph, length=len(self.feats[utt_id]), rand_seed=len(utt_id), num_retries=10
            )
            if done:
                _, transition_ids, _, _ = kaldifst.get_linear_symbol_sequence(path)
                self.alignments[utt_id] = np.array(transition_ids, dtype=np.int32)

    def align(
        self, model: khg.AmDiagGmm, transition_model: khg.TransitionModel, beam: float, retry_beam: float
    ) -> list[str]:
        """Align by Viterbi (``gmm-align-compiled``); return the utterances that could not be aligned."""
        config = khg.AlignConfig(beam=beam, retry_beam=retry_beam)
        failed = []
        for utt_id, compiled in self._graphs.items():
            graph = compiled.copy()
            khg.add_transition_probs(
                trans_model=transition_model,
                transition_scale=TRANSITION_SCALE,
                self_loop_scale=SELF_LOOP_SCALE,
                fst=graph,
            )
            feats = self.feats[utt_id]
            decodable = khg.DecodableAmDiagGmmScaled(model, transition_model, feats, ACOUSTIC_SCALE)
            num_done, _, _, _, _, transition_ids, _ = khg.align_utterance_wrapper(
                config, utt_id, ACOUSTIC_SCALE, graph, decodable, 0, 0, 0, 0.0, 0
            )
            if num_done:
                self.alignments[utt_id] = np.array(transition_ids, dtype=np.int32)
            else:
                failed.append(utt_id)
                self.alignments.pop(utt_id, None)
        return failed


class MonoTrainer:
    """Trains a monophone system.

    Attributes:
        system: as it is now.
        log_likelihoods: of a frame, on average, before each estimation.
    """

    def __init__(self, start: FlatStart, sets: PhoneSets, options: GmmOptions) -> None:
        self.system = start.system
        self.log_likelihoods: list[float] = []
        self._transition_model = start.transition_model
        self._options = options
        self._tid_to_pdf = start.system.transitions.tid_to_pdf()
        _, self._silence_pdfs = khg.get_pdfs_for_phones(start.transition_model, list(sets.silences))
        self._rng = np.random.default_rng(options.seed)

    def train(self, shards: Shards) -> None:
        """Train from the flat start; silence is boosted while aligning."""
        shards.call("align_equally")
        num_gauss = float(len(self.system.mixtures))
        self._estimate(shards, int(num_gauss), min_occupancy=3.0)
        increment = (self._options.num_gauss - num_gauss) / self._options.max_iter_inc
        for iteration in tqdm(range(1, self._options.num_iters), desc="monophones", unit="iteration"):
            if iteration in _REALIGN:
                beam = INITIAL_BEAM if iteration == 1 else BEAM
                self._align(shards, beam, RETRY_BEAM, self._options.boost_silence)
            self._estimate(shards, round(num_gauss), min_occupancy=10.0)
            if iteration <= self._options.max_iter_inc:
                num_gauss += increment

    def align(self, shards: Shards) -> list[str]:
        """Align with the finished system (``align_si.sh``); return the utterances that cannot be aligned."""
        return self._align(shards, self._options.beam, self._options.retry_beam, 1.0)

    def _align(self, shards: Shards, beam: float, retry_beam: float, boost: float) -> list[str]:
        model = to_am_diag_gmm(self.system.mixtures, self._silence_pdfs, boost)
        answers = shards.call("align", model, self._transition_model, beam, retry_beam)
        return [utt_id for ids in answers for utt_id in ids]

    def _estimate(self, shards: Shards, num_gauss: int, min_occupancy: float) -> None:
        """Do one EM step over the current alignments, then mix up to ``num_gauss``."""
        stats = total(shards.call("accumulate", self.system.mixtures, self._tid_to_pdf))
        self.log_likelihoods.append(stats.log_likelihood())
        self._transition_model.mle_update(stats.transitions, khg.MleTransitionUpdateConfig())
        log_probs = np.array(self._transition_model.log_probs, dtype=np.float32)
        self.system = replace(
            self.system,
            transitions=replace(self.system.transitions, log_probs=log_probs),
            mixtures=reestimate(self.system.mixtures, stats, num_gauss, min_occupancy, self._rng),
        )
