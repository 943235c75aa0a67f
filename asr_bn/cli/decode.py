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
    """Decode a data folder into words, and count their errors.

    OUT_DIR gets hyp.txt, best paths, and the WER where there is a text.
    """
    import sys

    from asr_bn.cli.options import device_of, num_cores
    from asr_bn.decoding.beam_search import BeamOptions
    from asr_bn.decoding.corpus import CorpusDecoder, decode_tuned, read_references, write_hypotheses
    from asr_bn.decoding.requirements import require_decoder
    from asr_bn.decoding.workers import SearchJob
    from asr_bn.posteriors import AcousticScorer
    from asr_bn.scoring_inputs import ScoringInput
    from asr_bn.stamps import fingerprint, is_done, mark_done

    require_decoder()
    if acoustic_scale is not None and not acoustic_scale > 0:
        raise ValueError(f"--acoustic-scale is {acoustic_scale}, expected above 0")
    options: list[object] = [
        acoustic_scale,
        word_penalty,
        beam,
        max_active,
        prior_scale,
        prior_floor,
        channel,
        resample,
    ]
    options += [mdl, tune_data]
    sources = [model, graph_dir / "HCLG.fst", graph_dir / "words.txt"]
    for folder in (data_dir, tune_data or data_dir):
        sources += [folder / name for name in ("wav.scp", "segments", "feats.scp", "text")]
    stamp = out_dir / ".decode.done"
    made_from = fingerprint({"options": options}, [path for path in sources if path.is_file()])
    if is_done(stamp, made_from, [out_dir / "hyp.txt", out_dir / "decode.json"]):
        print(f"{out_dir}: decoded already", file=sys.stderr)
        return
    job = SearchJob(graph_dir, mdl, BeamOptions(beam, max_active))
    scorer = AcousticScorer.load(model, device_of(device), num_threads=1)
    job.check(scorer.metadata.num_pdfs, model)
    source = ScoringInput(scorer.metadata.fbank, root, channel, resample)
    decoder = CorpusDecoder(scorer, job, source, nj or num_cores(), prior_scale, prior_floor)
    hypotheses, summary = decode_tuned(decoder, data_dir, acoustic_scale, word_penalty, tune_data)
    errors = write_hypotheses(out_dir, hypotheses, read_references(data_dir), summary)
    weights = f"acoustic scale {summary['acoustic_scale']:.4f}, word penalty {summary['word_penalty']:g}"
    print(f"{out_dir}: {len(hypotheses)} utterances, {weights}", file=sys.stderr)
    if errors is not None:
        print(errors)
    mark_done(stamp, made_from)
