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
    """Write the pdf-ids of every utterance, as ali-to-pdf does.

    With --phones the phones, as ali-to-phones --per-frame does.
    """
    from asr_bn.files import write_text
    from asr_bn.kaldi_io.int_vector_table import write_int_vectors
    from asr_bn.kaldi_io.matrix_table import MatrixScp
    from asr_bn.length_matching import LengthMatcher
    from asr_bn.stamps import is_done, mark_done

    if feats is None and (trim or trimmed_feats is not None):
        raise ValueError("--trim and --trimmed-feats need --feats")
    stamp, made_from = _stamp(ali_dir, out, phones)
    if stamp is not None and feats is not None:
        stamp.unlink(missing_ok=True)  # it would vouch for an archive that has not been cut
        stamp = None
    if stamp is not None and is_done(stamp, made_from, [Path(out.removeprefix("ark:"))]):
        print(f"{ali_dir}: written to {out} already", file=sys.stderr)
        return
    matcher = None if feats is None else LengthMatcher(MatrixScp(feats), trim)
    num_utterances = write_int_vectors(out, _items(ali_dir, phones, matcher))
    print(f"{ali_dir}: {num_utterances} utterances", file=sys.stderr)
    if stamp is not None:
        mark_done(stamp, made_from)
    if matcher is None:
        return
    if trimmed_feats is not None:
        write_text(trimmed_feats, "".join(f"{line}\n" for line in matcher.script))
    print(
        f"{feats}: {len(matcher.trimmed)} utterances of unlike length, cut;"
        f" {len(matcher.without_feats)} aligned utterances have no features and are left out",
        file=sys.stderr,
    )


def _stamp(ali_dir: Path, out: str, phones: bool) -> tuple[Path | None, str]:
    """Stamp of an archive in a file, and what that is made from; None for text, pipes and scp."""
    from asr_bn.alignments import ali_archives, find_model
    from asr_bn.stamps import fingerprint

    name = out.removeprefix("ark:")
    archives = ali_archives(ali_dir)
    if name == out or name == "-" or "|" in name or not archives:
        return None, ""
    path = Path(name)
    made_from = fingerprint({"phones": phones}, [*archives, find_model(ali_dir)])
    return path.parent / f".{path.name}.done", made_from


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
