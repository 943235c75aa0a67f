"""``asr-bn align``: when each word and phone of a data folder's text is spoken."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr_bn.cli import options
from asr_bn.system.cores import available_cores

if TYPE_CHECKING:
    from asr_bn.data.kaldi_system import KaldiSystem
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.decoding.alignment.lexicon import Pronunciations
    from asr_bn.decoding.alignment.outputs import OutputFolder
    from asr_bn.features.options import FbankOptions

Lexicon = Annotated[
    Path,
    typer.Argument(
        metavar="LANG_OR_DICT",
        help="Lang folder (L.fst, words.txt, phones.txt), data/local/dict, or a lexicon file.",
    ),
]
Mdl = Annotated[
    Path | None,
    typer.Option(help="The final.mdl of the model's training alignments, or its folder [in the model]."),
]
Tree = Annotated[
    Path | None, typer.Option(help="Decision tree of the system [in the model, or beside --mdl].")
]
More = Annotated[
    Path | None, typer.Option("--dict", help="More pronunciations, as lexicon.txt or lexiconp.txt has them.")
]
Oov = Annotated[
    str | None, typer.Option(help="Word that stands for those without a pronunciation [in oov.txt].")
]
Reference = Annotated[
    Path | None,
    typer.Option(help="CTM file of phones whose times are known: OUT/boundaries.json compares them."),
]
SilencePhone = Annotated[str | None, typer.Option(help="Phone between words [in optional_silence.txt].")]
MinConfidence = Annotated[
    float, typer.Option(help="Name utterances whose words, or silences, have less on average.")
]
Shifts = Annotated[Path | None, typer.Option(help="Such a boundaries.json, by which times are corrected.")]


def align(
    model: options.Model,
    lexicon: Lexicon,
    data_dir: Annotated[Path, typer.Argument(help="Data folder: wav.scp (or feats.scp), text.")],
    out: Annotated[Path, typer.Argument(help="For ali.1.gz, words.ctm, phones.ctm, align.json, textgrid/.")],
    mdl: Mdl = None,
    tree: Tree = None,
    pronunciations: More = None,
    oov: Oov = None,
    silence_phone: SilencePhone = None,
    acoustic_scale: Annotated[float, typer.Option(help="Factor for the log likelihoods.")] = 0.1,
    prior_scale: Annotated[float, typer.Option(help="Share of the log prior to subtract.")] = 1.0,
    prior_floor: Annotated[float, typer.Option(help="Smallest prior, as a probability.")] = 0.0,
    beam: Annotated[float, typer.Option(help="Beam of the search, in scaled log likelihood.")] = 100.0,
    retry_beam: Annotated[float, typer.Option(help="Beam of a second search, where that fails.")] = 1000.0,
    min_confidence: MinConfidence = 0.5,
    reference: Reference = None,
    shifts: Shifts = None,
    nj: Annotated[int | None, typer.Option(min=1, help="Calls of the model at a time [cores].")] = None,
    device: Annotated[str, typer.Option(help="For the acoustic model: auto, cpu or cuda.")] = "auto",
    root: options.Root = None,
    channel: options.Channel = None,
    resample: options.Resample = False,
    no_pipes: options.NoPipes = False,
    pipe_timeout: options.PipeTimeout = options.PIPE_TIMEOUT_S,
) -> None:
    """Find when the words and phones of a text are spoken.

    OUT is an alignment folder as Kaldi's, with CTM files, TextGrids and align.json. Utterances that cannot be
    aligned are named and left out (OUT/failed.txt), those that fit badly are named (OUT/poor.txt); the exit
    code is 0 as long as one could be aligned.
    """
    from asr_bn.cli.stage import Stage
    from asr_bn.decoding.alignment.aligner import Aligner, AlignOptions
    from asr_bn.decoding.alignment.corpus import CorpusAligner
    from asr_bn.decoding.alignment.fit import Report
    from asr_bn.decoding.alignment.outputs import OUTPUTS
    from asr_bn.scoring.inputs import ScoringInput
    from asr_bn.scoring.scorer import AcousticScorer, floor_priors

    audio = options.audio_source(root, channel, resample, no_pipes, pipe_timeout)
    search = AlignOptions(acoustic_scale, prior_scale, beam, retry_beam)
    files = None if mdl is None else _hmm_files(options.model_of(mdl), tree)
    extra = [pronunciations, shifts, reference]
    settings = [vars(search), prior_floor, min_confidence, oov, silence_phone, root, channel, resample]
    sources = _sources([model, lexicon, *extra, *(files or ())], lexicon, data_dir, root)
    outputs = [out / name for name in OUTPUTS]
    stage = Stage(out / ".align.done", outputs, {"options": [*settings, *extra]}, sources)
    if stage.is_done(f"{out}: aligned already"):
        return
    scorer = AcousticScorer.load(model, options.device_of(device), num_threads=1)
    system = _system(scorer.metadata.system, files, lexicon)
    system.write(out)
    words = _pronunciations(lexicon, out / "phones.txt", silence_phone, oov, pronunciations)
    aligner = Aligner.of(words, system, floor_priors(scorer.metadata.log_priors, prior_floor), search)
    source, report = ScoringInput(scorer.metadata.fbank, audio), Report(min_confidence)
    corpus = CorpusAligner(scorer, aligner, source, nj or available_cores())
    folder = _folder(out, scorer.metadata.fbank, shifts, reference, words.silence_phone)
    folder.write(corpus.align(data_dir, report), report)
    stage.mark_done()


def _hmm_files(mdl: Path, tree: Path | None) -> tuple[Path, Path, Path]:
    """Name final.mdl, and phones.txt and tree beside it.

    Raises:
        OSError: a file that was asked for is missing.
    """
    for path in (mdl, tree or mdl):
        if not path.is_file():
            raise FileNotFoundError(2, "no such file of HMMs", str(path))
    return mdl, mdl.parent / "phones.txt", tree or mdl.parent / "tree"


def _system(
    known: "KaldiSystem | None", files: tuple[Path, Path, Path] | None, lexicon: Path
) -> "KaldiSystem":
    """Return the system in ``files``, else the model's, with phone names, perhaps from beside the lexicon."""
    from dataclasses import replace

    from asr_bn.data.kaldi_system import KaldiSystem
    from asr_bn.kaldi_io.phone_table import read_phone_names

    system = known if files is None else KaldiSystem.read(*files)
    if system is None:
        raise ValueError(
            "the model does not know its HMMs (it was trained on pdf-ids alone, or exported by an earlier "
            "version); name the final.mdl of its training alignments with --mdl"
        )
    if system.phone_names:
        return system
    folder = lexicon if lexicon.is_dir() else lexicon.parent
    return replace(system, phone_names=read_phone_names(folder / "phones.txt"))


def _pronunciations(
    lexicon: Path, phones: Path, silence_phone: str | None, oov: str | None, more: Path | None
) -> "Pronunciations":
    from asr_bn.decoding.alignment.lexicon import Pronunciations

    words = Pronunciations.read(lexicon, phones, silence_phone, oov)
    return words if more is None else words.with_entries(more)


def _folder(
    out: Path, fbank: "FbankOptions", shifts: Path | None, reference: Path | None, silence_phone: str
) -> "OutputFolder":
    from asr_bn.decoding.alignment.boundaries import NO_SHIFTS, Boundaries, BoundaryShifts, read_ctm
    from asr_bn.decoding.alignment.outputs import OutputFolder
    from asr_bn.decoding.alignment.result import FrameTimes

    corrected = NO_SHIFTS if shifts is None else BoundaryShifts.read(shifts)
    compared = None if reference is None else Boundaries(read_ctm(reference), silence_phone)
    return OutputFolder(out, FrameTimes.of(fbank), corrected, compared)


def _sources(inputs: list[Path | None], lexicon: Path, data_dir: Path, root: Path | None) -> "SourceFiles":
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.decoding.alignment.lexicon import FILES

    files = [path for path in (*inputs, *(lexicon / name for name in FILES)) if path is not None]
    return SourceFiles.of(files) + SourceFiles.of_data_dir(data_dir, root)
