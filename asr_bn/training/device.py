"""The device that a model is trained on, and the number of processes that read for it."""

import torch

from asr_bn.system.cores import available_cores
from asr_bn.training.ranks import Ranks


def choose_device(name: str, ranks: Ranks = Ranks()) -> torch.device:
    """Return the device of this rank; ``auto`` takes CUDA where there is one.

    Raises:
        ValueError: CUDA is asked for and there is none, or this machine has more ranks than GPUs.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError("device 'cuda' was asked for, but PyTorch finds no CUDA device here")
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device is {name!r}, expected 'auto', 'cpu' or 'cuda'")
    if not available or name == "cpu":
        return torch.device("cpu")
    if ranks.size == 1:
        return torch.device("cuda")
    if ranks.local_size > torch.cuda.device_count():
        raise ValueError(
            f"{ranks.local_size} processes were started here, but there are {torch.cuda.device_count()} GPUs"
        )
    return torch.device("cuda", ranks.local_rank)


def default_num_workers(device: torch.device, ranks: Ranks = Ranks()) -> int:
    """Return the number of processes that read ahead: none on a CPU, up to four for each GPU."""
    if device.type == "cpu":
        return 0
    return max(1, min(4, available_cores() // ranks.local_size - 1))
