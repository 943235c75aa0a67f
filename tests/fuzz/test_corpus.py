"""The seed corpus of every fuzz target: no file of it makes its target raise."""

from pathlib import Path

import pytest

from fuzz.targets import CORPUS, Target, all_targets, seeds

TARGETS = all_targets()


@pytest.mark.parametrize(
    "target, file",
    [
        pytest.param(target, file, id=f"{name}-{file.name}")
        for name, target in TARGETS.items()
        for file in seeds(name)
    ],
)
def test_the_target_takes_the_file(target: Target, file: Path) -> None:
    target(file.read_bytes())


def test_every_folder_of_the_corpus_is_a_targets() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == TARGETS.keys()
