"""The Triton kernels: run by Triton's interpreter against the reference, and compiled for a GPU.

Triton decides when it is imported whether it interprets, so that the runs are in a process of their own.
"""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from asr_bn import BatchNormLSTM, BatchNormRNN
from asr_bn.layers.recurrence import cells
from tests.helpers import triton_cases

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}
CASES = list(itertools.product(triton_cases.CASES, triton_cases.DTYPES.items()))


@pytest.fixture(scope="module")
def differences() -> dict[str, float]:
    pytest.importorskip("triton", reason="Triton is not installed")
    output = subprocess.run(
        [sys.executable, "-m", "tests.helpers.triton_cases"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return json.loads(output)


@pytest.mark.parametrize(("case", "precision"), CASES, ids=str)
def test_kernels_equal_the_reference(differences, case, precision):
    directions, dtype = precision
    assert differences[f"{case}, {directions}"] <= TOLERANCE[dtype]


H = 250
CELL = {"HIDDEN": H}
NORM = {"WIDTH": 4 * H, "BATCH_STATISTICS": True, "EPS": 1e-5}
COMPILED = {
    "lstm_forward": CELL | {"PRODUCT": True},
    "lstm_backward": CELL,
    "rnn_backward": CELL | {"NONLINEARITY": "tanh"},
    "norm_forward": CELL | NORM | {"NONLINEARITY": "none"},
    "norm_backward": NORM,
}


@pytest.mark.parametrize("name", COMPILED)
def test_kernels_compile_for_a_gpu(monkeypatch, tmp_path, name):
    """Triton's own compiler and NVIDIA's assembler, which need no GPU: of code for compute capability 8.0."""
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from asr_bn.layers.recurrence import triton_blocks, triton_kernels, triton_norm_kernels, triton_steps

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 warns where it is not set
    layout = triton_steps.PackedLayout([2, 1])
    arithmetic = triton_steps.StepLauncher(1, H, torch.float32, layout).arithmetic
    module = triton_norm_kernels if name.startswith("norm") else triton_kernels
    kernel = getattr(module, name)
    constants = {
        key: value for key, value in (arithmetic | COMPILED[name]).items() if key in kernel.arg_names
    }
    kinds = {key: "i32" if key in triton_blocks.VARYING else "*fp32" for key in kernel.arg_names}
    kinds |= dict.fromkeys(constants, "constexpr")
    compiled = triton.compile(ASTSource(kernel, kinds, constants), target=GPUTarget("cuda", 80, 32))
    assert compiled.asm["cubin"][:4] == b"\x7fELF"
    assert compiled.metadata.shared <= 48 * 1024  # what every card gives a program without asking


@pytest.mark.parametrize("kind", [BatchNormLSTM, BatchNormRNN])
def test_without_triton_its_backend_is_refused(monkeypatch, kind):
    monkeypatch.setattr(cells, "has_triton", lambda: False)
    with pytest.raises(ValueError, match="backend='triton' needs the package triton"):
        kind(3, 4, backend="triton")(torch.zeros(2, 1, 3))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "cudnn"),
        ({"norm": "sequence"}, "cudnn"),
        ({"norm": "frame"}, "cudnn"),
        ({"peephole": True}, "triton"),
        ({"norm": "recurrent"}, "triton"),
        ({"norm": "frame", "peephole": True}, "triton"),
    ],
    ids=str,
)
def test_what_runs_on_a_gpu(monkeypatch, options, expected):
    class OnGpu:
        is_cuda = True

    layer = BatchNormLSTM(3, 4, **options)
    monkeypatch.setattr("asr_bn.layers.stack.has_triton", lambda: True)
    assert layer._chosen_backend(OnGpu()) == expected
    assert layer._chosen_backend(torch.zeros(1)) == "cpu"
    monkeypatch.setattr("asr_bn.layers.stack.has_triton", lambda: False)
    assert layer._chosen_backend(OnGpu()) == ("cpu" if expected == "triton" else expected)
