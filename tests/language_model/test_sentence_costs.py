"""Costs of hypotheses against ``asr-bn lm-score``."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.language_model.sentence_costs import SentenceCosts
from tests.helpers.language_models import write_language_model

SENTENCES = ["a b c", "c", "", "b a a a c b a"]


def test_costs_are_those_of_lm_score(tmp_path: Path) -> None:
    model = write_language_model(tmp_path / "lm.onnx", ("a", "b", "c"))
    text = "".join(f"u{k} {line}\n" for k, line in enumerate(SENTENCES))
    arguments = ["lm-score", str(model), "-", "--per-sentence", "--utt-ids"]
    result = CliRunner().invoke(app, arguments, input=text, catch_exceptions=False)
    expected = [-float(line.split()[1]) for line in result.stdout.splitlines()]
    costs = SentenceCosts.load(model)([line.split() for line in SENTENCES])
    assert costs == pytest.approx(expected, abs=1e-5)


def test_an_unknown_word_is_named(tmp_path: Path) -> None:
    costs = SentenceCosts.load(write_language_model(tmp_path / "lm.onnx", ("a", "b", "c")))
    with pytest.raises(ValueError, match="lm.onnx: 'x' is not among the 4 words of the training text"):
        costs([["a", "x"]])
