"""``asr-bn alignments``: pdf-ids of a Kaldi alignment folder."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def alignments(
    ali_dir: Annotated[Path, typer.Argument(help="Kaldi alignment folder: final.mdl, ali.*.gz.")],
    out: Annotated[str, typer.Argument(help="Kaldi wspecifier, such as ark:pdf.ark or ark,t:-.")],
    phones: Annotated[bool, typer.Option("--phones", help="Write the phone of every frame instead.")] = False,
) -> None:
    """Write the pdf-ids of every utterance, as ali-to-pdf does (or phones, as ali-to-phones --per-frame)."""
    from tqdm import tqdm

    from asr_bn.alignments import iter_pdf_ids
    from asr_bn.kaldi_io.int_vector_table import write_int_vectors

    num_frames = 0

    def items() -> "Iterator[tuple[str, NDArray[np.int32]]]":
        nonlocal num_frames
        entries = iter_pdf_ids(ali_dir, phones=phones)
        for utt_id, vector, _ in tqdm(entries, desc="alignments", unit="utt", delay=2.0):
            num_frames += len(vector)
            yield utt_id, vector

    num_utterances = write_int_vectors(out, items())
    print(f"{ali_dir}: {num_utterances} utterances, {num_frames} frames", file=sys.stderr)
