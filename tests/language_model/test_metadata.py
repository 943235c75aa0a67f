"""Metadata of language models: what an exporter wrote is read back, all else is refused in a sentence."""

import json

import pytest

from asr_bn.language_model.metadata import LanguageModelMetadata
from tests.helpers.language_models import make_experiment

METADATA = LanguageModelMetadata("window", ("</s>", "a"), make_experiment().to_dict(), {"x": 1.0}, {}, "0")


def changed(**fields: object) -> str:
    return json.dumps(json.loads(METADATA.to_json()) | fields)


def with_training(**values: object) -> str:
    config = make_experiment().to_dict()
    return changed(config=config | {"training": config["training"] | values})


def test_what_was_written_is_read_back():
    assert LanguageModelMetadata.from_json(METADATA.to_json()) == METADATA


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "[" * 100_000,
        "{}",
        changed(extra=1),
        changed(words=None),
        changed(words=[1, 2]),
        changed(config=[]),
        changed(config={"training": None}),
        with_training(num_steps=0),
        with_training(batch_size=-1),
        with_training(num_steps=None),
        with_training(num_steps="many"),
        with_training(batch_size=float("inf")),
    ],
    ids=lambda text: text[:40],
)
def test_other_metadata_are_refused(text):
    with pytest.raises(ValueError):
        LanguageModelMetadata.from_json(text)
