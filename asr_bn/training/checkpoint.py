"""Checkpoints: one file, self-describing, checked against a SHA-256 of itself when it is read.

A checkpoint is an ordinary ``torch.save`` file.  Its checksum is the comment of the zip archive that such
a file is, so that ``torch.load(path, weights_only=True)`` reads it too.
"""

import hashlib
import io
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from asr_bn.system.files import write_bytes

ACOUSTIC_MODEL = "asr_bn acoustic model, version 1"
LANGUAGE_MODEL = "asr_bn language model, version 1"
_PREFIX = b"sha256:"
_COMMENT_BYTES = len(_PREFIX) + 64

Values = dict[str, Any]  # plain values by name


class Checkpoint(TypedDict, total=False):
    """What a checkpoint holds; ``final.pt`` has no state of a run, others have no figures."""

    format: str  # the kind
    config: dict[str, Values]
    description: Values  # of the data
    version: dict[str, str]
    model: dict[str, Tensor]
    figures: dict[str, float]  # of the final evaluation
    system: Values | None  # of the alignments; older checkpoints have none
    # The state of a run.
    optimizer: Values
    scaler: Values
    schedule: Values
    progress: Values
    random_state: dict[str, Tensor]
    random_states_of_other_ranks: list[dict[str, Tensor]]
    checksums: dict[str, Tensor]  # of the features of both sets
    recurrent_state: tuple[Tensor, ...] | None  # in which the next window starts


def save_checkpoint(path: Path, state: Checkpoint, kind: str) -> None:
    """Write ``state`` to ``path`` atomically; ``kind`` is ``ACOUSTIC_MODEL`` or ``LANGUAGE_MODEL``."""
    buffer = io.BytesIO()
    torch.save({"format": kind, **state}, buffer)
    body = buffer.getvalue()
    # The last field of a zip archive is the length of its comment; the checksum covers all before it.
    body = body[:-2] + struct.pack("<H", _COMMENT_BYTES)
    write_bytes(path, body + _PREFIX + hashlib.sha256(body).hexdigest().encode())


def load_checkpoint(path: Path, kind: str) -> Checkpoint:
    """Read a checkpoint of the given kind onto the CPU.

    Raises:
        ValueError: it is cut short, damaged, or of another kind or program.
        FileNotFoundError: there is none.
    """
    data = path.read_bytes()
    body, comment = data[:-_COMMENT_BYTES], data[-_COMMENT_BYTES:]
    if not comment.startswith(_PREFIX) or not zipfile.is_zipfile(io.BytesIO(data)):
        raise ValueError(
            f"{path}: not a whole checkpoint (no checksum at its end); it was cut short or is another file"
        )
    if comment[len(_PREFIX) :].decode("ascii", "replace") != hashlib.sha256(body).hexdigest():
        raise ValueError(f"{path}: damaged checkpoint (its SHA-256 does not match its contents)")
    state: Checkpoint = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if state.get("format") != kind:
        raise ValueError(f"{path}: format is {state.get('format')!r}, expected {kind!r}")
    return state


@contextmanager
def contents_of(path: Path) -> Iterator[None]:
    """Turn errors of what a checkpoint holds or lacks into a ``ValueError`` of one line with its name."""
    try:
        yield
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ValueError(f"{path}: the checkpoint does not fit this version: {reason}") from error
