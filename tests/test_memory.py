"""Freed memory is kept: large arrays, made anew, cost no page faults after the first."""

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from fashion.memory import keep_freed_memory
if {kept}:
    assert keep_freed_memory()
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(64 << 20, dtype=torch.uint8)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*faults)
"""


def faults(kept: bool) -> list[int]:
    script = SCRIPT.format(kept=kept)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return [int(count) for count in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_memory_is_not_fetched_anew():
    first, *later = faults(kept=True)
    assert max(later) < first / 10
    assert min(faults(kept=False)) > first / 10
