"""Checks of what the recurrent layers are given: arguments, inputs and first states."""

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import TypeGuard

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

BACKENDS = ("auto", "reference", "cpu", "cudnn", "triton")


def check_arguments(
    sizes: Mapping[str, object], shares: Mapping[str, object], eps: object, proj_size: int, backend: str
) -> None:
    """Raise ValueError where an argument of a constructor is out of its range."""
    for name, value in sizes.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is {value!r}, expected a whole number, at least 1")
    for name, share in shares.items():
        if not _is_number(share) or not 0.0 <= share <= 1.0:
            raise ValueError(f"{name} is {share!r}, expected a number from 0 to 1")
    if not _is_number(eps) or not 0.0 <= eps < math.inf:
        raise ValueError(f"eps is {eps!r}, expected a number, at least 0")
    if proj_size != 0:
        raise ValueError(f"proj_size is {proj_size}, expected 0: hidden states are not projected")
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}, expected one of {BACKENDS}")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)


def check_packed(input: PackedSequence) -> None:
    """Raise ValueError where a ``PackedSequence``, which its caller may have made, is not one of rows."""
    sizes, shape = input.batch_sizes.tolist(), tuple(input.data.shape)
    if len(shape) != 2 or sum(sizes) != shape[0] or min(sizes, default=0) < 1 or sizes != sorted(sizes)[::-1]:
        raise ValueError(
            f"the PackedSequence has data of shape {shape} and batch_sizes {sizes}, "
            "expected rows of features, and their numbers at each time step, never increasing"
        )


def check_padded(input: object) -> None:
    """Raise TypeError or ValueError where an input is no padded tensor."""
    if not isinstance(input, Tensor):
        raise TypeError(f"the input is {_kind(input)}, expected a tensor or a PackedSequence")
    if input.layout != torch.strided or input.is_nested:
        raise ValueError("the input is a sparse or nested tensor, expected a padded one or a PackedSequence")
    if input.dim() not in (2, 3):
        raise ValueError(f"the input has {input.dim()} dimensions, expected 2 or 3")


def check_input(input: Tensor, input_size: int, dtype: torch.dtype) -> None:
    """Raise ValueError where the first layer cannot multiply an input, packed or padded.

    Args:
        input: its last dimension are the features.
        input_size: features expected.
        dtype: of the weights; under autocast it may differ.
    """
    if input.shape[-1] != input_size:
        raise ValueError(f"the input has {input.shape[-1]} features, expected input_size = {input_size}")
    if input.is_meta:
        raise ValueError("the input is on the meta device: lengths and statistics need values")
    if input.dtype != dtype and not torch.is_autocast_enabled(input.device.type):
        raise ValueError(f"the input is of {input.dtype}, the weights are of {dtype}")


def check_state(hx: object, names: tuple[str, ...], shape: tuple[int, ...], like: Tensor) -> None:
    """Raise ValueError where the caller's first states are not of ``shape``, or not as the input ``like``."""
    if not isinstance(hx, (tuple, list)) or len(hx) != len(names):
        raise ValueError(f"hx is {_kind(hx)}, expected the {len(names)} tensors {', '.join(names)}")
    for name, value in zip(names, hx, strict=True):
        if not isinstance(value, Tensor):
            raise ValueError(f"{name} is {_kind(value)}, expected a tensor")
        if value.shape != shape:
            raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {shape}")
        if value.device != like.device:
            raise ValueError(f"{name} is on {value.device}, the input on {like.device}")
        if value.dtype != like.dtype and not torch.is_autocast_enabled(like.device.type):
            raise ValueError(f"{name} is of {value.dtype}, the input of {like.dtype}")


def _kind(value: object) -> str:
    number = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"a {type(value).__name__}{number}"
