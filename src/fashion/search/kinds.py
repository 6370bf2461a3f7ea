"""The kinds of FAISS index: their settings, and one of each, empty."""

import math
from collections.abc import Mapping
from typing import Any

import faiss
import numpy as np

from fashion.errors import FashionError

SETTINGS: dict[str, dict[str, Any]] = {
    "flat": {},
    "hnsw": {"m": 32, "ef_construction": 200, "ef_search": 64},
    "ivf": {"lists": "auto", "nprobe": 16},
    "ivfpq": {"lists": "auto", "nprobe": 16, "subquantizers": 16, "bits": 8},
}
"""Kind → its settings and their defaults.  `flat` is exact; the others trade recall for speed."""

SEARCH_PARAMS: dict[str, tuple[str, ...]] = {
    "flat": (),
    "hnsw": ("ef_search",),
    "ivf": ("nprobe",),
    "ivfpq": ("nprobe",),
}
"""Kind → those of its settings that a search reads, which may change once it is built."""

TYPES: dict[type, str] = {
    faiss.IndexFlatIP: "flat",
    faiss.IndexHNSWFlat: "hnsw",
    faiss.IndexIVFFlat: "ivf",
    faiss.IndexIVFPQ: "ivfpq",
}
"""FAISS's own type → kind."""

LEAST = {"m": 2}
"""Settings whose minimum is not 1: FAISS crashes on a graph of one neighbour an item."""

LARGEST = 2**31 - 1
"""What FAISS's own integers hold."""


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """`value`, a whole number of any type.

    Raises:
        FashionError: if it is something else, or below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise FashionError(f"{name} is {value!r}; it should be a whole number above {least - 1}.")
    return int(value)


def checked(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an index of that kind, with defaults filled in.

    Raises:
        FashionError: for an unknown kind or setting, or a value out of its range.
    """
    if kind not in SETTINGS:
        raise FashionError(
            f"index.kind is {kind!r}; it should be one of {', '.join(SETTINGS)}, or auto in a catalogue."
        )
    for name in settings:
        if name not in SETTINGS[kind]:
            raise FashionError(f"index={kind} has no setting {name!r}; it has {', '.join(SETTINGS[kind]) or 'none'}.")
    full = {**SETTINGS[kind], **settings}
    for name, value in full.items():
        if not (value == "auto" and name == "lists"):
            full[name] = whole_number(f"index.{name}", value, LEAST.get(name, 1))
            if full[name] > LARGEST:
                raise FashionError(f"index.{name} is {value}; it should be {LARGEST} at most.")
    return full


def empty(kind: str, settings: Mapping[str, Any], dimension: int, count: int) -> Any:
    """FAISS's own index, to be trained on `count` vectors and to hold them.

    Raises:
        FashionError: if they are too few for it.
    """
    metric = faiss.METRIC_INNER_PRODUCT
    if kind == "flat":
        return faiss.IndexFlatIP(dimension)
    if kind == "hnsw":
        index: Any = faiss.IndexHNSWFlat(dimension, settings["m"], metric)
        index.hnsw.efConstruction, index.hnsw.efSearch = settings["ef_construction"], settings["ef_search"]
        return index
    lists = lists_for(count, settings)
    if not 1 <= lists <= count or (kind == "ivfpq" and count < 2 ** settings["bits"]):
        raise FashionError(f"index={kind} cannot be trained on {count} pictures; use index=flat.")
    if kind == "ivfpq" and dimension % settings["subquantizers"]:
        raise FashionError(f"index.subquantizers is {settings['subquantizers']}; it should divide {dimension}.")
    centres = faiss.IndexFlatIP(dimension)
    if kind == "ivf":
        index = faiss.IndexIVFFlat(centres, dimension, lists, metric)
    else:
        index = faiss.IndexIVFPQ(centres, dimension, lists, settings["subquantizers"], settings["bits"], metric)
    index.nprobe = min(settings["nprobe"], lists)
    index.cp.min_points_per_centroid = 1  # else FAISS warns about small catalogues
    if kind == "ivfpq":
        index.pq.cp.min_points_per_centroid = 1
    return index


def lists_for(count: int, settings: Mapping[str, Any]) -> int:
    """How many lists an ivf or ivfpq of `count` vectors has."""
    if settings["lists"] != "auto":
        return int(settings["lists"])
    # FAISS wants 39 vectors a list to place its centre well; 4·√count lists balance both steps of a search.
    return min(round(4 * math.sqrt(count)), count // 39)


def kind_of(index: Any) -> str | None:
    """The kind of FAISS's own index; None if it is none of ours."""
    return TYPES.get(type(index)) if index.metric_type == faiss.METRIC_INNER_PRODUCT else None


def settings_of(index: Any, kind: str) -> dict[str, Any]:
    """The settings of FAISS's own index, of `kind`."""
    if kind == "flat":
        return {}
    if kind == "hnsw":
        graph = index.hnsw
        return {"m": graph.nb_neighbors(1), "ef_construction": graph.efConstruction, "ef_search": graph.efSearch}
    codes = {"subquantizers": index.pq.M, "bits": index.pq.nbits} if kind == "ivfpq" else {}
    return {"lists": index.nlist, "nprobe": index.nprobe, **codes}
