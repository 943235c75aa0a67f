"""Exported files on the oldest ONNX Runtime that ``pyproject.toml`` allows, against the installed one.

The old one is put beside it, from the package index, where there is a network and a wheel for this Python.
"""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from asr_bn.export.acoustic import export_onnx
from asr_bn.export.frontend import export_with_frontend
from asr_bn.export.quantization import InputScale, quantize_onnx
from asr_bn.language_model.metadata import LanguageModelMetadata
from asr_bn.language_model.onnx_export import export_graph
from tests.helpers.acoustic_models import LENGTHS, make_metadata, make_model
from tests.helpers.language_models import make_experiment
from tests.helpers.language_models import make_model as make_language_model

ROOT = Path(__file__).parents[2]
PROGRAM = """
    import json, sys
    import numpy, onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    for model, inputs, outputs in json.loads(sys.argv[1]):
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        try:
            names = [output.name for output in session.get_outputs()]
            answers = dict(zip(names, session.run(None, dict(numpy.load(inputs)))))
        except Exception as error:
            answers = {"error": numpy.array(str(error))}
        numpy.savez(outputs, **answers)
    print(onnxruntime.__version__)
"""


def oldest_version() -> str:
    """What ``pyproject.toml`` allows, as the wheels number it."""
    (version,) = set(re.findall(r"onnxruntime(?:-gpu)?>=([\d.]+)", (ROOT / "pyproject.toml").read_text()))
    return version if version.count(".") == 2 else f"{version}.0"


@pytest.fixture(scope="module")
def oldest(request: pytest.FixtureRequest) -> Path:
    """A folder with the old package, kept for later runs."""
    folder = request.config.cache.mkdir(f"onnxruntime-{oldest_version()}-{sys.version_info.minor}")
    if not (folder / "onnxruntime").is_dir():
        # Nothing but NumPy, which is there, is needed to run models.
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        command += ["--timeout", "20", "--retries", "1", f"onnxruntime=={oldest_version()}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"onnxruntime {oldest_version()} cannot be had here: {done.stderr.strip()[-200:]}")
    return folder


Run = tuple[Path, dict[str, np.ndarray]]


def write_acoustic(folder: Path, peephole: bool) -> list[Run]:
    options = {"norm": "sequence", "peephole": peephole}
    model, metadata, name = make_model(**options), make_metadata(**options), f"peephole_{peephole}"
    paths = [folder / f"{name}.{kind}.onnx" for kind in ("float32", "int8", "samples")]
    export_onnx(model, metadata, paths[0])
    quantize_onnx(paths[0], metadata, InputScale(model.feats_mean.numpy(), model.feats_std.numpy()), paths[1])
    export_with_frontend(model, metadata, paths[2])
    random = np.random.default_rng(0)
    feats = random.normal(size=(len(LENGTHS), max(LENGTHS), model.feats_mean.numel())).astype(np.float32)
    calls = [np.array(LENGTHS), np.array(LENGTHS) + 1, np.array(LENGTHS[1:]), -np.array(LENGTHS)]
    runs: list[Run] = [
        (path, {"features": feats, "lengths": lengths.astype(np.int32)})
        for path in paths[:2]
        for lengths in calls
    ]
    samples = (1000 * random.normal(size=(3, 4000))).astype(np.float32)
    for num_samples in ([4000, 399, 1100], [4000, 4400, 900]):
        inputs = {"samples": samples, "sample_lengths": np.array(num_samples, dtype=np.int32)}
        runs.append((paths[2], inputs))
    return runs


def write_language_models(folder: Path, norm: str) -> list[Run]:
    model, runs = make_language_model(norm=norm), []
    tokens = np.random.default_rng(1).integers(0, 7, (4, 5))
    model(torch.from_numpy(tokens.reshape(-1)), torch.full((4,), 5))  # statistics
    states = {f"{kind}_0": np.zeros((2, 5, 6), dtype=np.float32) for kind in "hc"}
    for graph, inputs in (
        ("window", {"tokens": tokens, "first_step": np.array(0)}),
        ("step", {"tokens": tokens[0], "step": np.zeros(5, dtype=np.int64)}),
    ):
        path = folder / f"{norm}.{graph}.onnx"
        metadata = LanguageModelMetadata(graph, ("</s>",), make_experiment().to_dict(), {}, {}, "0")
        export_graph(model.eval(), metadata, path)
        runs.append((path, inputs | states))
    return runs


def answers(runs: list[Run], folder: Path, packages: Path | None) -> tuple[str, list[dict[str, np.ndarray]]]:
    """Version of ONNX Runtime in ``packages`` (None: the installed one), and what it answers to each run."""
    calls = []
    for number, (model, inputs) in enumerate(runs):
        np.savez(folder / f"{number}.in.npz", **inputs)
        calls.append([str(model), str(folder / f"{number}.in.npz"), str(folder / f"{number}.out.npz")])
    environment = os.environ | ({} if packages is None else {"PYTHONPATH": str(packages)})
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), json.dumps(calls)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), [dict(np.load(output)) for _, _, output in calls]


def test_every_kind_of_file_answers_as_on_the_newest(oldest: Path, tmp_path: Path) -> None:
    runs = [run for peephole in (False, True) for run in write_acoustic(tmp_path, peephole)]
    runs += [run for norm in ("none", "frame", "recurrent") for run in write_language_models(tmp_path, norm)]
    old, found = answers(runs, tmp_path, oldest)
    new, expected = answers(runs, tmp_path, None)
    assert (old, new) == (oldest_version(), onnxruntime.__version__)
    refused = 0
    for (model, _), theirs, ours in zip(runs, found, expected, strict=True):
        assert theirs.keys() == ours.keys(), (model, theirs)
        refused += "error" in ours
        for name in ours.keys() - {"error"}:
            # A value that rounds the other way in 8 bits is 1/127 of the largest off.
            tolerance = 2e-2 if ".int8." in model.name else 2e-5
            np.testing.assert_allclose(
                theirs[name], ours[name], rtol=0, atol=tolerance, err_msg=f"{model.name} {name}"
            )
    assert refused == 2 * (2 * 3 + 1)  # lengths that do not fit, in both kinds of network
