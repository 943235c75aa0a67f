"""``asr-bn VERB``: registers the verbs and turns the library's errors into one line and exit code 1."""

from collections.abc import Callable

import typer

from asr_bn.cli import (
    align,
    alignments,
    check,
    cmvn,
    decode,
    export,
    features,
    finish,
    lm_export,
    lm_score,
    make_graph,
    parity,
    posteriors,
    report,
    serve,
    serve_check,
    train,
    train_gmm,
)
from asr_bn.cli.errors import run
from asr_bn.cli.options import Verb

app = typer.Typer(
    name="asr-bn",
    help="Train, export and serve batch-normalized recurrent acoustic models on Kaldi data and alignments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # which would take defaults in brackets for markup, and leave them out
)
VERBS: dict[str, Callable[..., None]] = {
    "features": features.features,
    "alignments": alignments.alignments,
    "cmvn": cmvn.cmvn,
    "check": check.check,
    "train": train.train,
    "finish": finish.finish,
    "export": export.export,
    "parity": parity.parity,
    "posteriors": posteriors.posteriors,
    "make-graph": make_graph.make_graph,
    "decode": decode.decode,
    "align": align.align,
    "train-gmm": train_gmm.train_gmm,
    "lm-export": lm_export.lm_export,
    "lm-score": lm_score.lm_score,
    "report": report.report,
    "serve": serve.serve,
    "serve-check": serve_check.serve_check,
}
for _name, _verb in VERBS.items():
    app.command(_name, cls=Verb)(_verb)


def main() -> None:
    """Run the command line."""
    run(app, "asr-bn")


if __name__ == "__main__":
    main()
