"""A share of the utterances in a process of its own: training graphs, Viterbi alignments, statistics."""

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import kaldi_hmm_gmm as khg
import kaldifst
import numpy as np
from numpy.typing import NDArray

from asr_bn.system.arrays import Floats, IntVector
from recipes.mini.gmm import Mixture, MixtureStats, accumulate
from recipes.mini.graphs import Language, lexicon_fst

# steps/train_mono.sh, steps/align_si.sh
ACOUSTIC_SCALE = 0.1
TRANSITION_SCALE = 1.0
SELF_LOOP_SCALE = 0.1


@dataclass(frozen=True)
class ShardStats:
    """The E step over a shard: for each pdf its mixture's statistics, and the count of each transition-id."""

    mixtures: list[MixtureStats]
    transitions: NDArray[np.float64]


class Shard:
    """Some utterances with their graphs and current alignments; lives in a worker process."""

    def __init__(
        self,
        transition_model: khg.TransitionModel,
        tree: khg.ContextDependency,
        language: Language,
        transcripts: Mapping[str, Sequence[str]],
        feats: Mapping[str, Floats],
    ) -> None:
        options = khg.TrainingGraphCompilerOptions(transition_scale=0.0, self_loop_scale=0.0)
        compiler = khg.TrainingGraphCompiler(transition_model, tree, lexicon_fst(language), [], options)
        self._graphs = {
            utt_id: compiler.compile_graph_from_text([language.word_ids[word] for word in words])
            for utt_id, words in transcripts.items()
        }
        self._feats = feats
        self._alignments: dict[str, IntVector] = {}

    def align_equally(self) -> None:
        """Spread each utterance evenly over the states of a path of its graph (``align-equal-compiled``)."""
        for utt_id, graph in self._graphs.items():
            done, path = kaldifst.equal_align(
                ifst=graph, length=len(self._feats[utt_id]), rand_seed=len(utt_id), num_retries=10
            )
            if done:
                _, transition_ids, _, _ = kaldifst.get_linear_symbol_sequence(path)
                self._alignments[utt_id] = np.array(transition_ids, dtype=np.int32)

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
            feats = self._feats[utt_id]
            decodable = khg.DecodableAmDiagGmmScaled(model, transition_model, feats, ACOUSTIC_SCALE)
            num_done, _, _, _, _, transition_ids, _ = khg.align_utterance_wrapper(
                config, utt_id, ACOUSTIC_SCALE, graph, decodable, 0, 0, 0, 0.0, 0
            )
            if num_done:
                self._alignments[utt_id] = np.array(transition_ids, dtype=np.int32)
            else:
                failed.append(utt_id)
                self._alignments.pop(utt_id, None)
        return failed

    def accumulate(self, mixtures: Sequence[Mixture], tid_to_pdf: NDArray[np.int32]) -> ShardStats:
        """Do the E step over the current alignments (``gmm-acc-stats-ali``)."""
        utt_ids = sorted(self._alignments)
        dim = mixtures[0].means.shape[1]
        # Empty arrays first, for a shard without utterances.
        transition_ids = np.concatenate([np.zeros(0, np.int32), *map(self._alignments.__getitem__, utt_ids)])
        feats = np.concatenate([np.zeros((0, dim), np.float32), *map(self._feats.__getitem__, utt_ids)])
        pdf_ids = tid_to_pdf[transition_ids]
        order = np.argsort(pdf_ids, kind="stable")
        bounds = np.searchsorted(pdf_ids[order], np.arange(len(mixtures) + 1))
        stats = [
            accumulate(mixture, feats[order[start:stop]])
            for mixture, start, stop in zip(mixtures, bounds, bounds[1:], strict=False)
        ]
        return ShardStats(stats, np.bincount(transition_ids, minlength=len(tid_to_pdf)).astype(np.float64))

    def alignments(self) -> dict[str, IntVector]:
        """Return the transition-ids of each aligned utterance."""
        return self._alignments


class Shards:
    """Shards in their processes; a call goes to all of them, and the answers come in the shards' order."""

    def __init__(self, arguments: Sequence[tuple[Any, ...]]) -> None:
        """Start a process for each element, the arguments of its ``Shard``."""
        context = multiprocessing.get_context("spawn")
        self._connections: list[Connection] = []
        self._processes = []
        # One thread each: there are as many processes as cores, and sums must not depend on the threads.
        saved = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"
        try:
            for _ in arguments:
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs,), daemon=True)
                process.start()
                theirs.close()
                self._connections.append(ours)
                self._processes.append(process)
        finally:
            os.environ.pop("OMP_NUM_THREADS")
            if saved is not None:
                os.environ["OMP_NUM_THREADS"] = saved
        for connection, shard_arguments in zip(self._connections, arguments, strict=True):
            connection.send(shard_arguments)
        self._receive()

    def __enter__(self) -> "Shards":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.join()

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every shard with the same arguments."""
        for connection in self._connections:
            connection.send((method, arguments))
        return self._receive()

    def _receive(self) -> list[Any]:
        answers = [connection.recv() for connection in self._connections]
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return answers


def _serve(connection: Connection) -> None:
    try:
        shard = Shard(*connection.recv())
        connection.send(None)
        while True:
            method, arguments = connection.recv()
            connection.send(getattr(shard, method)(*arguments))
    except EOFError:
        return  # the parent has finished, or was killed
    except Exception as error:
        connection.send(error)
