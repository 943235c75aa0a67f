"""``--help`` of every verb: nothing that was written for it is lost on the way to the screen."""

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from asr_bn.cli.main import app

VERBS = get_command(app).commands  # type: ignore[attr-defined]


def without_spaces(text: str) -> str:
    return "".join(text.split())  # lines may be broken at any hyphen


@pytest.mark.parametrize("verb", VERBS)
def test_every_options_help_is_shown_whole(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    shown = without_spaces(result.output)
    for parameter in VERBS[verb].params:
        assert without_spaces(parameter.help or "") in shown, parameter.name


def test_the_list_of_verbs_says_what_each_does_in_a_sentence() -> None:
    result = CliRunner().invoke(app, ["--help"])
    lines = {line.split()[0]: line.strip() for line in result.output.splitlines() if line.startswith("  ")}
    for verb in VERBS:
        assert lines[verb].endswith("."), lines[verb]
        assert not lines[verb].endswith("..."), lines[verb]
