"""``asr-bn lm-score``: log probability and perplexity of a text."""

from pathlib import Path
from typing import Annotated

import typer


def lm_score(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Exported language model of a window.")],
    text: Annotated[
        Path, typer.Argument(metavar="TEXT", help="Text, one sentence a line, or - (standard input).")
    ],
    per_sentence: Annotated[
        bool,
        typer.Option("--per-sentence", help="Score every sentence by itself from zero states, a line each."),
    ] = False,
    utt_ids: Annotated[
        bool,
        typer.Option("--utt-ids", help="Lines are 'utt_id words', as in Kaldi's text; words may be missing."),
    ] = False,
    streams: Annotated[
        int | None,
        typer.Option(min=1, help="Without --per-sentence: streams to cut the text into [as in training]."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of ONNX Runtime [number of cores].")
    ] = None,
) -> None:
    """Score a text: log probability (natural) and perplexity.

    A text is scored as training scores its own: cut into streams, states carried along as in training, every
    token counted once, the end of each sentence too. With --streams 1 it is one running text.

    With --per-sentence, lines of 'NAME LOG_PROB NUM_TOKENS PERPLEXITY' go to standard output, in the order of
    the text (NAME is the utt_id, or the number of the line), and the sum over all to standard error.
    """
    import numpy as np
    from tqdm import tqdm

    from asr_bn.language_model.scoring import LanguageScorer, TextScore
    from asr_bn.language_model.text import read_named_sentences
    from asr_bn.language_model.vocabulary import UNK

    if per_sentence and streams is not None:
        raise ValueError("--per-sentence and --streams: choose one")
    scorer = LanguageScorer.load(model, threads)
    vocabulary = scorer.metadata.vocabulary
    names, sentences = read_named_sentences(text, scorer.metadata.unit, utt_ids)
    tokens = [
        np.fromiter(vocabulary.encode(words, f"{text}, sentence {name}"), dtype=np.int64)
        for name, words in zip(names, sentences, strict=True)
    ]
    all_tokens = np.concatenate(tokens)
    num_streams = streams or scorer.metadata.num_streams
    if not per_sentence and len(all_tokens) < num_streams:
        raise ValueError(
            f"{text}: has {len(all_tokens)} tokens, fewer than the {num_streams} streams to cut it into "
            f"as in training; use --streams 1, or --per-sentence"
        )
    with tqdm(desc="lm-score", unit="token", unit_scale=True, total=len(all_tokens), delay=2) as progress:
        if per_sentence:
            log_probs = scorer.score_sentences(tokens, progress.update)
        else:
            log_probs = [scorer.score_text(all_tokens, str(text), num_streams, progress.update)]
    if per_sentence:
        for name, values in zip(names, log_probs, strict=True):
            score = TextScore.of(values)
            typer.echo(f"{name} {score.log_prob:.6f} {score.num_tokens} {score.perplexity:.6f}")
    total = TextScore.of(np.concatenate(log_probs))
    unknown = ""
    if UNK in vocabulary.words:
        unknown = f" ({np.count_nonzero(all_tokens == vocabulary.words.index(UNK))} of them {UNK})"
    typer.echo(
        f"{text}: {len(sentences)} sentences, {total.num_tokens} tokens{unknown}, "
        f"log probability {total.log_prob:.4f}, perplexity {total.perplexity:.4f}",
        err=per_sentence,
    )
