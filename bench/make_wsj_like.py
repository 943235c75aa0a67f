"""A corpus of WSJ's size without WSJ: si284's distribution of lengths, random features and labels.

    python -m bench.make_wsj_like OUT                         # 36,000 utterances, 81 hours: 1.3 GB
    python -m bench.make_wsj_like OUT --utterances 2000 --plain

Writes ``OUT/train`` and ``OUT/dev`` (``feats.scp``, archives, ``fbank.conf``) and ``OUT/train_ali`` and
``OUT/dev_ali`` (``pdf.ark``, ``num_pdfs``): what ``asr-bn train`` takes.  Features are compressed as Kaldi
does unless ``--plain`` (4.8 GB).  Lengths are drawn from a gamma distribution of mean 8.1 s between 1 and
24.5 s.  So some 5 % are over 1300 frames, as the paper counted in si284.  Each utterance is cut from a
pool of random frames: writing is quick, and no two are alike.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr_bn.features.options import FbankOptions
from asr_bn.kaldi_io.int_vector_table import write_int_vectors
from asr_bn.kaldi_io.matrix_table import MatrixWriter
from asr_bn.system.files import write_text

FRAMES_PER_SECOND = 100
MEAN_SECONDS, SHORTEST, LONGEST = 8.1, 1.0, 24.5
SHAPE = 9.5  # of the gamma distribution: a deviation of 2.6 s
ARCHIVES = 8  # as many jobs as made the features
POOL = 200_000  # random frames
PHONE_FRAMES = 8  # about as long a pdf stays


def lengths(utterances: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return the frames of each utterance."""
    seconds = random.gamma(SHAPE, MEAN_SECONDS / SHAPE, utterances).clip(SHORTEST, LONGEST)
    return (seconds * FRAMES_PER_SECOND).astype(np.int64)


def write_set(
    folder: Path,
    name: str,
    num_frames: NDArray[np.int64],
    options: argparse.Namespace,
    random: np.random.Generator,
) -> None:
    """Write features and alignment of one set."""
    feats_dir, ali_dir = folder / name, folder / f"{name}_ali"
    pool = random.standard_normal((POOL, options.dim), dtype=np.float32)
    scripts = []
    for job, indices in enumerate(np.array_split(np.arange(len(num_frames)), ARCHIVES)):
        archive = feats_dir / f"feats.{job + 1}.ark"
        script = archive.with_suffix(".scp")
        with MatrixWriter(f"ark,scp:{archive},{script}", compress=not options.plain) as writer:
            for index in indices:
                first = random.integers(POOL - num_frames[index])
                writer.write(utt_id(index), pool[first : first + num_frames[index]])
        scripts.append(script.read_text())
        script.unlink()
    FbankOptions(num_mel_bins=options.dim - 1).write_conf(feats_dir / "fbank.conf")
    write_int_vectors(f"ark:{ali_dir}/pdf.ark", labels(num_frames, options.pdfs, random))
    write_text(ali_dir / "num_pdfs", f"{options.pdfs}\n")
    write_text(feats_dir / "feats.scp", "".join(scripts))


def utt_id(index: int) -> str:
    """Return an utterance id as WSJ's: speaker, then utterance."""
    return f"{index // 130:03d}c{index % 130:04d}"


def labels(
    num_frames: NDArray[np.int64], num_pdfs: int, random: np.random.Generator
) -> Iterator[tuple[str, NDArray[np.int32]]]:
    """Return pdf-ids that stay for a few frames each."""
    for index, length in enumerate(num_frames):
        pdf_ids = random.integers(0, num_pdfs, int(length) // PHONE_FRAMES + 1, dtype=np.int32)
        yield utt_id(index), np.repeat(pdf_ids, PHONE_FRAMES)[:length]


def main() -> None:
    """Write both sets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--utterances", type=int, default=36_000)
    parser.add_argument("--dev-utterances", type=int, default=500)
    parser.add_argument("--pdfs", type=int, default=3546)
    parser.add_argument("--dim", type=int, default=41)
    parser.add_argument("--plain", action="store_true", help="float32, not Kaldi's compressed form")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    for name, utterances in (("dev", options.dev_utterances), ("train", options.utterances)):
        num_frames = lengths(utterances, random)
        write_set(options.out, name, num_frames, options, random)
        hours = num_frames.sum() / FRAMES_PER_SECOND / 3600
        over = 100 * (num_frames > 1300).mean()
        print(
            f"{options.out / name}: {utterances} utterances, {num_frames.sum()} frames, {hours:.1f} hours, "
            f"{over:.1f} % over 1300 frames"
        )


if __name__ == "__main__":
    main()
