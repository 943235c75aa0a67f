"""Freed memory is kept: the kernel is not asked for the same pages again."""

import subprocess
import sys

import pytest

from asr_bn.memory import keep_freed_memory

MEGABYTES = 200
SCRIPT = f"""
import resource, sys
import numpy as np
from asr_bn.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def faults_of_an_array():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty({MEGABYTES} * 2**20, dtype=np.uint8)[:] = 1
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults_of_an_array()
print(faults_of_an_array() * resource.getpagesize() / 2**20)
"""


def megabytes_faulted_again(mode: str) -> float:
    command = [sys.executable, "-c", SCRIPT, mode]
    # NumPy asks for huge pages of its own, whose faults would not count by the page.
    environment = {"NUMPY_MADVISE_HUGEPAGE": "0"}
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_pages_are_not_cleared_again():
    assert megabytes_faulted_again("default") > 0.9 * MEGABYTES
    assert megabytes_faulted_again("keep") < 0.1 * MEGABYTES


def test_elsewhere_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
