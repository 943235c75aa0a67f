"""``asr-bn decode``: words and word error rate through a Kaldi graph."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr_bn.cli.options import (
    PIPE_TIMEOUT_S,
    Channel,
    NoPipes,
    PipeTimeout,
    Resample,
    Root,
    device_of,
    model_of,
    pipe_policy,
)
from asr_bn.system.cores import available_cores

if TYPE_CHECKING:
    from asr_bn.data.source_files import SourceFiles
    from asr_bn.decoding.graph_files import GraphFiles
    from asr_bn.decoding.lattices.nbest_rescoring import NBestRescorer
    from asr_bn.decoding.workers import SearchJob


def decode(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Exported model.")],
    graph_dir: Annotated[
        Path, typer.Argument(metavar="GRAPH_DIR", help="Folder with HCLG.fst and words.txt.")
    ],
    data_dir: Annotated[
        Path, typer.Argument(metavar="DATA_DIR", help="Data folder: wav.scp (or feats.scp), text.")
    ],
    out_dir: Annotated[
        Path,
        typer.Argument(
            metavar="OUT_DIR",
            help="For hyp.txt, hyp.ctm, lat.1.gz, ali.ark, nbest.json, wer.txt, decode.json.",
        ),
    ],
    mdl: Annotated[
        Path | None,
        typer.Option(
            help="The graph's final.mdl, or its folder [in GRAPH_DIR, beside it, or of <system>_ali*]."
        ),
    ] = None,
    acoustic_scale: Annotated[
        float | None, typer.Option(help="[the one with the lowest WER on --tune-data; 0.1 without a text]")
    ] = None,
    word_penalty: Annotated[
        float | None,
        typer.Option(
            help="Cost of each word [0, 0.5 or 1, the best on --tune-data; 0 with --acoustic-scale]"
        ),
    ] = None,
    tune_data: Annotated[
        Path | None, typer.Option(help="Development data for scale and penalty [DATA_DIR].")
    ] = None,
    beam: Annotated[float, typer.Option(help="Of the search, in scaled log likelihood.")] = 13.0,
    max_active: Annotated[int, typer.Option(help="Most states in a frame.")] = 7000,
    lattice_beam: Annotated[
        float, typer.Option(help="How much worse than the best path another in a lattice may be.")
    ] = 8.0,
    n_best: Annotated[
        int, typer.Option(min=0, help="Length of the lists in nbest.json; 0 writes none.")
    ] = 10,
    rescore_arpa: Annotated[
        Path | None,
        typer.Option(help="ARPA file; its costs of words replace the graph's in the lattices."),
    ] = None,
    rescore_lm: Annotated[
        Path | None,
        typer.Option(help="Language model (lm-export's model.onnx) for the 100 best of each lattice."),
    ] = None,
    lm_scale: Annotated[
        float | None,
        typer.Option(help="Share of --rescore-lm in the words' costs [the best on --tune-data; 0.5 without]"),
    ] = None,
    lang: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the graph's G.fst (rescoring) and phones/align_lexicon.int (times) [GRAPH_DIR]"
        ),
    ] = None,
    prior_scale: Annotated[float, typer.Option(help="How much of the log prior is subtracted.")] = 1.0,
    prior_floor: Annotated[float, typer.Option(help="Smallest prior, as a probability.")] = 0.0,
    nj: Annotated[int | None, typer.Option(min=1, help="Processes [number of cores].")] = None,
    device: Annotated[str, typer.Option(help="Of the acoustic model: auto, cpu or cuda.")] = "auto",
    root: Root = None,
    channel: Channel = None,
    resample: Resample = False,
    no_pipes: NoPipes = False,
    pipe_timeout: PipeTimeout = PIPE_TIMEOUT_S,
    wer_filter: Annotated[
        Path | None,
        typer.Option(
            help="Program or sed script that text and words go through before errors are counted, as Kaldi's "
            "local/wer_output_filter; or the folder of it."
        ),
    ] = None,
) -> None:
    """Decode a data folder into words, and count their errors.

    OUT_DIR gets Kaldi's lattices (lat.1.gz), the best words (hyp.txt) with times and confidences (hyp.ctm),
    n-best lists with their costs (nbest.json), and the WER where there is a text.
    """
    import sys
    from dataclasses import replace

    from asr_bn.decoding.beam_search import BeamOptions
    from asr_bn.decoding.choice import AnswerOptions
    from asr_bn.decoding.corpus import CorpusDecoder
    from asr_bn.decoding.folder import LATTICES, decode_folder
    from asr_bn.decoding.graph_files import GraphFiles
    from asr_bn.decoding.lattices.decoder import DEFAULT_SCALE, LatticeOptions
    from asr_bn.decoding.references import NO_FILTER, References, TuningData, WerFilter
    from asr_bn.decoding.requirements import require_decoder
    from asr_bn.decoding.workers import SearchJob
    from asr_bn.kaldi_io.phone_table import read_phone_names
    from asr_bn.scoring.inputs import ScoringInput, utterance_ids
    from asr_bn.scoring.scorer import AcousticScorer, check_prior_floor
    from asr_bn.system.stamps import fingerprint, is_done, mark_done

    require_decoder()
    if acoustic_scale is not None and not acoustic_scale > 0:
        raise ValueError(f"--acoustic-scale is {acoustic_scale}, expected above 0")
    check_prior_floor(prior_floor)
    pipes = pipe_policy(no_pipes, pipe_timeout)
    if lm_scale is not None and rescore_lm is None:
        raise ValueError(f"--lm-scale is {lm_scale}, but there is no --rescore-lm to weigh")
    lattices = LatticeOptions(acoustic_scale or DEFAULT_SCALE, lattice_beam)
    job = SearchJob(
        graph_dir, None if mdl is None else model_of(mdl), BeamOptions(beam, max_active), lattices
    )
    beside = GraphFiles(graph_dir, lang)
    scoring = NO_FILTER if wer_filter is None else WerFilter.find(wer_filter)
    weights = [acoustic_scale, word_penalty, beam, max_active, prior_scale, prior_floor]
    weights += [lattice_beam, n_best, lm_scale]
    places = [mdl, tune_data, root, channel, resample, scoring]
    rescoring = [path for path in (rescore_arpa, rescore_lm, beside.grammar, beside.align_lexicon) if path]
    sources = _sources(model, job, [data_dir, tune_data or data_dir], root, [*scoring.files, *rescoring])
    made_from = fingerprint({"options": [*weights, *places]}, sources.small, sources.large)
    stamp = out_dir / ".decode.done"
    if is_done(stamp, made_from, [out_dir / name for name in ("hyp.txt", LATTICES, "decode.json")]):
        print(f"{out_dir}: decoded already{sources.remark}", file=sys.stderr)
        return
    # What is compared with is looked at before hours of decoding.
    references = References.read(data_dir, utterance_ids(data_dir), scoring)
    tuning = None if references is None else TuningData(data_dir, references)
    if tune_data is not None and acoustic_scale is None:
        tuning = TuningData.read(tune_data, scoring)
    scorer = AcousticScorer.load(model, device_of(device), num_threads=1)
    job.check(scorer.metadata.num_pdfs, model)
    source = ScoringInput(scorer.metadata.fbank, root, channel, resample, pipes)
    names = read_phone_names(graph_dir / "words.txt")
    rescorer = _rescorer(rescore_lm, beside, names)
    times = beside.word_times(job.transition_model())
    wanted = AnswerOptions(names, acoustic_scale, word_penalty, n_best, rescorer, lm_scale, times)
    with beside.grammars_for(rescore_arpa) as grammars:
        job = replace(job, grammars=grammars)
        decoder = CorpusDecoder(scorer, job, source, nj or available_cores(), prior_scale, prior_floor)
        summary, errors = decode_folder(decoder, data_dir, out_dir, references, tuning, wanted)
    chosen = f"acoustic scale {summary['acoustic_scale']:.4f}, word penalty {summary['word_penalty']:g}"
    print(f"{out_dir}: {summary['num_utterances']} utterances, {chosen}", file=sys.stderr)
    if errors is not None:
        print(errors)
    mark_done(stamp, made_from)


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
    sources = SourceFiles.of(files)
    for folder in folders:
        sources += SourceFiles.of_data_dir(folder, root)
    return sources
