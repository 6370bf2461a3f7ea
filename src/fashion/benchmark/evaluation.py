"""How long, and in how much memory, a large gallery is searched by as many queries as an evaluation has."""

import json
import subprocess
import sys
from typing import Any

SEARCH = """
import json, sys, time
import numpy as np
from fashion.benchmark.catalog import synthetic_embeddings
from fashion.retrieval import retrieval
gallery, queries = (synthetic_embeddings(int(count), seed) for seed, count in enumerate(sys.argv[1:]))
labels = [np.random.default_rng(seed).integers(0, 10, len(one)) for seed, one in enumerate((gallery, queries))]
started = time.perf_counter()
retrieval(queries, labels[1], gallery, labels[0])
seconds = time.perf_counter() - started
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(json.dumps([seconds, int(peak) / 1024]))
"""


def run(items: int, queries: int) -> dict[str, Any]:
    """The figures by name, of all metrics of `queries` in a gallery of `items`."""
    command = [sys.executable, "-c", SEARCH, str(items), str(queries)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, peak = json.loads(done.stdout)
    return {"gallery": items, "queries": queries, "seconds": seconds, "peak memory MiB, Python and all": peak}
