"""Freed memory is kept: the kernel is not asked for the same pages again."""

import subprocess
import sys

import pytest

from asr_bn.system.memory import give_back_freed_memory, keep_freed_memory, keep_some_freed_memory

MEGABYTES = 200
SCRIPT = """
import resource, sys
import numpy as np
from asr_bn.system.memory import keep_freed_memory, keep_some_freed_memory
how = dict(default=lambda: True, keep=keep_freed_memory, some=keep_some_freed_memory)
assert how[sys.argv[1]]()
def faults_of_an_array():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(int(sys.argv[2]) * 2**20, dtype=np.uint8)[:] = 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults_of_an_array()
print(faults_of_an_array() * resource.getpagesize() / 2**20)
"""


def megabytes_faulted_again(mode: str, megabytes: int = MEGABYTES) -> float:
    command = [sys.executable, "-c", SCRIPT, mode, str(megabytes)]
    # NumPy asks for huge pages of its own, whose faults would not count by the page.
    environment = {"NUMPY_MADVISE_HUGEPAGE": "0"}
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_pages_are_not_cleared_again():
    assert megabytes_faulted_again("default") > 0.9 * MEGABYTES
    assert megabytes_faulted_again("keep") < 0.1 * MEGABYTES


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_a_server_keeps_small_blocks_and_gives_large_ones_back():
    assert megabytes_faulted_again("default", 30) > 27
    assert megabytes_faulted_again("some", 30) < 3
    assert megabytes_faulted_again("some", MEGABYTES) > 0.9 * MEGABYTES


ARENAS = """
import ctypes, re, sys, tempfile, threading
from asr_bn.system.memory import keep_some_freed_memory
if sys.argv[1] == "some":
    assert keep_some_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.fopen.restype = ctypes.c_void_p, ctypes.c_void_p
meet = threading.Barrier(8)
def allocate():
    libc.malloc(ctypes.c_size_t(1000))
    meet.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
with tempfile.NamedTemporaryFile() as report:
    stream = ctypes.c_void_p(libc.fopen(report.name.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(len(re.findall(rb"<heap ", report.read())))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_a_servers_threads_share_one_arena():
    """As ``malloc_info`` counts them."""
    command = [sys.executable, "-c", ARENAS]
    default, some = (int(subprocess.check_output([*command, mode])) for mode in ("default", "some"))
    assert default > 2
    assert some == 1


FRAGMENTS = """
import ctypes
from asr_bn.system.memory import give_back_freed_memory, keep_some_freed_memory
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
assert keep_some_freed_memory()
before, blocks = resident(), []
for _ in range(200):
    blocks.append(libc.malloc(ctypes.c_size_t(2**20)))
    ctypes.memset(blocks[-1], 1, 2**20)
pin = libc.malloc(ctypes.c_size_t(2**20))  # above all of them: the end of the arena
for block in blocks: libc.free(block)
kept = resident() - before
assert give_back_freed_memory()
print(kept, resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_what_was_freed_below_a_block_in_use_is_given_back():
    kept, left = map(float, subprocess.check_output([sys.executable, "-c", FRAGMENTS]).split())
    assert kept > 190
    assert left < 10


def test_elsewhere_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
    assert keep_some_freed_memory() is False
    assert give_back_freed_memory() is False
