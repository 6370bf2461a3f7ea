"""How fast a catalogue is searched, opened and synced, beside raw FAISS over the same vectors."""

import itertools
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss as typed_faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fashion.search.catalog import Catalog
from fashion.search.engine import VisualSearchEngine
from fashion.search.index import FAISSIndex
from fashion.search.listing import Content, Listing, content_key
from fashion.search.results import Choice
from fashion.search.searching import unit_vectors
from fashion.search.store import Store
from fashion.timing import interleaved, ratio, search_ms

faiss: Any = typed_faiss
LABELS = 10
FILTER = "label = 'class3'"


def synthetic_embeddings(count: int, seed: int = 0, kinds: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """[count,64] of length 1: products around kinds of garments, and their pictures around these.

    They are as far apart as the shipped model's of the clothing dataset: two of a kind have a cosine of about 0.77, two
    of different kinds of about 0, and the tenth neighbour of a new one among 3,068 is at 0.83 to 0.89, where those of
    photos are at 0.75 to 0.92.

    Args:
        kinds: [K,64] of length 1; None: ten random ones.
    """
    random, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    kinds = unit_vectors(fixed.normal(size=(10, 64)), 64) if kinds is None else kinds
    products = np.resize(kinds, (2000, 64)) + fixed.normal(0, 0.4 / 8, (2000, 64)).astype(np.float32)
    vectors = products[random.integers(len(products), size=count)]
    vectors += 0.3 / 8 * random.standard_normal((count, 64), dtype=np.float32)
    return unit_vectors(vectors, 64)


def synthetic_listing(count: int) -> Listing:
    """Items that need no pictures: what is noted of them stands for them."""
    root = Path("/pictures")
    paths = [root / f"{number:08d}.jpg" for number in range(count)]
    columns: dict[str, list[Any]] = {
        "label": [f"class{number % LABELS}" for number in range(count)],
        "price": list(range(count)),
    }
    return Listing(root, paths, columns, None, [Content(1, 1, f"{number:064x}") for number in range(count)])


def run(bundle: Path, items: int, rounds: int) -> dict[str, Any]:
    """The figures by name."""
    figures: dict[str, Any] = {"items": items}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "catalog"
        engine = filled(bundle, folder, items)
        figures |= _searches(engine, rounds)
        figures |= _opening(bundle, folder, items)
        del engine
        figures |= _syncing(bundle, Path(scratch) / "synced", min(items, 100_000))
    return figures


def filled(bundle: Path, folder: Path, items: int, kinds: NDArray[np.float32] | None = None) -> VisualSearchEngine:
    """An engine whose catalogue of so many synthetic items, of these `kinds`, lies in `folder`."""
    engine = VisualSearchEngine(bundle)
    listing, vectors = synthetic_listing(items), synthetic_embeddings(items, kinds=kinds)
    known = _known(listing, vectors)
    store = Store(folder)
    with store.writer():
        engine.sync(listing, store, known=known)
    return engine


def _known(listing: Listing, vectors: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    return {content_key(one.sha256): vector for one, vector in zip(listing.contents or (), vectors, strict=True)}


def _searches(engine: VisualSearchEngine, rounds: int) -> dict[str, float]:
    catalog = engine.opened
    raw = faiss.IndexFlatIP(64)
    raw.add(np.ascontiguousarray(catalog.embeddings))
    assert isinstance(catalog.index, FAISSIndex)
    started = time.perf_counter()
    catalog.index.quicken()  # as a server does before it answers
    figures = {"flat: readying it for single queries s": time.perf_counter() - started}
    choice, spaces = Choice(10), itertools.count(1)
    for size in (1, 64):
        queries = synthetic_embeddings(size, seed=1)
        times = interleaved(
            {
                "raw": lambda queries=queries: raw.search(queries, 10),  # type: ignore[misc]
                "ours": lambda queries=queries: engine.nearest(queries, choice),  # type: ignore[misc]
                "filtered": lambda queries=queries: engine.nearest(queries, choice, FILTER),  # type: ignore[misc]
                # Spaces make it another text, so that it is not cached.
                "new": lambda queries=queries: engine.nearest(queries, choice, FILTER + " " * next(spaces)),  # type: ignore[misc]
            },
            rounds,
        )
        figures |= {
            f"flat, {size} queries: raw FAISS ms": 1000 * times["raw"].median,
            f"flat, {size} queries: ours ms": 1000 * times["ours"].median,
            f"flat, {size} queries: ours / raw": ratio(times["ours"], times["raw"]),
            f"flat, {size} queries: filtered / unfiltered": ratio(times["filtered"], times["ours"]),
            f"flat, {size} queries: with a new filter / unfiltered": ratio(times["new"], times["ours"]),
        }
    return figures


OPENING = """
import json, sys, time
started = time.perf_counter()
import numpy as np
from fashion import VisualSearchEngine
from fashion.search.results import Choice
imported = time.perf_counter()
def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
base = peak()
engine = VisualSearchEngine(sys.argv[1], sys.argv[2])
engine.nearest(np.eye(1, 64, dtype=np.float32), Choice(10))
grown = peak() - base
print(json.dumps([imported - started, time.perf_counter() - imported, grown]))
"""


def _opening(bundle: Path, folder: Path, items: int) -> dict[str, float]:
    found = []
    for _ in range(3):
        command = [sys.executable, "-c", OPENING, str(bundle), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    imports, opened, grown = np.median(found, axis=0)
    table = (folder / "current" / "items.parquet").stat().st_size
    held = pa.table(Catalog.open(folder).items).nbytes
    return {
        "opening: imports s": float(imports),
        "opening to the first answer s": float(opened),
        "memory MB": float(grown / 1024),
        "memory / (vectors + items)": float(grown * 1024 / (items * 64 * 4 + held)),
        "items.parquet MB": table / 1e6,
    }


def _syncing(bundle: Path, folder: Path, items: int) -> dict[str, float]:
    """100 changed, of so many, whose embeddings are at hand: what a sync costs beyond embedding."""
    filled(bundle, folder, items)
    listing = synthetic_listing(items)
    contents = list(listing.contents or ())
    for at in range(0, items, items // 100):
        contents[at] = Content(2, 2, f"changed{at}")
    changed = replace(listing, contents=contents)
    known = _known(changed, synthetic_embeddings(items, seed=2))
    engine = VisualSearchEngine(bundle)
    store = Store(folder)
    started = time.perf_counter()
    with store.writer():
        engine.catalog = Catalog.open(folder)
        changes = engine.sync(changed, store, known=known)
    assert len(changes.changed) == len(range(0, items, items // 100))
    return {f"syncing 100 changes into {items:,} items s": time.perf_counter() - started}


def approximate(items: int) -> list[dict[str, Any]]:
    """HNSW beside flat: rows of index, recall@10 on new queries, and the median time of one search in ms."""
    vectors, queries = synthetic_embeddings(items), synthetic_embeddings(100, seed=1)
    flat = FAISSIndex(64)
    flat.build(vectors)
    truth = flat.search(queries, 10)[1]
    flat.quicken()  # as a server does before it answers
    started = time.perf_counter()
    graph = FAISSIndex(64, "hnsw")
    graph.build(vectors)
    built = time.perf_counter() - started
    rows = []
    for ef in (None, 16, 32, 64, 128, 256):
        index = flat if ef is None else graph
        if ef is not None:
            graph.set_search_params(ef_search=ef)
        found = index.search(queries, 10)[1]
        recall = float(np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(truth, found, strict=True)]))
        name = "flat" if ef is None else f"hnsw ef_search={ef}"
        rows.append(
            {
                "index": name,
                "recall@10": recall,
                "search_ms": search_ms(index.search, queries),
                "build_s": round(built, 1),
            }
        )
    return rows
