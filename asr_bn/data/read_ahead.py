"""Reading ahead in processes of their own, with errors that stay sentences."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")


@dataclass(frozen=True)
class _Failure:
    """Why something could not be read; an exception would reach the program wrapped in its traceback."""

    message: str


class _Guarded(Dataset[T | _Failure], Generic[T]):
    def __init__(self, items: Dataset[T]) -> None:
        self.items = items

    def __getitem__(self, key: object) -> T | _Failure:
        try:
            return self.items[key]
        except (ValueError, OSError) as error:
            return _Failure(str(error))


def read_ahead(
    items: Dataset[T], keys: Sequence[object], num_workers: int = 0, pin_memory: bool = False
) -> Iterator[T]:
    """Yield ``items[key]`` for each of ``keys`` in order, read by ``num_workers`` processes (0: by this one).

    Args:
        pin_memory: copy items to pinned memory by their ``pin_memory()``.

    Raises:
        ValueError: an item cannot be read, or a process died.
    """
    # Its own generator: drawing the loader's seed from dropout's would change what a resumed epoch draws.
    loader: DataLoader[T | _Failure] = DataLoader(
        _Guarded(items),
        batch_size=None,
        sampler=keys,
        collate_fn=_as_it_is,
        num_workers=num_workers,
        pin_memory=pin_memory,
        generator=torch.Generator().manual_seed(0),
    )
    for item in _naming_dead_workers(iter(loader)):
        if isinstance(item, _Failure):
            raise ValueError(item.message)
        yield item


def _naming_dead_workers(items: Iterator[T]) -> Iterator[T]:
    try:
        yield from items
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise ValueError(
            f"a process that reads batches ahead died ({' '.join(str(error).split())}); if memory ran out, "
            "use fewer of them (--num-workers)"
        ) from error


def _as_it_is(item: T) -> T:
    return item
