"""The protocols by which an evaluation searches, and what a search by each of them should find."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fashion.data.arrays import PictureArray
from fashion.errors import FashionError
from fashion.retrieval import Retrieval, retrieval

PROTOCOLS = ("gallery", "leave-one-out")
PREFIX = {"gallery": "gallery", "leave-one-out": "loo", "filtered": "filtered"}


def check_protocols(names: Sequence[str], protocols: Sequence[str]) -> None:
    """Raise FashionError for a metric's name, such as `loo/map`, whose protocol is not among `protocols`."""
    protocol_of = {prefix: protocol for protocol, prefix in PREFIX.items()}
    for name in names:
        prefix, slash, _ = name.rpartition("/")
        if slash and prefix not in protocol_of:
            raise FashionError(f"metrics names {name!r}; before the / stands one of {', '.join(protocol_of)}.")
        if slash and protocol_of[prefix] not in protocols:
            raise FashionError(
                f"metrics names {name!r}, which needs {protocol_of[prefix]} among protocols; add it there."
            )


def searched(
    queries: PictureArray,
    embeddings: NDArray[np.float32],
    gallery: PictureArray,
    in_gallery: NDArray[np.float32] | None,
    protocols: Sequence[str],
    relevance: str,
    predicted: NDArray[np.int64] | None = None,
) -> dict[str, Retrieval]:
    """Protocol → what it finds for each query.

    Args:
        embeddings, in_gallery: [Q,D] and [G,D] of the queries and the gallery; `leave-one-out` alone needs no gallery.
        protocols, relevance: as in `fashion.evaluation.evaluate`.
        predicted: [Q] the class that each query is named, which `filtered` needs.

    Raises:
        FashionError: if a picture has no column `relevance`.
    """
    wanted, gallery_wanted = relevant_numbers(queries, gallery, relevance)
    themselves = rows_in(queries, gallery)
    retrievals: dict[str, Retrieval] = {}
    for protocol in protocols:
        if protocol == "leave-one-out":
            among = rows_in(queries, queries)
            retrievals[protocol] = retrieval(embeddings, wanted, embeddings, wanted, exclude=among)
            continue
        assert in_gallery is not None
        only = None
        if protocol == "filtered":
            assert predicted is not None
            only = (predicted, gallery.labels)
        retrievals[protocol] = retrieval(embeddings, wanted, in_gallery, gallery_wanted, exclude=themselves, only=only)
    return retrievals


def rows_in(queries: PictureArray, gallery: PictureArray) -> NDArray[np.int64]:
    """[Q,E] the rows of each query in the gallery, which its search must leave out; -1 where it is not there.

    E is 1, unless a table lists a picture several times, with other labels.
    """
    rows: dict[tuple[str, tuple[float, ...] | None], list[int]] = defaultdict(list)
    for at, item in enumerate(gallery.items):
        rows[item.path, item.box].append(at)
    found = [rows.get((item.path, item.box), []) for item in queries.items]
    most = max([1, *map(len, found)])
    return np.array([own + [-1] * (most - len(own)) for own in found], np.int64)


def relevant_numbers(
    queries: PictureArray, gallery: PictureArray, relevance: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A number for each query and each gallery picture; a search should find those of the query's number.

    Raises:
        FashionError: if a picture lacks the column.
    """
    if relevance == "class":
        return queries.labels, gallery.labels
    values = [item.extra.get(relevance) for item in (*queries.items, *gallery.items)]
    if any(value in (None, "") for value in values):
        raise FashionError(f"relevance is {relevance!r}, and some pictures have no such column; set relevance=class.")
    _, numbers = np.unique(np.array(values, dtype=str), return_inverse=True)
    return numbers[: len(queries.items)].astype(np.int64), numbers[len(queries.items) :].astype(np.int64)
