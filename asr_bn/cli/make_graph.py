"""``asr-bn make-graph``: a small HCLG without Kaldi."""

from pathlib import Path
from typing import Annotated

import typer

from asr_bn.cli import options
from asr_bn.system.notes import print_note

LexiconDir = Annotated[
    Path,
    typer.Argument(
        help="Such as data/local/dict: lexiconp_silprob.txt, lexiconp.txt or lexicon.txt, "
        "optional_silence.txt; phones.txt, where FINAL.mdl's folder has none. Or a lang folder."
    ),
]
Mdl = Annotated[
    Path,
    typer.Argument(
        metavar="FINAL.mdl", help="Of the system whose alignments were trained on, or its folder."
    ),
]


def make_graph(
    lexicon_dir: LexiconDir,
    mdl: Mdl,
    out_dir: Annotated[Path, typer.Argument(help="Folder for HCLG.fst, words.txt, final.mdl.")],
    arpa: Annotated[
        Path | None,
        typer.Option(help="N-gram model in ARPA format, gzipped or not.", callback=options.rereadable),
    ] = None,
    grammar: Annotated[
        Path | None,
        typer.Option(help="Rules 'NAME = words | ...' without recursion.", callback=options.rereadable),
    ] = None,
    lang: Annotated[
        Path | None, typer.Option(help="Folder with G.fst and words.txt, such as data/lang_test_bg.")
    ] = None,
    tree: Annotated[
        Path | None,
        typer.Option(
            help="Decision tree of the system [tree beside FINAL.mdl, if there is one].",
            callback=options.rereadable,
        ),
    ] = None,
) -> None:
    """Make a decoding graph without Kaldi.

    It is made of a lexicon and an ARPA file, a grammar or G.fst, for monophone and context-dependent systems.
    A lang folder as LEXICON_DIR has its own G.fst, and needs no option.
    """
    from asr_bn.cli.stage import Stage
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.decoding.build_graph import make_graph
    from asr_bn.decoding.lang_dir import LANG_FILES
    from asr_bn.decoding.lexicon_fst import LEXICON_FILES
    from asr_bn.decoding.requirements import require_graph_tools

    require_graph_tools()
    mdl = options.model_of(mdl)
    if tree is None and (mdl.parent / "tree").is_file():
        tree = mdl.parent / "tree"
    inputs = {"arpa": arpa, "grammar": grammar, "lang": lang, "tree": tree, "mdl": mdl}
    paths = [path for path in inputs.values() if path is not None]
    paths += [lexicon_dir / name for name in (*LEXICON_FILES, *LANG_FILES)]
    paths += [] if lang is None else [lang / name for name in LANG_FILES]
    graph, sources = out_dir / "HCLG.fst", SourceFiles.of([*paths, mdl.parent / "phones.txt"])
    outputs = [graph, *(out_dir / name for name in ("G.fst", "words.txt", "final.mdl", "num_pdfs"))]
    stage = Stage(out_dir / ".graph.done", outputs, inputs, sources)
    if stage.is_done(f"{graph}: made already"):
        return
    remarks: list[str] = []
    fst = make_graph(lexicon_dir, mdl, out_dir, arpa, grammar, tree, lang, remarks.append)
    stage.mark_done()
    typer.echo(f"{graph}: {len(fst.finals)} states, {len(fst.arcs)} arcs", err=True)
    for remark in remarks:
        print_note(remark)
