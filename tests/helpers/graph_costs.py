"""What tests of decoding graphs share: the command, and costs of sentences worked out without a graph."""

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.decoding.graph import DecodingGraph
from asr_bn.decoding.hmms import Hmm, Hmms
from asr_bn.decoding.lexicon_fst import Lexicon
from asr_bn.decoding.search_options import BeamOptions
from asr_bn.decoding.self_loops import SELF_LOOP_SCALE
from asr_bn.kaldi_io.context_dependency import ContextDependency
from asr_bn.kaldi_io.transition_model import TransitionModel
from asr_bn.system.arrays import Floats
from tests.helpers.beam_search import BeamSearch


def run(*arguments: object) -> str:
    """``asr-bn make-graph``: what it said, or its error."""
    result = CliRunner().invoke(app, ["make-graph", *map(str, arguments)])
    return f"error: {result.exception}" if result.exit_code else result.stderr


def cheapest_way(hmms: Sequence[Hmm], frames: Floats, tid_to_pdf: NDArray[np.int32]) -> float:
    """Cost of the best path through ``hmms`` one after the other, infinite if it does not fit the frames."""
    steps: list[dict[int, list[tuple[int, float, int]]]] = []
    for hmm in hmms:
        stay = {t.source: math.exp(t.log_prob) for t in hmm.transitions if t.source == t.target}
        step: dict[int, list[tuple[int, float, int]]] = {}
        for t in hmm.transitions:
            cost = -SELF_LOOP_SCALE * t.log_prob
            if t.source != t.target:
                cost = (1 - SELF_LOOP_SCALE) * math.log(1 - stay[t.source]) - t.log_prob
            step.setdefault(t.source, []).append((t.target, cost, int(tid_to_pdf[t.transition_id])))
        steps.append(step)
    best = {(0, 0): 0.0}
    for frame in frames:
        after: dict[tuple[int, int], float] = {}
        for (place, state), cost in best.items():
            for target, added, pdf in steps[place][state] if place < len(steps) else ():
                at = (place + 1, 0) if target == hmms[place].end_state else (place, target)
                after[at] = min(after.get(at, math.inf), cost + added + float(frame[pdf]))
        best = after
    return best.get((len(steps), 0), math.inf)


class Sentences:
    """Costs of sentences with a lexicon and a model, whatever silence is best in them."""

    def __init__(self, lexicon: Lexicon, mdl: Path, tree: Path | None) -> None:
        self.lexicon, self.hmms, self.model = lexicon, Hmms.read(mdl), TransitionModel.read(mdl)
        self.tree = None if tree is None else ContextDependency.read(tree)

    def cost(self, words: Sequence[str], frames: Floats, silence_cost: Callable[..., float]) -> float:
        """Without the words' own: ``silence_cost`` is told of entries and of silence at each place."""
        entries = [[k for k, e in enumerate(self.lexicon.entries) if e[0] == word] for word in words]
        costs = []
        for chosen in itertools.product(*entries):
            for silences in itertools.product([False, True], repeat=len(words) + 1):
                phones = [self.lexicon.silence_phone] * silences[0]
                for entry, silence in zip(chosen, silences[1:], strict=True):
                    phones += [*self.lexicon.entries[entry][2], *[self.lexicon.silence_phone] * silence]
                fixed = silence_cost(chosen, silences)
                fixed -= sum(math.log(self.lexicon.entries[entry][1]) for entry in chosen)
                costs.append(fixed + cheapest_way(self._hmms(phones), frames, self.model.tid_to_pdf))
        return min(costs)

    def _hmms(self, phones: Sequence[str]) -> list[Hmm]:
        numbers = [self.lexicon.phone_ids[phone] for phone in phones]
        if self.tree is None:
            alone = self.hmms.without_context()
            return [alone[number] for number in numbers]
        padded = [0, *numbers, 0]
        return [self.hmms.in_context(padded[k : k + 3], self.tree) for k in range(len(numbers))]


def check_costs(
    graph_dir: Path,
    sentences: Sentences,
    lm_cost: Callable[[Sequence[str]], float],
    silence_cost: Callable[..., float],
    others: Sequence[Sequence[str]],
    lengths: Sequence[int],
    beam: float,
) -> None:
    """The best path costs what its sentence does, and no other sentence is cheaper."""
    search = BeamSearch(DecodingGraph.load(graph_dir), BeamOptions(beam=beam, max_active=1_000_000))
    rng, heard = np.random.default_rng(0), set()
    for num_frames in lengths:
        scores = 3 * rng.normal(size=(num_frames, sentences.model.num_pdfs)).astype(np.float32)
        path = search.decode(scores, 1.0)
        assert path.is_complete
        total = path.graph_cost + path.acoustic_cost
        own = sentences.cost(path.words, -scores, silence_cost) + lm_cost(path.words)
        assert total == pytest.approx(own, abs=0.03)  # minimization rounds costs to 1/1024 on its way
        for words in others:
            assert sentences.cost(words, -scores, silence_cost) + lm_cost(words) > total - 0.03
        heard.add(path.words)
    assert len(heard) > 1
