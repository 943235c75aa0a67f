"""``asr-bn train-gmm``: alignments from speech and a lexicon, where there is no Kaldi system."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr_bn.cli import options

if TYPE_CHECKING:
    from collections.abc import Callable

    from asr_bn.cli.stage import Stage
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.gmm.corpus import GmmCorpus
    from asr_bn.gmm.stages import GmmTraining
    from asr_bn.gmm.system import GmmOptions

    Step = tuple[str, Path, Stage]

Dict = Annotated[
    Path,
    typer.Argument(
        metavar="DICT", help="Lang folder, dictionary folder (data/local/dict), or a lexicon file."
    ),
]
Development = Annotated[
    tuple[Path, Path] | None,
    typer.Option(metavar="DATA OUT", help="Align this data folder with the trained system, too."),
]
SilencePhone = Annotated[str | None, typer.Option(help="Phone between words [in optional_silence.txt].")]
StageName = Annotated[str, typer.Option("--stage", help="Where to end: mono, tri1 or lda-mllt.")]
Leaves = Annotated[
    int | None, typer.Option(min=1, help="Of the last stage's tree [one for 9 s; 4 a phone to 2500].")
]
Gaussians = Annotated[
    int | None, typer.Option(min=1, help="Of the last stage [one for 1.8 s; at most 1000, 10000, 15000].")
]


def train_gmm(
    data_dir: Annotated[Path, typer.Argument(metavar="DATA", help="Data folder: wav.scp, text, utt2spk.")],
    lexicon: Dict,
    out: Annotated[Path, typer.Argument(help="For ali.*.gz, final.mdl, tree, phones.txt, num_jobs.")],
    stage: StageName = "lda-mllt",
    development: Development = None,
    num_leaves: Leaves = None,
    num_gauss: Gaussians = None,
    num_iters: Annotated[int | None, typer.Option(min=2, help="Of each stage [40, 35, 35].")] = None,
    oov: Annotated[str | None, typer.Option(help="Word that stands for those without phones.")] = None,
    silence_phone: SilencePhone = None,
    beam: Annotated[float, typer.Option(help="Beam of a stage's last alignment.")] = 10.0,
    retry_beam: Annotated[float, typer.Option(help="Beam of a second search, where that fails.")] = 40.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of splitting Gaussians.")] = 0,
    nj: Annotated[int, typer.Option(min=1, help="Processes, and archives; sums depend on it.")] = 4,
    root: options.Root = None,
    channel: options.Channel = None,
    resample: options.Resample = False,
    no_pipes: options.NoPipes = False,
    pipe_timeout: options.PipeTimeout = options.PIPE_TIMEOUT_S,
) -> None:
    """Train a GMM on speech and text, and align them.

    OUT is an alignment folder as Kaldi's: 'asr-bn train', 'align --mdl' and 'make-graph' take it. The stages
    are monophones, triphones with deltas, and triphones with LDA and MLLT; OUT/mono and OUT/tri1 keep those
    before the last. There is no adaptation to speakers (fMLLR, SAT): the wheels have none.

    Utterances that cannot be aligned are named and left out (OUT/failed.txt). Run again after an
    interruption, it continues at the stage that was broken off.
    """
    from asr_bn.cli.stage import Stage
    from asr_bn.decoding.requirements import require_gmm_tools

    require_gmm_tools()
    from asr_bn.gmm.corpus import GmmCorpus
    from asr_bn.gmm.stages import GmmTraining, outputs_of
    from asr_bn.gmm.system import STAGES, GmmOptions

    _check(stage, STAGES, development, out)
    audio = options.audio_source(root, channel, resample, no_pipes, pipe_timeout)
    sources = _sources(lexicon, [data_dir, *(development or ())[:1]], root)
    settings = [seed, nj, num_iters, beam, retry_beam, oov, silence_phone, root, channel, resample]
    steps, pairs = list["Step"](), [development] if development else []
    for name in STAGES[: STAGES.index(stage) + 1]:
        own = [num_leaves, num_gauss, development] if name == stage else []
        folders = [out, *(development or ())[1:]] if name == stage else [out / name]
        of_stage = {"stage": name, "options": settings + own}
        made = Stage(folders[0] / ".train_gmm.done", outputs_of(folders, nj), of_stage, sources)
        steps.append((name, folders[0], made))
    if made.is_done(f"{out}: trained already"):
        return
    training = GmmTraining.read(data_dir, lexicon, audio, out, oov, silence_phone)
    size, words = (training.corpus.num_frames, len(training.sets.sets)), training.lexicon

    def sizes(name: str) -> GmmOptions:
        own = (num_leaves, num_gauss) if name == stage else (None, None)
        scaled = GmmOptions.scaled(name, *size, *own, num_iters)
        return replace(scaled, seed=seed, num_jobs=nj, beam=beam, retry_beam=retry_beam)

    _train(training, steps, sizes, {o: GmmCorpus.read(d, words, audio) for d, o in pairs})


def _train(
    training: "GmmTraining",
    steps: "list[Step]",
    sizes: "Callable[[str], GmmOptions]",
    others: "dict[Path, GmmCorpus]",
) -> None:
    """Do the stages that are not done; the last one, which is not, aligns ``others`` too."""
    before = None
    for number, (name, folder, stage) in enumerate(steps, start=1):
        is_last = number == len(steps)
        if is_last or not stage.is_done(f"{folder}: trained already"):
            training.run(name, sizes(name), before, folder, others if is_last else None)
            stage.mark_done()
        before = folder


def _check(stage: str, stages: tuple[str, ...], development: tuple[Path, Path] | None, out: Path) -> None:
    """Refuse an unknown stage, and one folder for two sets."""
    if stage not in stages:
        raise ValueError(f"--stage is {stage!r}, expected one of {', '.join(stages)}")
    if development is not None and development[1].resolve() == out.resolve():
        raise ValueError(f"--development: its OUT, {out}, is the training data's")


def _sources(lexicon: Path, data_dirs: list[Path], root: Path | None) -> "SourceFiles":
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.decoding.alignment.lexicon import FILES as LEXICON_FILES
    from asr_bn.gmm.phone_sets import FILES as PHONE_FILES

    folder = lexicon if lexicon.is_dir() else lexicon.parent
    sources = SourceFiles.of([lexicon, *(folder / name for name in (*LEXICON_FILES, *PHONE_FILES))])
    for data_dir in data_dirs:
        sources += SourceFiles.of_data_dir(data_dir, root)
    return sources
