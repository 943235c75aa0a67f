"""``asr-bn alignments``: pdf-ids of a Kaldi alignment folder."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from asr_bn.length_matching import LengthMatcher


def alignments(
    ali_dir: Annotated[Path, typer.Argument(help="Kaldi alignment folder: final.mdl, ali.*.gz.")],
    out: Annotated[str, typer.Argument(help="Kaldi wspecifier, such as ark:pdf.ark or ark,t:-.")],
    phones: Annotated[bool, typer.Option("--phones", help="Write the phone of every frame instead.")] = False,
    feats: Annotated[Path | None, typer.Option(help="Compare the lengths with this feats.scp.")] = None,
    trim: Annotated[
        int, typer.Option(min=0, help="With --feats: cut up to so many frames from the longer one.")
    ] = 0,
    trimmed_feats: Annotated[
        Path | None, typer.Option(help="With --feats: write a feats.scp with the cuts as Kaldi's ranges.")
    ] = None,
) -> None:
    """Write the pdf-ids of every utterance, as ali-to-pdf does (or phones, as ali-to-phones --per-frame)."""
    from asr_bn.files import write_text
    from asr_bn.kaldi_io.int_vector_table import write_int_vectors
    from asr_bn.kaldi_io.matrix_table import MatrixScp
    from asr_bn.length_matching import LengthMatcher

    if feats is None and (trim or trimmed_feats is not None):
        raise ValueError("--trim and --trimmed-feats need --feats")
    matcher = None if feats is None else LengthMatcher(MatrixScp(feats), trim)
    num_utterances = write_int_vectors(out, _items(ali_dir, phones, matcher))
    print(f"{ali_dir}: {num_utterances} utterances", file=sys.stderr)
    if matcher is None:
        return
    if trimmed_feats is not None:
        write_text(trimmed_feats, "".join(f"{line}\n" for line in matcher.script))
    print(
        f"{feats}: {len(matcher.trimmed)} utterances of unlike length, cut;"
        f" {len(matcher.without_feats)} aligned utterances have no features and are left out",
        file=sys.stderr,
    )


def _items(
    ali_dir: Path, phones: bool, matcher: "LengthMatcher | None"
) -> "Iterator[tuple[str, NDArray[np.int32]]]":
    from tqdm import tqdm

    from asr_bn.alignments import iter_pdf_ids

    entries = iter_pdf_ids(ali_dir, phones=phones)
    for utt_id, vector, _ in tqdm(entries, desc="alignments", unit="utt", delay=2.0):
        matched = vector if matcher is None else matcher.match(utt_id, vector)
        if matched is not None:
            yield utt_id, matched
