"""``asr-bn make-graph``: a small HCLG without Kaldi."""

from pathlib import Path
from typing import Annotated

import typer


def make_graph(
    lexicon_dir: Annotated[
        Path,
        typer.Argument(
            metavar="LEXICON_DIR",
            help="Such as data/local/dict: lexiconp.txt (or lexicon.txt), optional_silence.txt; phones.txt, "
            "where FINAL.mdl's folder has none.",
        ),
    ],
    mdl: Annotated[
        Path,
        typer.Argument(
            metavar="FINAL.mdl", help="Of the system whose alignments were trained on, or its folder."
        ),
    ],
    out_dir: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="For HCLG.fst, words.txt, final.mdl.")],
    arpa: Annotated[Path | None, typer.Option(help="N-gram model in ARPA format.")] = None,
    grammar: Annotated[
        Path | None, typer.Option(help="Rules 'NAME = words | ...' without recursion.")
    ] = None,
    tree: Annotated[
        Path | None,
        typer.Option(help="Decision tree of the system [tree beside FINAL.mdl, if there is one]."),
    ] = None,
) -> None:
    """Make a decoding graph without Kaldi.

    From a lexicon and an ARPA file or a grammar, for monophone and context-dependent systems.
    """
    from asr_bn.alignments import find_model
    from asr_bn.decoding.build_graph import make_graph
    from asr_bn.decoding.requirements import require_graph_tools
    from asr_bn.stamps import fingerprint, is_done, mark_done

    require_graph_tools()
    mdl = find_model(mdl) if mdl.is_dir() else mdl
    if tree is None and (mdl.parent / "tree").is_file():
        tree = mdl.parent / "tree"
    names = ("lexiconp.txt", "lexicon.txt", "phones.txt", "optional_silence.txt")
    sources = [lexicon_dir / name for name in names] + [mdl, mdl.parent / "phones.txt"]
    sources += [path for path in (arpa, grammar, tree) if path]
    made_from = fingerprint({}, [path for path in sources if path.is_file()])
    stamp, graph = out_dir / ".graph.done", out_dir / "HCLG.fst"
    if is_done(stamp, made_from, [graph, out_dir / "words.txt"]):
        typer.echo(f"{graph}: made already", err=True)
        return
    fst = make_graph(lexicon_dir, mdl, out_dir, arpa, grammar, tree)
    mark_done(stamp, made_from)
    typer.echo(f"{graph}: {len(fst.finals)} states, {len(fst.arcs)} arcs", err=True)
