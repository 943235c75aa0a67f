"""Imports: one way between packages, file from file, and heavy libraries only where they are needed."""

import json
import pkgutil
import subprocess
import sys

import grimp
import pytest

from tests.helpers.serving import ROOT

# Language models and data are read by programs that train and by programs that do not.
LIGHT = ["asr_bn.audio", "asr_bn.cli", "asr_bn.decoding", "asr_bn.extraction", "asr_bn.features"]
LIGHT += ["asr_bn.kaldi_io", "asr_bn.onnx_io", "asr_bn.scoring", "asr_bn.system", "serve"]
LIGHT += ["asr_bn.acoustic_model.experiment", "asr_bn.language_model.experiment", "asr_bn.report.page"]
LIGHT += ["asr_bn.language_model.text", "asr_bn.language_model.vocabulary"]
# Runs when it is imported; needs an extra.
NOT_IMPORTED = {"asr_bn.cli.__main__", "serve.ray_app"}
HEAVY = {"torch", "scipy", "librosa", "matplotlib"}
IMPORT = """
import importlib, json, sys
brought = {}
for name in sys.argv[1:]:
    before = set(sys.modules)
    importlib.import_module(name)
    brought[name] = sorted({module.partition(".")[0] for module in set(sys.modules) - before})
print(json.dumps(brought))
"""


def brought_by(names: list[str]) -> dict[str, set[str]]:
    """What is loaded with each of ``names``, imported one after the other by a new Python."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, *names], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return {name: set(modules) for name, modules in json.loads(done.stdout).items()}


def with_submodules(name: str) -> list[str]:
    found = pkgutil.walk_packages([str(ROOT / name.replace(".", "/"))], f"{name}.")
    return [name, *sorted({module.name for module in found} - NOT_IMPORTED)]


def test_contracts_between_packages_hold() -> None:
    """Those of pyproject.toml."""
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_files_import_files_and_not_what_a_package_exports() -> None:
    """Through a package's exports, one import would load files that it does not need."""
    graph = grimp.build_graph("asr_bn", "serve", cache_dir=None)
    packages = {name for name in graph.modules if graph.find_children(name)} - {"asr_bn"}
    found = {name: graph.find_modules_that_directly_import(name) for name in packages}
    assert {name: importers for name, importers in found.items() if importers} == {}


@pytest.mark.parametrize("name", LIGHT)
def test_it_starts_without_heavy_libraries(name: str) -> None:
    brought = brought_by(with_submodules(name))
    assert {module: loaded & HEAVY for module, loaded in brought.items() if loaded & HEAVY} == {}


def test_scoring_text_needs_no_onnx() -> None:
    brought = brought_by(
        ["asr_bn.language_model.scoring", "asr_bn.language_model.text", "asr_bn.cli.lm_score"]
    )
    assert not set().union(*brought.values()) & (HEAVY | {"onnx"})
