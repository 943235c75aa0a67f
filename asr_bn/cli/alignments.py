"""``asr-bn alignments``: pdf-ids of a Kaldi alignment folder."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr_bn.cli.options import PIPE_TIMEOUT_S, NoPipes, PipeTimeout, Root, pipe_policy
from asr_bn.system.arrays import IntVector

if TYPE_CHECKING:
    from asr_bn.data.alignments import TidCounter
    from asr_bn.data.length_matching import LengthMatcher


def alignments(
    ali_dir: Annotated[Path, typer.Argument(help="Kaldi alignment folder: final.mdl, ali.*.gz.")],
    out: Annotated[
        str, typer.Argument(help="Kaldi wspecifier, such as ark:pdf.ark, ark,t:- or 'ark:| gzip -c > x.gz'.")
    ],
    phones: Annotated[bool, typer.Option("--phones", help="Write the phone of every frame instead.")] = False,
    feats: Annotated[Path | None, typer.Option(help="Compare the lengths with this feats.scp.")] = None,
    trim: Annotated[
        int, typer.Option(min=0, help="With --feats: cut up to so many frames from the longer one.")
    ] = 0,
    trimmed_feats: Annotated[
        str | None, typer.Option(help="With --feats: write a feats.scp with the cuts as Kaldi's ranges.")
    ] = None,
    root: Root = None,
    no_pipes: NoPipes = False,
    pipe_timeout: PipeTimeout = PIPE_TIMEOUT_S,
) -> None:
    """Write the pdf-ids of every utterance, as ali-to-pdf does.

    With --phones the phones, as ali-to-phones --per-frame does.

    Beside an archive of pdf-ids PDF.ark, PDF.ark.system.json keeps what they mean (phones, transition model,
    tree and counts), so that a model trained on it knows its phones.
    """
    from asr_bn.data.alignments import ali_archives
    from asr_bn.data.length_matching import LengthMatcher
    from asr_bn.kaldi_io.matrix_table import MatrixScp
    from asr_bn.system.stamps import is_done, mark_done

    if feats is None and (trim or trimmed_feats is not None):
        raise ValueError("--trim and --trimmed-feats need --feats")
    stamp, archive = _stamp(out)
    if feats is not None:
        scp = MatrixScp(feats, root, pipe_policy(no_pipes, pipe_timeout))
        if stamp is not None:
            stamp.unlink(missing_ok=True)  # it would vouch for an archive that has not been cut
        _write_trimmed(ali_dir, out, phones, LengthMatcher(scp, trim), trimmed_feats)
        return
    made_from = _made_from(ali_dir, out, phones)
    system = _system_path(out, phones) if ali_archives(ali_dir) else None
    if stamp is not None and is_done(stamp, made_from, [archive, *([system] if system else [])]):
        print(f"{ali_dir}: written to {out} already", file=sys.stderr)
        return
    _write(ali_dir, out, phones, None)
    if stamp is not None:
        mark_done(stamp, made_from)


def _write_trimmed(
    ali_dir: Path, out: str, phones: bool, matcher: "LengthMatcher", trimmed_feats: str | None
) -> None:
    """Write ``out`` and, only when it is whole, the script file of the features that belong to it."""
    from asr_bn.kaldi_io.wxfilename import open_output

    with nullcontext() if trimmed_feats is None else open_output(trimmed_feats) as script:
        _write(ali_dir, out, phones, matcher)
        if script is not None:
            script.write("".join(f"{line}\n" for line in matcher.script).encode())
    print(
        f"{matcher.feats.path}: {len(matcher.trimmed)} utterances of unlike length, cut;"
        f" {len(matcher.without_feats)} aligned utterances have no features and are left out",
        file=sys.stderr,
    )


def _write(ali_dir: Path, out: str, phones: bool, matcher: "LengthMatcher | None") -> None:
    from asr_bn.data.alignments import TidCounter
    from asr_bn.data.kaldi_system import KaldiSystem, write_system
    from asr_bn.kaldi_io.int_vector_table import write_int_vectors

    counter, path = TidCounter(), _system_path(out, phones)
    if path is not None:
        path.unlink(missing_ok=True)  # one of other alignments does not stay alone
    num_utterances = write_int_vectors(out, _items(ali_dir, phones, matcher, counter))
    print(f"{ali_dir}: {num_utterances} utterances", file=sys.stderr)
    if path is not None and counter.counts.size:
        write_system(path, KaldiSystem.collect(ali_dir, counter.counts.tolist()))


def _system_path(out: str, phones: bool) -> Path | None:
    """Return where the system goes, if the archive is a file of pdf-ids that stays."""
    from asr_bn.data.kaldi_system import system_path

    stamp, archive = _stamp(out)
    return None if stamp is None or phones else system_path(archive)


def _stamp(out: str) -> tuple[Path | None, Path]:
    """Stamp of the archive, where it is a file that stays, and the archive; it is the same in every form."""
    from asr_bn.kaldi_io.specifiers import parse_wspecifier
    from asr_bn.kaldi_io.wxfilename import is_file_name
    from asr_bn.system.files import find_place

    name = parse_wspecifier(out).archive
    path = Path(name)
    if not is_file_name(name) or not find_place(path)[1]:
        return None, path
    return path.parent / f".{path.name}.done", path


def _made_from(ali_dir: Path, out: str, phones: bool) -> str:
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.system.stamps import fingerprint

    return fingerprint({"phones": phones, "out": out}, SourceFiles.of_alignments(ali_dir).small)


def _items(
    ali_dir: Path, phones: bool, matcher: "LengthMatcher | None", counter: "TidCounter"
) -> "Iterator[tuple[str, IntVector]]":
    from tqdm import tqdm

    from asr_bn.data.alignments import iter_pdf_ids

    any_written = False
    entries = iter_pdf_ids(ali_dir, phones, counter)
    for utt_id, vector, _ in tqdm(entries, desc="alignments", unit="utt", delay=2.0):
        matched = vector if matcher is None else matcher.match(utt_id, vector)
        if matched is not None:
            any_written = True
            yield utt_id, matched
        elif matcher is not None and matcher.empty[-1:] == [utt_id]:
            print(f"{utt_id}: no frames in its features or its alignment, left out", file=sys.stderr)
    if not any_written:
        which = "alignments" if matcher is None else f"alignments with frames in {matcher.feats.path}"
        raise ValueError(f"{ali_dir}: no {which}")
