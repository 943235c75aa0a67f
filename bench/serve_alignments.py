"""What ``/v1/alignments`` adds to ``/v1/posteriors``, for utterances of about five seconds.

    python -m bench.serve_alignments MODEL.onnx DIR_OR_DICT DATA_DIR [--pairs 400]

The features of consecutive utterances are joined to 450 to 550 frames, and their texts with them.  Each is
sent to both routes of one server, one right after the other, as `bench.serve_pairs` does.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_plus

import numpy as np

from asr_bn.decoding.alignment.corpus import read_texts
from asr_bn.scoring.inputs import ScoringInput
from asr_bn.scoring.scorer import AcousticScorer
from bench.peers.batch import npy
from bench.serve import NPY, head_of, server
from bench.serve_pairs import pairs

FRAMES = range(450, 551)


def requests(model: Path, data_dir: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield the request for an alignment and the one for posteriors of each utterance."""
    texts, source = (
        read_texts(data_dir / "text"),
        ScoringInput(AcousticScorer.load(model, "cpu").metadata.fbank),
    )
    feats, words = [], list[str]()
    for utt_id, values in source.feats([str(data_dir)])[0]:
        feats.append(values)
        words += texts[utt_id]
        num_frames = sum(map(len, feats))
        if num_frames in FRAMES:
            body = npy(np.concatenate(feats))
            length, text = b"%d" % len(body), quote_plus(" ".join(words))
            heads = (head_of(f"/v1/alignments?text={text}", NPY, "*/*"), head_of("/v1/posteriors", NPY, NPY))
            first, second = (head.replace(b"%d", length) + body for head in heads)
            yield first, second
        if num_frames >= FRAMES.start:
            feats, words = [], []


def main() -> None:
    """Compare, and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("lang", type=Path)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--pairs", type=int, default=400)
    arguments = parser.parse_args()
    asked, log = list(requests(arguments.model, arguments.data_dir)), Path("/tmp/bench-alignments.log")
    with server("asr-bn", arguments.model, "cpu", log, ASR_BN_LANG=str(arguments.lang)) as port:
        found = pairs([port, port], asked, arguments.pairs)
    print(json.dumps({"utterances": len(asked)} | found, indent=2))


if __name__ == "__main__":
    main()
