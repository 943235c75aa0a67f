"""Two ranks (gloo) against one process on the joined batch: outputs, gradients and statistics.

Gradients once as each rank has them, to be added up, and once as ``DistributedDataParallel`` averages them.
"""

from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing import start_processes
from torch.nn.parallel import DistributedDataParallel

from asr_bn import BatchNormLSTM, BatchNormRNN

LENGTHS = [7, 4, 9, 2, 5]
SHARES = {"equal": [[0, 1], [2, 3, 4]], "one has none": [[0, 1, 2, 3, 4], []]}
LAYERS = {
    "LSTM, sequence": lambda: BatchNormLSTM(3, 4, 2, batch_first=True, bidirectional=True, norm="sequence"),
    "LSTM, frame": lambda: BatchNormLSTM(3, 4, 2, batch_first=True, norm="frame", peephole=True, eps=1e-2),
    "LSTM, sequence, reference": lambda: BatchNormLSTM(
        3, 4, 2, batch_first=True, bidirectional=True, norm="sequence", backend="reference"
    ),
    "LSTM, frame, reference": lambda: BatchNormLSTM(
        3, 4, batch_first=True, norm="frame", backend="reference", eps=1e-2
    ),
    "LSTM, sequence, features that nearly cancel": lambda: cancelling(),
    "RNN, sequence": lambda: BatchNormRNN(3, 4, 1, batch_first=True, norm="sequence"),
    "LSTM, no norm": lambda: BatchNormLSTM(3, 4, 2, batch_first=True, bidirectional=True),
}


def cancelling() -> BatchNormLSTM:
    """Rows of opposite weights on features that a projection in front makes nearly equal."""
    layer = BatchNormLSTM(3, 4, batch_first=True, norm="sequence")
    with torch.no_grad():
        layer.weight_ih_l0[:5] = torch.tensor([1.0, -1.0, 1e-3])
    return layer


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return LAYERS[name]().double()


def batch(rows: list[int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(len(LENGTHS), max(LENGTHS), 3, generator=generator, dtype=torch.float64)
    return x[rows], torch.tensor(LENGTHS)[rows]


def forward_backward(layer: nn.Module, rows: list[int]) -> dict[str, Tensor]:
    x, lengths = batch(rows)
    x.requires_grad_()
    output = layer(x, lengths=lengths)[0]
    output.pow(3).sum().backward()
    gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
    named = gradients | dict(layer.named_buffers())
    return {"output": output.detach(), "x": x.grad} | {
        name.removeprefix("module."): value for name, value in named.items()
    }


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/ranks", rank=rank, world_size=2
    )
    results = {}
    for name, share in product(LAYERS, SHARES):
        rows = SHARES[share][rank]
        own = forward_backward(make(name), rows)
        averaged = forward_backward(DistributedDataParallel(make(name)), rows)
        results[name, share] = {"own": own, "averaged": averaged}
    torch.save(results, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict[tuple[str, str], dict[str, dict[str, Tensor]]]]:
    """What each rank found, by layer and share; one pair of processes computes all."""
    folder = tmp_path_factory.mktemp("ranks")
    start_processes(work, (str(folder),), nprocs=2, start_method="spawn")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", LAYERS)
def test_two_ranks_equal_one_process_on_the_joined_batch(ranks, name, share):
    saved = [rank[name, share] for rank in ranks]
    expected = forward_backward(make(name), [row for rows in SHARES[share] for row in rows])
    check([rank["own"] for rank in saved], expected, averaged=False)
    check([rank["averaged"] for rank in saved], expected, averaged=True)


def check(ranks: list[dict[str, Tensor]], expected: dict[str, Tensor], averaged: bool) -> None:
    for key, value in expected.items():
        first, second = (rank[key] for rank in ranks)
        if key in ("output", "x"):
            actual = torch.cat([first, second])
        elif key.startswith("stats"):
            actual = first
            assert torch.equal(first, second)
        elif averaged:
            actual = 2.0 * first
            assert torch.equal(first, second)
        else:
            actual = first + second
        torch.testing.assert_close(
            actual, value, rtol=1e-6, atol=1e-9, msg=lambda text, key=key: f"{key}: {text}"
        )


def refuse(rank: int, folder: str) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/ranks", rank=rank, world_size=2
    )
    with pytest.raises(ValueError, match="cannot share its statistics"):
        BatchNormLSTM(3, 4, norm="recurrent")(torch.zeros(2, 1, 3))
    torch.distributed.barrier()  # a rank that ends while another still connects fails it
    torch.distributed.destroy_process_group()


def test_recurrent_normalization_refuses_to_share(tmp_path):
    start_processes(refuse, (str(tmp_path),), nprocs=2, start_method="spawn")
