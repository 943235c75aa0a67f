"""What a process does with freed memory."""

import ctypes
import sys

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

    Its threads share two arenas: each arena keeps what is freed in it, and a server of many threads would
    grow for hours until all of them are full.

    Args:
        largest: bytes of a block that is kept; larger ones go back at once.  glibc takes 32 MB at most.
        most: bytes kept beyond what is in use.

    Returns:
        False where there is no glibc, and nothing was changed.
    """
    return _set({_M_MMAP_THRESHOLD: largest, _M_TRIM_THRESHOLD: most, _M_ARENA_MAX: 2})


def _set(parameters: dict[int, int]) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    return all(mallopt(name, value) for name, value in parameters.items())
