"""``asr-bn lm-score``: log probability and perplexity of a text."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from asr_bn.language_model.scoring import LanguageScorer
    from asr_bn.language_model.streams import Tokens
    from asr_bn.system.arrays import Floats


def lm_score(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="Exported language model of a window.")],
    text: Annotated[Path, typer.Argument(help="Text, one sentence a line, or - (standard input).")],
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

    The text is scored as in training: cut into streams, with the states carried along. Every token counts
    once, the end of each sentence too. With --streams 1 it is one running text.

    With --per-sentence, lines of 'NAME LOG_PROB NUM_TOKENS PERPLEXITY' go to standard output, in the order of
    the text (NAME is the utt_id, or the number of the line), and the sum over all to standard error.
    """
    import numpy as np

    from asr_bn.language_model.scoring import LanguageScorer, TextScore
    from asr_bn.language_model.text import read_named_sentences
    from asr_bn.language_model.vocabulary import UNK

    if per_sentence and streams is not None:
        raise ValueError("--per-sentence and --streams: choose one")
    scorer = LanguageScorer.load(model, threads)
    vocabulary = scorer.metadata.vocabulary
    names, sentences = read_named_sentences(text, scorer.metadata.unit, utt_ids)
    tokens = [
        vocabulary.encode(words, f"{text}, sentence {name}")
        for name, words in zip(names, sentences, strict=True)
    ]
    log_probs = _log_probs(scorer, text, tokens, per_sentence, streams)
    if per_sentence:
        for name, values in zip(names, log_probs, strict=True):
            score = TextScore.of(values)
            typer.echo(f"{name} {score.log_prob:.6f} {score.num_tokens} {score.perplexity:.6f}")
    total, unknown = TextScore.of(np.concatenate(log_probs)), ""
    if UNK in vocabulary.words:
        index = vocabulary.words.index(UNK)
        unknown = f" ({sum(np.count_nonzero(each == index) for each in tokens)} of them {UNK})"
    typer.echo(
        f"{text}: {len(sentences)} sentences, {total.num_tokens} tokens{unknown}, "
        f"log probability {total.log_prob:.4f}, perplexity {total.perplexity:.4f}",
        err=per_sentence,
    )


def _log_probs(
    scorer: "LanguageScorer", text: Path, tokens: list["Tokens"], per_sentence: bool, streams: int | None
) -> list["Floats"]:
    """Score every sentence by itself, or all of them as one text."""
    import numpy as np
    from tqdm import tqdm

    all_tokens, streams = np.concatenate(tokens), streams or scorer.metadata.num_streams
    if not per_sentence and len(all_tokens) < streams:
        raise ValueError(
            f"{text}: has {len(all_tokens)} tokens, fewer than the {streams} streams to cut it into "
            f"as in training; use --streams 1, or --per-sentence"
        )
    with tqdm(desc="lm-score", unit="token", unit_scale=True, total=len(all_tokens), delay=2) as progress:
        if per_sentence:
            return scorer.score_sentences(tokens, progress.update)
        return [scorer.score_text(all_tokens, str(text), streams, progress.update)]
