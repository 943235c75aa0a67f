"""``asr-bn decode``: words and word error rate through a Kaldi graph."""

from pathlib import Path
from typing import Annotated

import typer


def decode(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Exported model.")],
    graph_dir: Annotated[
        Path, typer.Argument(metavar="GRAPH_DIR", help="Folder with HCLG.fst and words.txt.")
    ],
    data_dir: Annotated[
        Path, typer.Argument(metavar="DATA_DIR", help="Data folder: wav.scp (or feats.scp), text.")
    ],
    out_dir: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="For hyp.txt, ali.ark, wer.txt, decode.json.")
    ],
    mdl: Annotated[
        Path | None,
        typer.Option(help="The graph's final.mdl [in GRAPH_DIR, beside it, or of <system>_ali*]."),
    ] = None,
    acoustic_scale: Annotated[
        float | None, typer.Option(help="[the one with the lowest WER on --tune-data; 0.1 without a text]")
    ] = None,
    tune_data: Annotated[Path | None, typer.Option(help="Development data for the scale [DATA_DIR].")] = None,
    beam: Annotated[float, typer.Option(help="Of the search, in scaled log likelihood.")] = 13.0,
    max_active: Annotated[int, typer.Option(help="Most states in a frame.")] = 7000,
    prior_scale: Annotated[float, typer.Option(help="How much of the log prior is subtracted.")] = 1.0,
    prior_floor: Annotated[float, typer.Option(help="Smallest prior, as a probability.")] = 0.0,
    nj: Annotated[int | None, typer.Option(min=1, help="Processes [number of cores].")] = None,
    device: Annotated[str, typer.Option(help="Of the acoustic model: auto, cpu or cuda.")] = "auto",
    root: Annotated[
        Path | None, typer.Option(help="Folder that relative names in wav.scp start from.")
    ] = None,
    channel: Annotated[int | None, typer.Option(min=0, help="Of recordings with several, from 0.")] = None,
    resample: Annotated[bool, typer.Option("--resample", help="Convert other sample frequencies.")] = False,
) -> None:
    """Decode a data folder: hyp.txt, best paths, and the WER where there is a text."""
    import sys

    from asr_bn.cli.options import device_of, num_cores
    from asr_bn.decoding.beam_search import BeamOptions
    from asr_bn.decoding.corpus import (
        DEFAULT_SCALE,
        SCALES,
        CorpusDecoder,
        best_scale,
        errors_by_scale,
        read_references,
        write_hypotheses,
    )
    from asr_bn.decoding.requirements import require_decoder
    from asr_bn.decoding.workers import SearchJob
    from asr_bn.posteriors import AcousticScorer
    from asr_bn.scoring_inputs import ScoringInput

    require_decoder()
    references = read_references(data_dir)
    tune_references = references if tune_data is None else read_references(tune_data)
    if tune_data is not None and tune_references is None:
        raise ValueError(f"{tune_data}: has no text to tune the acoustic scale with")
    scorer = AcousticScorer.load(model, device_of(device), num_threads=1)
    job = SearchJob(graph_dir, mdl, BeamOptions(beam, max_active))
    job.check(scorer.metadata.num_pdfs, model)
    source = ScoringInput(scorer.metadata.fbank, root, channel, resample)
    decoder = CorpusDecoder(scorer, job, source, nj or num_cores(), prior_scale, prior_floor)
    summary: dict[str, object] = {"acoustic_scale": acoustic_scale or DEFAULT_SCALE, "tuned_on": None}
    if acoustic_scale is None and tune_references is not None:
        tuned_on = tune_data or data_dir
        tuning = decoder.decode(str(tuned_on), SCALES)
        errors = errors_by_scale(tune_references, tuning, SCALES)
        chosen = best_scale(errors)
        by_scale = {f"{scale:.4f}": value.wer for scale, value in errors.items()}
        summary = {"acoustic_scale": chosen, "tuned_on": str(tuned_on), "wer_by_scale": by_scale}
        if tune_data is None:
            hypotheses = {utt_id: paths[SCALES.index(chosen)] for utt_id, paths in tuning.items()}
    if acoustic_scale is not None or tune_references is None or tune_data is not None:
        scale = float(str(summary["acoustic_scale"]))
        hypotheses = {utt_id: paths[0] for utt_id, paths in decoder.decode(str(data_dir), [scale]).items()}
    result = write_hypotheses(out_dir, hypotheses, references, summary)
    print(
        f"{out_dir}: {len(hypotheses)} utterances, acoustic scale {summary['acoustic_scale']:.4f}",
        file=sys.stderr,
    )
    if result is not None:
        print(result)
