"""The hits that a `Choice` asks for: it searches on while groups and duplicates leave too few."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashion.search.catalog import Catalog
from fashion.search.results import Choice, Hit

Pairs = list[tuple[float, int]]
"""(cosine, id)."""


def hits_for(
    embeddings: NDArray[np.float32], catalog: Catalog, choice: Choice, allowed: NDArray[np.bool_] | None
) -> list[list[Hit]]:
    """Hits for each embedding [Q,64]; allowed: a mask over the items, or None for all."""
    fetch = choice.k if choice.plain else min(4 * choice.k, catalog.index.largest_k)
    scores, ids = catalog.index.search(embeddings, fetch, allowed)
    found = [_pairs(*row) for row in zip(scores, ids, strict=True)]
    if choice.plain:
        return [choice.choose(catalog, pairs) for pairs in found]
    return [_filled(vector, catalog, choice, pairs, allowed) for vector, pairs in zip(embeddings, found, strict=True)]


def _filled(vector: NDArray[np.float32], catalog: Catalog, choice: Choice, found: Pairs, allowed: Any) -> list[Hit]:
    """Hits among what was found, and beyond it while they are too few: groups and duplicates use up items."""
    hits, fetch = choice.choose(catalog, found), len(found)
    if choice.done(hits, found):
        return hits
    if allowed is None:
        allowed = np.ones(len(catalog), np.bool_)
        if catalog.index.kind == "hnsw":  # with a mask it searches exactly, and finds what its graph missed
            hits, found = [], []
    while (left := allowed & ~choice.done_with(catalog, hits, found)).any():
        fetch = min(4 * fetch, catalog.index.largest_k)
        more = _pairs(*catalog.index.search(vector, fetch, left))
        # Sorted: an approximate index may now find nearer ones than before.
        found = sorted(found + more, key=lambda pair: (-pair[0], pair[1]))
        hits = choice.choose(catalog, found)
        if choice.done(hits, more):
            break
    return hits


def _pairs(scores: NDArray[np.float32], ids: NDArray[np.int64]) -> Pairs:
    """Without the places that an approximate index left empty."""
    return [(score, number) for score, number in zip(scores.tolist(), ids.tolist(), strict=True) if number >= 0]
