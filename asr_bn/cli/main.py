"""``asr-bn VERB``: registers the verbs and turns the library's errors into one line and exit code 1."""

import typer

from asr_bn.cli import (
    alignments,
    check,
    cmvn,
    decode,
    export,
    features,
    lm_export,
    lm_score,
    make_graph,
    posteriors,
    report,
    serve,
    serve_check,
    train,
)
from asr_bn.cli.errors import run

app = typer.Typer(
    name="asr-bn",
    help="Train, export and serve batch-normalized recurrent acoustic models on Kaldi data and alignments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # which would take defaults in brackets for markup, and leave them out
)
app.command("features")(features.features)
app.command("alignments")(alignments.alignments)
app.command("cmvn")(cmvn.cmvn)
app.command("check")(check.check)
app.command("train")(train.train)
app.command("finish")(train.finish)
app.command("export")(export.export)
app.command("parity")(export.parity)
app.command("posteriors")(posteriors.posteriors)
app.command("make-graph")(make_graph.make_graph)
app.command("decode")(decode.decode)
app.command("lm-export")(lm_export.lm_export)
app.command("lm-score")(lm_score.lm_score)
app.command("report")(report.report)
app.command("serve")(serve.serve)
app.command("serve-check")(serve_check.serve_check)


def main() -> None:
    """Run the command line."""
    run(app, "asr-bn")


if __name__ == "__main__":
    main()
