"""How fast a server answers over HTTP, beside the same decoding, embedding and search in a loop without it."""

import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion.benchmark.catalog import filled
from fashion.benchmark.embedding import draw_photos
from fashion.connection import as_form
from fashion.search.engine import VisualSearchEngine

PICTURES = 32
CLIENTS = 8
"""Connections at saturation; with more, requests wait in the server's queue only."""


def run(bundle: Path, items: int, rounds: int) -> dict[str, Any]:
    """The figures by name."""
    figures: dict[str, Any] = {"items": items}
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch) / "photos"
        photos.mkdir()
        bodies = [path.read_bytes() for path in draw_photos(photos, PICTURES)]
        small = Path(scratch) / "small"
        filled(bundle, small, 10_000)
        with Server(small) as server:
            figures["start to ready, 10,000 items, s"] = server.started
        folder = Path(scratch) / "catalog"
        filled(bundle, folder, items, kinds(bundle, Path(scratch)))
        engine = VisualSearchEngine(bundle, folder)
        with Server(folder) as server:
            figures["resident memory MB"] = server.memory_mb()
            load(server.port, bodies, 1, 50)  # warm
            loops, rates, lights, fulls = [], [], [], []
            for _ in range(3):  # in turns
                lights += load(server.port, bodies, 1, 10 * rounds)[0]
                loops.append(loop(engine, bodies, 10 * rounds))
                times, rate = load(server.port, bodies, CLIENTS, 20 * rounds)
                fulls += times
                rates.append(rate)
    figures |= {
        "one client, p50 ms": 1000 * float(np.quantile(lights, 0.5)),
        "one client, p99 ms": 1000 * float(np.quantile(lights, 0.99)),
        f"{CLIENTS} clients, requests/s": float(np.median(rates)),
        f"{CLIENTS} clients, p99 ms": 1000 * float(np.quantile(fulls, 0.99)),
        "loop without HTTP, searches/s": float(np.median(loops)),
        "HTTP / loop, throughput": float(np.median(np.divide(rates, loops))),
    }
    return figures


def kinds(bundle: Path, scratch: Path) -> NDArray[np.float32]:
    """Embeddings [200,64] of other garments than those that are searched for."""
    folder = scratch / "others"
    folder.mkdir()
    return VisualSearchEngine(bundle).encode(draw_photos(folder, 200, seed=1))[0]


def loop(engine: VisualSearchEngine, bodies: list[bytes], count: int) -> float:
    """Searches a second of one thread that does nothing else."""
    started = time.perf_counter()
    for at in range(count):
        engine.search(bodies[at % len(bodies)], 10)
    return count / (time.perf_counter() - started)


def load(port: int, bodies: list[bytes], clients: int, count: int) -> tuple[list[float], float]:
    """Seconds of each of `count` requests over kept connections, and requests a second."""
    forms = [as_form([body], {}) for body in bodies]

    def client(share: int) -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        times = []
        for at in range(share):
            form, content_type = forms[at % len(forms)]
            started = time.perf_counter()
            connection.request("POST", "/v1/search", form, {"Content-Type": content_type})
            response = connection.getresponse()
            response.read()
            assert response.status == 200, response.status
            times.append(time.perf_counter() - started)
        connection.close()
        return times

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        parts = list(pool.map(client, [count // clients] * clients))
    times = [value for part in parts for value in part]
    return times, len(times) / (time.perf_counter() - started)


class Server:
    """`task=serve` as a process of its own, from start to end of a with block."""

    def __init__(self, catalog: Path, *overrides: str):
        self.catalog, self.overrides = catalog, overrides
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.started = float("nan")

    def __enter__(self) -> "Server":
        run_py = Path(__file__).parents[3] / "run.py"
        began = time.perf_counter()
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, str(run_py), "task=serve", f"catalog={self.catalog}", f"server.port={self.port}",
             f"hydra.run.dir={self.catalog.parent / 'run'}", *self.overrides],
            stdout=self.log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        while not self._ready():
            if self.process.poll() is not None or time.perf_counter() - began > 60:
                self.process.kill()
                self.log.seek(0)
                raise RuntimeError(f"the server did not start: {self.log.read().decode()[-500:]}")
            time.sleep(0.02)
        self.started = time.perf_counter() - began
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.wait(40)
        self.log.close()

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def memory_mb(self) -> float:
        """Resident now."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
