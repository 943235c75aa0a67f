"""``asr-bn align`` on one core: how many times real time, and what of it the network takes.

    python -m bench.align MODEL.onnx LANG_OR_DICT DATA_DIR [--mdl FINAL.mdl] [--rounds 3]

The clock starts when the imports are done and stops when all of OUT is on disk: audio is read, features and
posteriors are computed, texts aligned, files written.  ``scoring`` is the same with the posteriors thrown
away.  The median of the rounds is told, by the clock and by the processor, which on a busy machine compare
better.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from asr_bn.cli.align import align
from asr_bn.scoring.corpus import score_blocks
from asr_bn.scoring.inputs import ScoringInput
from asr_bn.scoring.scorer import AcousticScorer


def score(model: Path, data_dir: Path) -> None:
    """Compute the posteriors of a data folder."""
    scorer = AcousticScorer.load(model, "cpu", num_threads=1)
    feats, _ = ScoringInput(scorer.metadata.fbank).feats([str(data_dir)])
    for scores in score_blocks(scorer, feats, num_threads=1):
        for _ in scores.blocks:
            pass


def measure(job: Callable[[], None], rounds: int) -> tuple[float, float]:
    """Median seconds by the clock and of the processor."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter(), time.process_time()
        job()
        seconds.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    clock, processor = (statistics.median(column) for column in zip(*seconds, strict=True))
    return clock, processor


def main() -> None:
    """Parse the command line, measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("lexicon", type=Path)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--mdl", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    audio_s = 0.0

    def align_once() -> None:
        nonlocal audio_s
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "out")
            align(options.model, options.lexicon, options.data_dir, out, mdl=options.mdl, device="cpu", nj=1)
            entries = json.loads((out / "align.json").read_text())["utterances"].values()
            audio_s = sum(entry["duration"] for entry in entries)

    aligning = measure(align_once, options.rounds)
    scoring = measure(lambda: score(options.model, options.data_dir), options.rounds)
    result: dict[str, float] = {"audio_s": round(audio_s, 1)}
    for name, (clock, processor) in (("align", aligning), ("scoring", scoring)):
        result |= {f"{name}_times_real_time": round(audio_s / clock, 1)}
        result |= {f"{name}_times_real_time_cpu": round(audio_s / processor, 1)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
