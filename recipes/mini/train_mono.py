"""Flat-start monophone training, as Kaldi's ``steps/train_mono.sh``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import add

import kaldi_hmm_gmm as khg
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from asr_bn.system.arrays import Floats
from recipes.mini.gmm import Mixture, MixtureStats, split, split_targets, to_am_diag_gmm, update
from recipes.mini.graphs import Language, topology_text
from recipes.mini.shard import Shards, ShardStats

INITIAL_BEAM, BEAM, RETRY_BEAM = 6.0, 10.0, 40.0
# Practically none: an utterance that the pruning loses is lost to the network's training too.
FINAL_RETRY_BEAM = 1000.0
# Fixed, so that sums come out the same on any machine.
NUM_SHARDS = 4


@dataclass(frozen=True)
class MonoOptions:
    """Sizes of the monophone system; the defaults are ``train_mono.sh``'s, ``num_gauss`` its ``totgauss``."""

    num_gauss: int = 1000
    num_iters: int = 40
    max_iter_inc: int = 30
    realign_iters: tuple[int, ...] = (*range(1, 11), 12, 14, 16, 18, 20, 23, 26, 29, 32, 35, 38)
    boost_silence: float = 1.25


@dataclass(frozen=True)
class MonoSystem:
    """A monophone system: its tree, transition model and Gaussian mixtures."""

    tree: khg.ContextDependency
    transition_model: khg.TransitionModel
    mixtures: list[Mixture]


def flat_start(language: Language, feats: Mapping[str, Floats]) -> MonoSystem:
    """Give every pdf the mean and variance of all the frames (``gmm-init-mono``)."""
    others = sorted(index for index in language.phone_ids.values() if index not in (0, language.silence))
    topology = khg.HmmTopology()
    topology.read(topology_text(language.silence, others))
    num_pdf_classes = topology.get_phone_to_num_pdf_classes()
    tree = khg.monophone_context_dependency(phones=topology.phones, phone2num_pdf_classes=num_pdf_classes)
    frames = np.concatenate(list(feats.values())).astype(np.float64)
    mixture = Mixture(np.ones(1), frames.mean(axis=0)[None], frames.var(axis=0)[None])
    return MonoSystem(tree, khg.TransitionModel(tree, topology), [mixture] * tree.num_pdfs)


def shard_arguments(
    system: MonoSystem,
    language: Language,
    transcripts: Mapping[str, Sequence[str]],
    feats: Mapping[str, Floats],
) -> list[tuple[object, ...]]:
    """Cut the utterances into ``NUM_SHARDS`` runs of about equal length, each as ``Shard`` wants them."""
    utt_ids = sorted(transcripts)
    bounds = [len(utt_ids) * shard // NUM_SHARDS for shard in range(NUM_SHARDS + 1)]
    shards = [utt_ids[start:stop] for start, stop in pairwise(bounds)]
    return [
        (
            system.transition_model,
            system.tree,
            language,
            {utt_id: transcripts[utt_id] for utt_id in shard},
            {utt_id: feats[utt_id] for utt_id in shard},
        )
        for shard in shards
    ]


def train_mono(shards: Shards, system: MonoSystem, silence: int, options: MonoOptions) -> MonoSystem:
    """Train from the flat start; ``silence`` is the silence phone, boosted while aligning."""
    trainer = _Trainer(shards, system, silence, options)
    shards.call("align_equally")
    trainer.estimate(num_gauss=len(system.mixtures), min_occupancy=3.0)
    num_gauss = float(len(system.mixtures))
    increment = (options.num_gauss - num_gauss) / options.max_iter_inc
    for iteration in tqdm(range(1, options.num_iters), desc="GMM training", unit="iteration"):
        if iteration in options.realign_iters:
            trainer.align(INITIAL_BEAM if iteration == 1 else BEAM)
        trainer.estimate(round(num_gauss), min_occupancy=10.0)
        if iteration <= options.max_iter_inc:
            num_gauss += increment
    return MonoSystem(system.tree, system.transition_model, trainer.mixtures)


def align(shards: Shards, system: MonoSystem) -> tuple[list[dict[str, NDArray[np.int32]]], list[str]]:
    """Return each shard's alignments with the finished system (``align_si.sh``), and who has none."""
    model = to_am_diag_gmm(system.mixtures)
    answers = shards.call("align", model, system.transition_model, BEAM, FINAL_RETRY_BEAM)
    failed = [utt_id for ids in answers for utt_id in ids]
    return shards.call("alignments"), failed


class _Trainer:
    def __init__(self, shards: Shards, system: MonoSystem, silence: int, options: MonoOptions) -> None:
        self.mixtures = system.mixtures
        self._shards = shards
        self._transition_model = system.transition_model
        self._boost = options.boost_silence
        self._tid_to_pdf = np.array(system.transition_model.transition_id_to_pdf_array(), dtype=np.int32)
        _, self._silence_pdfs = khg.get_pdfs_for_phones(system.transition_model, [silence])
        self._rng = np.random.default_rng(0)

    def align(self, beam: float) -> None:
        """Realign everything with the current model."""
        model = to_am_diag_gmm(self.mixtures, self._silence_pdfs, self._boost)
        self._shards.call("align", model, self._transition_model, beam, RETRY_BEAM)

    def estimate(self, num_gauss: int, min_occupancy: float) -> None:
        """Do one EM step over the current alignments, then mix up to ``num_gauss`` (``gmm-est``)."""
        stats: list[ShardStats] = self._shards.call("accumulate", self.mixtures, self._tid_to_pdf)
        transitions = reduce(add, (shard.transitions for shard in stats))
        self._transition_model.mle_update(transitions, khg.MleTransitionUpdateConfig())
        by_pdf = zip(*(shard.mixtures for shard in stats), strict=True)
        pooled: list[MixtureStats] = [reduce(add, of_pdf) for of_pdf in by_pdf]
        targets = split_targets([float(of_pdf.counts.sum()) for of_pdf in pooled], num_gauss)
        self.mixtures = [
            split(update(mixture, of_pdf, min_occupancy), target, self._rng)
            for mixture, of_pdf, target in zip(self.mixtures, pooled, targets, strict=True)
        ]
