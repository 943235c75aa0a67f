"""``asr-bn alignments``: pdf-ids of a Kaldi alignment folder."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr_bn.cli import options

if TYPE_CHECKING:
    from asr_bn.data.alignments import TidCounter
    from asr_bn.data.length_matching import LengthMatcher
    from asr_bn.system.arrays import IntVector


def alignments(
    ali_dir: Annotated[Path, typer.Argument(help="Kaldi alignment folder: final.mdl, ali.*.gz.")],
    out: Annotated[
        str, typer.Argument(help="Kaldi wspecifier, such as ark:pdf.ark, ark,t:- or 'ark:| gzip -c > x.gz'.")
    ],
    phones: Annotated[bool, typer.Option("--phones", help="Write the phone of every frame instead.")] = False,
    feats: Annotated[
        Path | None,
        typer.Option(help="Compare the lengths with this feats.scp.", callback=options.script_path),
    ] = None,
    trim: Annotated[
        int, typer.Option(min=0, help="With --feats: most frames to cut from the longer one.")
    ] = 0,
    trimmed_feats: Annotated[
        str | None, typer.Option(help="With --feats: write a feats.scp with the cuts as Kaldi's ranges.")
    ] = None,
    root: options.Root = None,
    no_pipes: options.NoPipes = False,
    pipe_timeout: options.PipeTimeout = options.PIPE_TIMEOUT_S,
) -> None:
    """Write the pdf-ids of every utterance, as ali-to-pdf does.

    With --phones, write the phones, as ali-to-phones --per-frame does.

    Beside an archive of pdf-ids PDF.ark, PDF.ark.system.json keeps what they mean (phones, transition model,
    tree and counts), so that a model trained on it knows its phones.
    """
    from asr_bn.cli.stage import Stage, stamp_beside
    from asr_bn.data.alignments import ali_archives
    from asr_bn.data.kaldi_system import system_path
    from asr_bn.data.length_matching import LengthMatcher
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.kaldi_io.matrix_table import MatrixScp
    from asr_bn.kaldi_io.specifiers import parse_wspecifier
    from asr_bn.kaldi_io.wxfilename import is_file_name

    if feats is None and (trim or trimmed_feats is not None):
        raise ValueError("--trim and --trimmed-feats need --feats")
    target = parse_wspecifier(out)
    trimmed_feats = None if trimmed_feats is None else trimmed_feats.removeprefix("scp:")
    if trimmed_feats is not None and trimmed_feats in (target.archive, target.script):
        raise ValueError(f"--trimmed-feats is {trimmed_feats}, which {out} writes too")
    stamp = stamp_beside(Path(target.archive)) if is_file_name(target.archive) else None
    system = None if stamp is None or phones else system_path(Path(target.archive))
    if feats is not None:
        scp = MatrixScp(feats, root, options.pipe_policy(no_pipes, pipe_timeout))
        if stamp is not None:
            stamp.unlink(missing_ok=True)  # it would vouch for an archive that has not been cut
        _write_trimmed(ali_dir, out, phones, LengthMatcher(scp, trim), trimmed_feats, system)
        return
    sources = SourceFiles.of_alignments(ali_dir)
    outputs = [Path(name) for name in (target.archive, target.script) if name is not None]
    if system is not None and ali_archives(ali_dir):
        outputs.append(system)
    stage = Stage(stamp, outputs, {"phones": phones, "out": out}, sources)
    if not stage.is_done(f"{ali_dir}: written to {out} already"):
        _write(ali_dir, out, phones, None, system)
        stage.mark_done()


def _write_trimmed(
    ali_dir: Path,
    out: str,
    phones: bool,
    matcher: "LengthMatcher",
    trimmed_feats: str | None,
    system: Path | None,
) -> None:
    """Write ``out`` and, only when it is whole, the script file of the features that belong to it."""
    from asr_bn.kaldi_io.wxfilename import open_output

    with nullcontext() if trimmed_feats is None else open_output(trimmed_feats) as script:
        _write(ali_dir, out, phones, matcher, system)
        if script is not None:
            script.write("".join(f"{line}\n" for line in matcher.script).encode())
    print(
        f"{matcher.feats.path}: {len(matcher.trimmed)} utterances of unlike length, cut;"
        f" {len(matcher.without_feats)} aligned utterances have no features and are left out",
        file=sys.stderr,
    )


def _write(
    ali_dir: Path, out: str, phones: bool, matcher: "LengthMatcher | None", system: Path | None
) -> None:
    """Write ``out`` and, beside it as ``system``, what its pdf-ids mean."""
    from asr_bn.data.alignments import TidCounter
    from asr_bn.data.kaldi_system import KaldiSystem, write_system
    from asr_bn.kaldi_io.int_vector_table import write_int_vectors

    counter = TidCounter()
    if system is not None:
        system.unlink(missing_ok=True)  # one of other alignments does not stay alone
    num_utterances = write_int_vectors(out, _items(ali_dir, phones, matcher, counter))
    print(f"{ali_dir}: {num_utterances} utterances", file=sys.stderr)
    if system is not None and counter.counts.size:
        write_system(system, KaldiSystem.collect(ali_dir, counter.counts.tolist()))


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
