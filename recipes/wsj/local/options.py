"""The options of ``recipes/wsj/run.sh``; ``python3 options.py OPTION VALUE ...`` prints shell assignments.

It needs the standard library alone, so that a mistake is reported before an environment is set up.
"""

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

RECIPE = Path(__file__).parents[1]
# Far above what anybody runs: over them the shell's arithmetic overflows, or the seeds fill the memory.
_BOUNDS = {"seed": (0, 10**18 - 1), "num_seeds": (1, 9999), "nj": (1, 9999)}
_BOUNDS |= {"stage": (0, 999), "stop_stage": (0, 999), "realign": (0, 99)}
# The stages before the first round of --realign.
_NUM_STAGES = 10
_LEXICONS = ("L.fst", "lexiconp_silprob.txt", "lexiconp.txt", "lexicon.txt")
_FILTERS = ("wer_output_filter", "wer_ref_filter", "wer_hyp_filter")


@dataclass(frozen=True)
class Options:
    """Values as the shell takes them, with the defaults of ``run.sh --help``; empty is what was not given."""

    kaldi: str = ""
    train: str = "data/train_si284"
    dev: str = "data/test_dev93"
    train_ali: str = "exp/tri4b_ali_si284"
    dev_ali: str = "exp/tri4b_ali_dev93"
    graph: str = ""
    wer_filter: str = ""
    realign: str = "0"
    lang: str = "data/lang"
    rescore_arpa: str = ""
    rescore_lm: str = ""
    corpus: str = ""
    config: str = ""
    fbank_conf: str = ""
    out: str = ""
    seed: str = "1"
    num_seeds: str = ""
    minutes: str = "30"
    dev_minutes: str = "4"
    device: str = "auto"
    nj: str = ""
    stage: str = "1"
    stop_stage: str = ""


def parse(arguments: Sequence[str]) -> Options | None:
    """Return the options of a command line, or None where it asks for help.

    Raises:
        ValueError: an unknown option, or a value that does not fit.
    """
    names = {f"--{field.name.replace('_', '-')}": field.name for field in fields(Options)}
    values: dict[str, str] = {}
    rest = iter(arguments)
    for option in rest:
        if option in ("-h", "--help"):
            return None
        if option not in names:
            raise ValueError(f"unknown option {option} (see --help)")
        value = next(rest, None)
        if value is None:
            raise ValueError(f"{option} needs a value")
        values[names[option]] = _checked(option, names[option], value)
    _check_together(options := Options(**values))
    return options


def _checked(option: str, name: str, value: str) -> str:
    """Return ``value`` as the shell needs it: whole numbers without the zeros that would make them octal."""
    if name in _BOUNDS:
        smallest, largest = _BOUNDS[name]
        if re.fullmatch("0*[0-9]{1,18}", value) is None or not smallest <= int(value) <= largest:
            raise ValueError(f"{option} is '{value}', expected a whole number from {smallest} to {largest}")
        return str(int(value))
    if name in ("minutes", "dev_minutes"):
        if re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,9})?", value) is None:
            raise ValueError(f"{option} is '{value}', expected a number below 100000")
    elif not value:
        raise ValueError(f"{option} needs a value, found ''")
    return value


def _check_together(given: Options) -> None:
    if given.device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"--device is '{given.device}', expected auto, cpu or cuda")
    if given.kaldi and not Path(given.kaldi).is_dir():
        raise ValueError(f"--kaldi {given.kaldi}: no such folder")
    files = {"--config": given.config, "--fbank-conf": given.fbank_conf}
    files |= {"--rescore-arpa": given.rescore_arpa, "--rescore-lm": given.rescore_lm}
    for option, name in files.items():
        if name and not Path(name).is_file():
            raise ValueError(f"{option} {name}: no such file")
    if not Path(given.wer_filter).exists():
        raise ValueError(f"--wer-filter {given.wer_filter}: no such file")
    if not given.kaldi and given.corpus not in ("", "mini"):
        raise ValueError(
            f"--corpus {given.corpus}: only mini is embedded; another corpus is named by --kaldi DIR"
        )


def complete(given: Options) -> Options:
    """Fill in what follows from other options and from the Kaldi folder, and say which graph was found.

    Raises:
        ValueError: there is no graph in the folder of ``--graph``, or nothing that ``--realign`` or rescoring
            needs.
    """
    corpus = given.corpus or _corpus_of(given.kaldi)
    out = given.out or f"exp/{corpus}"
    num_seeds = given.num_seeds or ("1" if given.kaldi else "3")
    stop_stage = given.stop_stage or str(_NUM_STAGES + int(given.realign))
    options = replace(given, corpus=corpus, out=out, num_seeds=num_seeds, stop_stage=stop_stage)
    options = replace(options, wer_filter=given.wer_filter or _find_wer_filter(options))
    if not given.kaldi:
        data, exp = f"{out}/corpus/data", f"{out}/corpus/exp"
        alignments = {"train_ali": f"{exp}/mono_ali_train", "dev_ali": f"{exp}/mono_ali_dev"}
        return replace(options, train=f"{data}/train", dev=f"{data}/dev", lang=f"{data}/local", **alignments)
    names = ("train", "dev", "train_ali", "dev_ali", "lang")
    options = replace(options, **{name: _below(given.kaldi, getattr(given, name)) for name in names})
    graph = _named_graph(given) if given.graph else _find_graph(options.train_ali)
    if (given.rescore_arpa or given.rescore_lm) and not graph:
        raise ValueError("--rescore-arpa and --rescore-lm need a graph to decode with (--graph DIR)")
    if given.realign != "0":
        _check_realign(options)
    return replace(options, graph=graph)


def _check_realign(options: Options) -> None:
    """Refuse to align without pronunciations or words."""
    lang = Path(options.lang)
    if not lang.is_file() and not any((lang / name).is_file() for name in _LEXICONS):
        raise ValueError(
            f"--realign needs pronunciations, but {lang} has no {', '.join(_LEXICONS[:-1])} or "
            f"{_LEXICONS[-1]}; name a lang or dictionary folder with --lang"
        )
    for folder in (options.train, options.dev):
        if not Path(folder, "text").is_file():
            raise ValueError(f"--realign needs the words that were spoken, but {folder} has no text")


def _corpus_of(kaldi: str) -> str:
    """Name a corpus after its recipe folder, ``wsj`` for ``egs/wsj/s5``."""
    if not kaldi:
        return "mini"
    # PWD keeps links, as the user named them.
    folder = Path(os.path.normpath(Path(os.environ.get("PWD", os.curdir), kaldi).absolute()))
    return folder.parent.name if re.fullmatch("s[0-9]+[a-z]?", folder.name) else folder.name


def _find_wer_filter(options: Options) -> str:
    """Return what Kaldi's scoring would use, which looks into ``local/``."""
    local = f"{options.kaldi}/local"
    if options.kaldi and any(os.access(f"{local}/{name}", os.X_OK) for name in _FILTERS):
        return local
    return f"{RECIPE}/local/wer_output_filter" if options.corpus == "wsj" else ""


def _below(folder: str, name: str) -> str:
    return name if name.startswith("/") else f"{folder}/{name}"


def _has_graph(folder: str) -> bool:
    return any(Path(folder, name).is_file() for name in ("HCLG.fst", "HCLG.fst.gz"))


def _named_graph(given: Options) -> str:
    for folder in (_below(given.kaldi, given.graph), given.graph):
        if _has_graph(folder):
            return folder
    raise ValueError(f"--graph {given.graph}: no HCLG.fst there or in {given.kaldi}/{given.graph}")


def _find_graph(train_ali: str) -> str:
    """Return the graph folder of the system whose alignments are trained on, if it has just one."""
    system = train_ali.rpartition("_ali")[0] or train_ali
    folders = [f"{system}/{path.name}" for path in sorted(Path(system).glob("graph*"))]
    found = [folder for folder in folders if _has_graph(folder)]
    if len(found) == 1:
        print(f"run.sh: the development set will be decoded with {found[0]}", file=sys.stderr)
        return found[0]
    if found:
        several = f"several graphs, so that nothing is decoded; choose with --graph: {' '.join(found)}"
        print(f"run.sh: {several}", file=sys.stderr)
    return ""


def print_assignments(values: Mapping[str, str]) -> None:
    """Print lines for the shell to evaluate; the bytes of file names need not be UTF-8."""
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in values.items()]
    sys.stdout.buffer.write(os.fsencode("".join(lines)))


if __name__ == "__main__":
    try:
        if (options := parse(sys.argv[1:])) is None:
            print("usage")
        else:
            print_assignments(vars(complete(options)))
    except ValueError as error:
        sys.exit(f"run.sh: error: {error}")
