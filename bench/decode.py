"""Lattices against ten searches: seconds of a core for the same utterances, scales tried on both.

    asr-bn posteriors MODEL.onnx DATA_DIR ark:loglikes.ark --output log_likelihood
    python -m bench.decode GRAPH_DIR loglikes.ark [--mdl final.mdl]

The peer is Kaldi's ``FasterDecoder`` (kaldi-decoder), once for each scale of `asr_bn.decoding.tuning`.
Ours makes a lattice and takes its best path for each scale and penalty.  The bar is at most the peer's time;
the best path at the search's own scale must be the same.
"""

import argparse
import time
from pathlib import Path

from asr_bn.decoding.graph import DecodingGraph
from asr_bn.decoding.lattices.decoder import DEFAULT_SCALE, LatticeDecoder, LatticeOptions
from asr_bn.decoding.search_options import BeamOptions, ScoreWeights
from asr_bn.decoding.tuning import SCALES, candidates
from asr_bn.kaldi_io.matrix_table import read_matrices
from tests.helpers.beam_search import BeamSearch


def main() -> None:
    """Decode every utterance both ways and print seconds, and where best paths differ."""
    parser = argparse.ArgumentParser(prog="python -m bench.decode", description=main.__doc__)
    parser.add_argument("graph_dir", type=Path)
    parser.add_argument("log_likelihoods", type=Path)
    parser.add_argument("--mdl", type=Path)
    arguments = parser.parse_args()
    graph = DecodingGraph.load(arguments.graph_dir, arguments.mdl)
    search = BeamSearch(graph, BeamOptions())
    decoder = LatticeDecoder(graph, BeamOptions(), LatticeOptions())
    scales, tried = [ScoreWeights(scale) for scale in SCALES], candidates(None, None)
    own = tried.index(ScoreWeights(DEFAULT_SCALE))
    seconds, num_frames, different = {"ten searches": 0.0, "lattice": 0.0}, 0, []
    for utt_id, rows in read_matrices(f"ark:{arguments.log_likelihoods}"):
        begin = time.process_time()
        peer = search.decode_blocks([rows], scales)
        between = time.process_time()
        ours = decoder.decode([rows], tried)
        seconds["ten searches"] += between - begin
        seconds["lattice"] += time.process_time() - between
        num_frames += len(rows)
        if peer[SCALES.index(DEFAULT_SCALE)].words != ours.words[own]:
            different.append(utt_id)
    for name, its in seconds.items():
        print(f"{name}: {its:.2f} s for {num_frames} frames")
    print(f"best paths that differ: {' '.join(different) or 'none'}")


if __name__ == "__main__":
    main()
