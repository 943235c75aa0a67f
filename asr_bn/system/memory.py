"""What a process does with freed memory."""

import ctypes
import sys
from collections.abc import Callable

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -3, -4, -8
_NEVER = -1


def keep_freed_memory() -> bool:
    """Let this process keep freed memory for the next arrays and tensors.

    By default glibc takes the memory of each large array from the system and gives it back.  The system
    clears each page again: on long utterances a fifth of a training step on a CPU.  The process then stays as
    large as its peak, which may itself be a tenth higher.

    Returns:
        False where there is no glibc, and nothing was changed.
    """
    return _set({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _NEVER})


def keep_some_freed_memory(largest: int = 32 << 20, most: int = 64 << 20) -> bool:
    """Keep freed memory as `keep_freed_memory`, but bounded, for a server that runs for months.

    Its threads share one arena: each arena keeps what is freed in it, and a server of many threads would
    grow for hours until all of them have held the most.  Threads that run already keep the arenas that they
    have: call it first.

    Args:
        largest: bytes of a block that is kept; larger ones go back at once.  glibc takes 32 MB at most.
        most: bytes kept beyond what is in use.

    Returns:
        False where there is no glibc, and nothing was changed.
    """
    return _set({_M_MMAP_THRESHOLD: largest, _M_TRIM_THRESHOLD: most, _M_ARENA_MAX: 1})


def give_back_freed_memory() -> bool:
    """Give the system every page that this process has freed.

    The bounds of `keep_some_freed_memory` hold for the end of an arena only: below one block that is in use
    a server that has been busy once would keep hundreds of megabytes, and a little more every hour.

    Returns:
        False where there is no glibc, and nothing was changed.
    """
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)
    return trim is not None


def _set(parameters: dict[int, int]) -> bool:
    mallopt = _glibc("mallopt")
    return mallopt is not None and all(mallopt(name, value) for name, value in parameters.items())


def _glibc(name: str) -> Callable[..., int] | None:
    """Return a function of the C library, None where it has none of that name: musl, or not Linux."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
