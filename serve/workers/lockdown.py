"""Keeps a process that reads a stranger's bytes from everything but computing and the pipes that it has.

A hole in a decoder would otherwise be a hole in the server: it could read the model, the keys and other
clients' audio, and send them away.  On Linux a filter of system calls (seccomp; it needs no privilege) lets
through only those below.  The wheels that set such filters need libseccomp and have had no release for years,
so this is done with ``prctl``.  On every system the process may open no further descriptors.

Source: the kernel's ``Documentation/userspace-api/seccomp_filter.rst``, ``linux/filter.h``,
``linux/audit.h``.
"""

import ctypes
import platform
import struct
import sys
from contextlib import suppress

# Number of each permitted system call on x86-64 and on aarch64 (None: it has no such call).
CALLS: dict[str, tuple[int, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "readv": (19, 65),
    "writev": (20, 66),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "exit": (60, 93),
    "uname": (63, 160),
    "gettimeofday": (96, 169),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "time": (201, None),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "rseq": (334, 293),
}
# Column of CALLS and number of the architecture (``AUDIT_ARCH_``) for each machine.
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ, BPF_RET
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4  # in struct seccomp_data
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050001, 0x80000000  # refused calls fail with EPERM


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def lock_in() -> bool:
    """Take from this process, for good, what it does not need; everything must have been imported.

    Returns:
        Whether system calls are filtered; False where the system has no such filter: only the limits hold.
    """
    _limit()
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return False
    return _filter_calls(*_MACHINES[platform.machine()])


def _limit() -> None:
    with suppress(ImportError):
        import resource

        for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):  # no descriptor, no byte in a file
            resource.setrlimit(limit, (0, 0))


def _filter_calls(column: int, architecture: int) -> bool:
    numbers = [numbers[column] for numbers in CALLS.values()]
    code = filter_code([number for number in numbers if number is not None], architecture)
    program = _Program(len(code) // 8, code)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program), 0, 0) == 0)


def filter_code(numbers: list[int], architecture: int) -> bytes:
    """Make the filter, ``struct sock_filter`` s: other architectures' calls kill, other calls are refused."""
    instructions = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    for number in numbers:
        instructions += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    instructions.append((_RETURN, 0, 0, _REFUSE))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
