"""Freed memory is kept: after some rounds, large arrays cost no page faults."""

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
for _ in range(30):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(64 << 20, dtype=torch.uint8)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*faults)
"""


def faults(kept: bool) -> list[int]:
    script = SCRIPT.format(kept=kept)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return [int(count) for count in done.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_memory_is_not_fetched_anew():
    kept, fetched = faults(kept=True), faults(kept=False)
    assert min(fetched) > kept[0] / 2
    assert max(kept[-5:]) < kept[0] / 10
