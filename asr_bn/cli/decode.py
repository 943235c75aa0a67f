"""``asr-bn decode``: lattices, words and word error rate through a Kaldi graph."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr_bn.cli import options
from asr_bn.system.cores import available_cores

if TYPE_CHECKING:
    from asr_bn.cli.stage import Stage
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.decoding.choice import AnswerOptions
    from asr_bn.decoding.folder import Summary
    from asr_bn.decoding.graph_files import GraphFiles
    from asr_bn.decoding.lattices.nbest_rescoring import NBestRescorer
    from asr_bn.decoding.references import References, TuningData, WerFilter
    from asr_bn.decoding.word_errors import WordErrors
    from asr_bn.decoding.workers import SearchJob
    from asr_bn.scoring.scorer import AcousticScorer

Mdl = Annotated[
    Path | None,
    typer.Option(help="The graph's final.mdl, or its folder [in GRAPH_DIR, beside it, or of <system>_ali*]."),
]
AcousticScale = Annotated[float | None, typer.Option(help="[lowest WER on --tune-data; 0.1 without a text]")]
WordPenalty = Annotated[
    float | None,
    typer.Option(help="Cost of each word [0, 0.5 or 1, the best on --tune-data; 0 with --acoustic-scale]"),
]
LatticeBeam = Annotated[
    float, typer.Option(help="How much worse than the best path another in a lattice may be.")
]
NumBest = Annotated[int, typer.Option(min=0, help="Length of the lists in nbest.json; 0 writes none.")]
RescoreArpa = Annotated[
    Path | None, typer.Option(help="ARPA file; its costs of words replace the graph's in the lattices.")
]
RescoreLm = Annotated[
    Path | None,
    typer.Option(help="Language model (lm-export's model.onnx) for the 100 best of each lattice."),
]
LmScale = Annotated[
    float | None,
    typer.Option(help="Share of --rescore-lm in the words' costs [the best on --tune-data; 0.5 without]"),
]
Lang = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the graph's G.fst (rescoring) and phones/align_lexicon.int (times) [GRAPH_DIR]"
    ),
]
Filter = Annotated[
    Path | None,
    typer.Option(
        help="Program or sed script that filters both texts before errors are counted, as Kaldi's "
        "local/wer_output_filter; or its folder."
    ),
]
TuneData = Annotated[Path | None, typer.Option(help="Development data for scale and penalty [DATA_DIR].")]


def decode(
    model: options.Model,
    graph_dir: Annotated[Path, typer.Argument(help="Folder with HCLG.fst and words.txt.")],
    data_dir: Annotated[Path, typer.Argument(help="Data folder: wav.scp (or feats.scp), text.")],
    out_dir: Annotated[Path, typer.Argument(help="Folder for hyp.txt, lat.1.gz, wer.txt, decode.json ...")],
    mdl: Mdl = None,
    acoustic_scale: AcousticScale = None,
    word_penalty: WordPenalty = None,
    tune_data: TuneData = None,
    beam: Annotated[float, typer.Option(help="Beam of the search, in scaled log likelihood.")] = 13.0,
    max_active: Annotated[int, typer.Option(help="Most active states in a frame.")] = 7000,
    lattice_beam: LatticeBeam = 8.0,
    n_best: NumBest = 10,
    rescore_arpa: RescoreArpa = None,
    rescore_lm: RescoreLm = None,
    lm_scale: LmScale = None,
    lang: Lang = None,
    prior_scale: Annotated[float, typer.Option(help="Share of the log prior to subtract.")] = 1.0,
    prior_floor: Annotated[float, typer.Option(help="Smallest prior, as a probability.")] = 0.0,
    nj: options.NumJobs = None,
    device: Annotated[str, typer.Option(help="For the acoustic model: auto, cpu or cuda.")] = "auto",
    root: options.Root = None,
    channel: options.Channel = None,
    resample: options.Resample = False,
    no_pipes: options.NoPipes = False,
    pipe_timeout: options.PipeTimeout = options.PIPE_TIMEOUT_S,
    wer_filter: Filter = None,
) -> None:
    """Decode data into lattices and words, and count the errors.

    OUT_DIR gets Kaldi's lattices (lat.1.gz), the best words (hyp.txt) with times and confidences (hyp.ctm),
    n-best lists with their costs (nbest.json), and the WER where there is a text.
    """
    from asr_bn.decoding.corpus import CorpusDecoder
    from asr_bn.decoding.folder import decode_folder
    from asr_bn.decoding.graph_files import GraphFiles
    from asr_bn.decoding.references import WerFilter
    from asr_bn.scoring.inputs import ScoringInput

    _refuse(acoustic_scale, prior_floor, lm_scale, rescore_lm)
    audio = options.audio_source(root, channel, resample, no_pipes, pipe_timeout)
    job = _job(graph_dir, mdl, acoustic_scale, beam, max_active, lattice_beam)
    beside = GraphFiles(graph_dir, lang)
    scoring = WerFilter.find(wer_filter)
    settings: list[object] = [acoustic_scale, word_penalty, beam, max_active, prior_scale, prior_floor]
    settings += [lattice_beam, n_best, lm_scale, mdl, tune_data, root, channel, resample, scoring]
    rescoring = [path for path in (rescore_arpa, rescore_lm, beside.grammar, beside.align_lexicon) if path]
    sources = _sources(model, job, [data_dir, tune_data or data_dir], root, [*scoring.files, *rescoring])
    stage = _stage(out_dir, settings, sources)
    if stage.is_done(f"{out_dir}: decoded already"):
        return
    references, tuning = _references(data_dir, None if acoustic_scale else tune_data, scoring)
    scorer = _scorer(model, device, job)
    source = ScoringInput(scorer.metadata.fbank, audio)
    wanted = _answers(beside, job, rescore_lm, acoustic_scale, word_penalty, n_best, lm_scale)
    with beside.grammars_for(rescore_arpa) as grammars:
        job = replace(job, grammars=grammars)
        decoder = CorpusDecoder(scorer, job, source, nj or available_cores(), prior_scale, prior_floor)
        summary, errors = decode_folder(decoder, data_dir, out_dir, references, tuning, wanted)
    _print_result(out_dir, summary, errors)
    stage.mark_done()


def _job(
    graph_dir: Path, mdl: Path | None, scale: float | None, beam: float, max_active: int, lattice_beam: float
) -> "SearchJob":
    from asr_bn.decoding.lattices.decoder import DEFAULT_SCALE, LatticeOptions
    from asr_bn.decoding.search_options import BeamOptions
    from asr_bn.decoding.workers import SearchJob

    found = None if mdl is None else options.model_of(mdl)
    lattices = LatticeOptions(scale or DEFAULT_SCALE, lattice_beam)
    return SearchJob(graph_dir, found, BeamOptions(beam, max_active), lattices)


def _scorer(model: Path, device: str, job: "SearchJob") -> "AcousticScorer":
    """Load the acoustic model; raise ValueError where the graph is for another."""
    from asr_bn.scoring.scorer import AcousticScorer

    scorer = AcousticScorer.load(model, options.device_of(device), num_threads=1)
    job.check(scorer.metadata.num_pdfs, model)
    return scorer


def _stage(out_dir: Path, settings: list[object], sources: "SourceFiles") -> "Stage":
    from asr_bn.cli.stage import Stage
    from asr_bn.decoding.folder import LATTICES

    outputs = [out_dir / name for name in ("hyp.txt", LATTICES, "ali.ark", "costs.txt", "decode.json")]
    return Stage(out_dir / ".decode.done", outputs, {"options": settings}, sources)


def _answers(
    beside: "GraphFiles",
    job: "SearchJob",
    rescore_lm: Path | None,
    acoustic_scale: float | None,
    word_penalty: float | None,
    num_best: int,
    lm_scale: float | None,
) -> "AnswerOptions":
    from asr_bn.decoding.choice import AnswerOptions
    from asr_bn.kaldi_io.phone_table import read_phone_names

    names = read_phone_names(job.graph_dir / "words.txt")
    times = beside.word_times(job.transition_model())
    rescorer = _rescorer(rescore_lm, beside, names)
    return AnswerOptions(names, acoustic_scale, word_penalty, num_best, rescorer, lm_scale, times)


def _refuse(
    acoustic_scale: float | None, prior_floor: float, lm_scale: float | None, rescore_lm: Path | None
) -> None:
    """Refuse what cannot be, and a Python without the decoder's packages."""
    from asr_bn.decoding.requirements import require_decoder
    from asr_bn.scoring.scorer import check_prior_floor

    require_decoder()
    if acoustic_scale is not None and not acoustic_scale > 0:
        raise ValueError(f"--acoustic-scale is {acoustic_scale}, expected above 0")
    check_prior_floor(prior_floor)
    if lm_scale is not None and rescore_lm is None:
        raise ValueError(f"--lm-scale is {lm_scale}, but there is no --rescore-lm to weigh")


def _rescorer(model: Path | None, beside: "GraphFiles", names: dict[int, str]) -> "NBestRescorer | None":
    """Load a language model; its costs replace those of the word graph, if that is there."""
    from asr_bn.decoding.lattices.nbest_rescoring import NBestRescorer
    from asr_bn.language_model.sentence_costs import SentenceCosts

    if model is None:
        return None
    old = beside.grammar_costs() if beside.grammar.is_file() else None
    return NBestRescorer(SentenceCosts.load(model), names, old)


def _sources(
    model: Path, job: "SearchJob", folders: list[Path], root: Path | None, others: list[Path]
) -> "SourceFiles":
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.decoding.graph import GRAPH_FILES

    files = [model, *(job.graph_dir / name for name in GRAPH_FILES), job.transition_model(), *others]
    return sum((SourceFiles.of_data_dir(folder, root) for folder in folders), SourceFiles.of(files))


def _references(
    data_dir: Path, tune_data: Path | None, scoring: "WerFilter"
) -> "tuple[References | None, TuningData | None]":
    """Read the words of ``data_dir``, and those that scale and penalty are chosen on.

    A fault in them is found before hours of decoding.
    """
    from asr_bn.decoding.references import References, TuningData
    from asr_bn.scoring.inputs import utterance_ids

    references = References.read(data_dir, utterance_ids(data_dir), scoring)
    if tune_data is not None:
        return references, TuningData.read(tune_data, scoring)
    return references, None if references is None else TuningData(data_dir, references)


def _print_result(out_dir: Path, summary: "Summary", errors: "WordErrors | None") -> None:
    chosen = f"acoustic scale {summary['acoustic_scale']:.4f}, word penalty {summary['word_penalty']:g}"
    typer.echo(f"{out_dir}: {summary['num_utterances']} utterances, {chosen}", err=True)
    if errors is not None:
        print(errors)
