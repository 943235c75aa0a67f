"""``asr-bn decode``: words and word error rate through a Kaldi graph."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr_bn.cli import options
from asr_bn.system.cores import available_cores

if TYPE_CHECKING:
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.decoding.references import References, TuningData, WerFilter
    from asr_bn.decoding.workers import SearchJob


Mdl = Annotated[
    Path | None,
    typer.Option(help="The graph's final.mdl, or its folder [in GRAPH_DIR, beside it, or of <system>_ali*]."),
]
AcousticScale = Annotated[float | None, typer.Option(help="[lowest WER on --tune-data; 0.1 without a text]")]
WordPenalty = Annotated[
    float | None,
    typer.Option(help="Cost of each word [0, 0.5 or 1, the best on --tune-data; 0 with --acoustic-scale]"),
]
Filter = Annotated[
    Path | None,
    typer.Option(
        help="Program or sed script that filters both texts before errors are counted, as Kaldi's "
        "local/wer_output_filter; or its folder."
    ),
]


def decode(
    model: options.Model,
    graph_dir: Annotated[Path, typer.Argument(help="Folder with HCLG.fst and words.txt.")],
    data_dir: Annotated[Path, typer.Argument(help="Data folder: wav.scp (or feats.scp), text.")],
    out_dir: Annotated[Path, typer.Argument(help="Folder for hyp.txt, ali.ark, wer.txt, decode.json.")],
    mdl: Mdl = None,
    acoustic_scale: AcousticScale = None,
    word_penalty: WordPenalty = None,
    tune_data: Annotated[
        Path | None, typer.Option(help="Development data for scale and penalty [DATA_DIR].")
    ] = None,
    beam: Annotated[float, typer.Option(help="Beam of the search, in scaled log likelihood.")] = 13.0,
    max_active: Annotated[int, typer.Option(help="Most active states in a frame.")] = 7000,
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
    """Decode a data folder into words, and count their errors.

    OUT_DIR gets hyp.txt, best paths, and the WER where there is a text.
    """
    from asr_bn.cli.stage import Stage
    from asr_bn.decoding.beam_search import BeamOptions
    from asr_bn.decoding.corpus import CorpusDecoder, decode_tuned, write_hypotheses
    from asr_bn.decoding.references import NO_FILTER, WerFilter
    from asr_bn.decoding.workers import SearchJob
    from asr_bn.scoring.inputs import ScoringInput
    from asr_bn.scoring.scorer import AcousticScorer

    _refuse(acoustic_scale, prior_floor)
    audio = options.audio_source(root, channel, resample, no_pipes, pipe_timeout)
    job = SearchJob(graph_dir, None if mdl is None else options.model_of(mdl), BeamOptions(beam, max_active))
    scoring = NO_FILTER if wer_filter is None else WerFilter.find(wer_filter)
    weights = [acoustic_scale, word_penalty, beam, max_active, prior_scale, prior_floor]
    settings = {"options": [*weights, mdl, tune_data, root, channel, resample, scoring]}
    sources = _sources(model, job, [data_dir, tune_data or data_dir], root, scoring)
    outputs = [out_dir / name for name in ("hyp.txt", "ali.ark", "costs.txt", "decode.json")]
    stage = Stage(out_dir / ".decode.done", outputs, settings, sources)
    if stage.is_done(f"{out_dir}: decoded already"):
        return
    # What is compared with is looked at before hours of decoding.
    references, tuning = _references(data_dir, None if acoustic_scale else tune_data, scoring)
    scorer = AcousticScorer.load(model, options.device_of(device), num_threads=1)
    job.check(scorer.metadata.num_pdfs, model)
    source = ScoringInput(scorer.metadata.fbank, audio)
    decoder = CorpusDecoder(scorer, job, source, nj or available_cores(), prior_scale, prior_floor)
    hypotheses, summary = decode_tuned(decoder, data_dir, tuning, acoustic_scale, word_penalty)
    errors = write_hypotheses(out_dir, hypotheses, references, summary)
    chosen = f"acoustic scale {summary['acoustic_scale']:.4f}, word penalty {summary['word_penalty']:g}"
    typer.echo(f"{out_dir}: {len(hypotheses)} utterances, {chosen}", err=True)
    if errors is not None:
        print(errors)
    stage.mark_done()


def _refuse(acoustic_scale: float | None, prior_floor: float) -> None:
    """Refuse what cannot be, and a Python without the decoder's packages."""
    from asr_bn.decoding.requirements import require_decoder
    from asr_bn.scoring.scorer import check_prior_floor

    require_decoder()
    if acoustic_scale is not None and not acoustic_scale > 0:
        raise ValueError(f"--acoustic-scale is {acoustic_scale}, expected above 0")
    check_prior_floor(prior_floor)


def _sources(
    model: Path, job: "SearchJob", folders: list[Path], root: Path | None, scoring: "WerFilter"
) -> "SourceFiles":
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.decoding.graph import GRAPH_FILES

    files = [model, *(job.graph_dir / name for name in GRAPH_FILES), job.transition_model(), *scoring.files]
    return sum((SourceFiles.of_data_dir(folder, root) for folder in folders), SourceFiles.of(files))


def _references(
    data_dir: Path, tune_data: Path | None, scoring: "WerFilter"
) -> "tuple[References | None, TuningData | None]":
    """Read the words of ``data_dir``, and those that scale and penalty are chosen on."""
    from asr_bn.decoding.references import References, TuningData
    from asr_bn.scoring.inputs import utterance_ids

    references = References.read(data_dir, utterance_ids(data_dir), scoring)
    if tune_data is not None:
        return references, TuningData.read(tune_data, scoring)
    return references, None if references is None else TuningData(data_dir, references)
