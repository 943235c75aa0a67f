"""The self-loops of HMM states, put into a graph last.

Source: Kaldi ``AddSelfLoops`` of ``src/hmm/hmm-utils.cc``, with ``reorder``.
"""

import math

import numpy as np
from numpy.typing import NDArray

from asr_bn.decoding.fst_file import ARC, FstArrays
from asr_bn.decoding.hmms import Hmms
from asr_bn.system.arrays import Floats

SELF_LOOP_SCALE = 0.1


def add_self_loops(fst: FstArrays, hmms: Hmms) -> FstArrays:
    """Add self-loops after the transition into a state (Kaldi's ``reorder``), with their costs.

    A state's self-loop must be that of the HMM state that was just left.  If arcs of several HMM states (or
    none) lead to one state, those of each HMM state get a new state in front of it.
    """
    loop_of, stay, leave = _self_loops(hmms)
    arcs = fst.arcs.copy()
    entering = loop_of[arcs["ilabel"]]  # the self-loop that belongs behind each arc; 0 is none
    num_states = len(fst.finals)
    pairs = np.unique(np.stack([arcs["nextstate"], entering]), axis=1)
    kinds = np.bincount(pairs[0], minlength=num_states)
    kinds[fst.start] += 2  # nothing was left before it: its loops go in front of it
    alone = kinds[pairs[0]] == 1
    own_loop = np.zeros(num_states, dtype=np.int64)
    own_loop[pairs[0][alone]] = pairs[1][alone]
    shared = pairs[:, ~alone & (pairs[1] > 0)]
    new_state = {(int(s), int(t)): num_states + k for k, (s, t) in enumerate(shared.T)}
    for k in np.flatnonzero((entering > 0) & (own_loop[arcs["nextstate"]] == 0)):
        arcs["nextstate"][k] = new_state[int(arcs["nextstate"][k]), int(entering[k])]
    sources = np.repeat(np.arange(num_states), np.diff(fst.first_arcs))
    arcs["weight"] += leave[own_loop[sources]]
    at_own = np.flatnonzero(own_loop)
    own = _arcs(own_loop[at_own], stay[own_loop[at_own]], at_own)
    front_states = num_states + np.arange(shared.shape[1])
    front = _arcs(shared[1], stay[shared[1]], front_states)
    back = _arcs(np.zeros(shared.shape[1], np.int64), leave[shared[1]], shared[0])
    finals = np.concatenate([fst.finals + leave[own_loop], np.full(shared.shape[1], np.inf)]).astype(
        np.float32
    )
    return FstArrays.from_arcs(
        fst.start,
        finals,
        np.concatenate([at_own, sources, front_states, front_states]),
        np.concatenate([own, arcs, front, back]),
    )


def _self_loops(hmms: Hmms) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Map transition-ids to self-loops of the states they leave, and these to costs to stay and leave."""
    size = hmms.num_transition_ids + 1
    loop_of = np.zeros(size, dtype=np.int64)
    stay, leave = np.zeros(size, dtype=np.float32), np.zeros(size, dtype=np.float32)
    for transitions in hmms.transitions.values():
        for loop in (t for t in transitions if t.source == t.target):
            stay[loop.transition_id] = -SELF_LOOP_SCALE * loop.log_prob
            leave[loop.transition_id] = -SELF_LOOP_SCALE * math.log1p(-math.exp(loop.log_prob))
            for t in transitions:
                if t.source == loop.source and t is not loop:
                    loop_of[t.transition_id] = loop.transition_id
    return loop_of, stay, leave


def _arcs(ilabels: NDArray[np.int64], weights: Floats, targets: NDArray[np.int64]) -> NDArray[np.void]:
    arcs = np.zeros(len(ilabels), dtype=ARC)
    arcs["ilabel"], arcs["weight"], arcs["nextstate"] = ilabels, weights, targets
    return arcs
