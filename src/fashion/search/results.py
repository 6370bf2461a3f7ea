"""What a search answers, and how hits are chosen among the nearest items."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fashion.errors import FashionError
from fashion.search.catalog import Catalog
from fashion.search.listing import box_of
from fashion.search.selecting import column_of, in_numpy
from fashion.search.values import plain

NEAR_DUPLICATE = 0.999
"""Cosine from which two items are folded into one: the same picture, saved again or scaled."""


@dataclass(frozen=True)
class Hit:
    """One found item: rank from 1, cosine, and the item's columns."""

    rank: int
    score: float
    id: int
    label: str | None
    path: str
    item: dict[str, Any]

    @property
    def name(self) -> str:
        """The item's external_id; the path of its picture where it has none."""
        return str(self.item.get("external_id", self.path))

    @property
    def box(self) -> tuple[float, ...] | None:
        """The part of the picture that is the item, (left, top, right, bottom) in pixels; None: all of it."""
        return box_of(self.item.get("bbox"))


@dataclass(frozen=True)
class SearchResult:
    """What one query found, best first, and what the model takes the query for.

    predicted, probability: None of an item whose picture is gone.  match: whether the best hit is near enough to be an
    answer, by the model's calibrated threshold; None where the model has none.  truth: the query's class, where it is
    known.  box: the part of the query's picture that is asked about, (left, top, right, bottom) in pixels; None: all of
    it.  picture: where the query's picture lies, if `query` is an item's name and not that.
    """

    query: str
    predicted: str | None
    probability: float | None
    hits: list[Hit]
    match: bool | None = None
    truth: str | None = None
    box: tuple[float, ...] | None = None
    picture: str | None = None

    @property
    def named(self) -> str:
        """What the model takes the query for, and how surely, in words."""
        return "its picture is gone" if self.predicted is None else f"{self.predicted} ({self.probability:.0%})"

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        values: dict[str, Any] = plain(asdict(self))
        return values


def check_group(group_by: str, names: Sequence[str]) -> None:
    """Raise FashionError unless it is one of those columns."""
    if group_by not in names:
        raise FashionError(f"group_by is {group_by!r}; the catalogue's columns are {', '.join(names)}.")


@dataclass(frozen=True)
class Choice:
    """Which of the nearest items become hits.

    k: at most so many.  group_by: only the best of all items that share this column's value.  score_threshold: none
    below it.  fold_duplicates: of nearly identical pictures only the best.
    """

    k: int = 5
    group_by: str | None = None
    score_threshold: float | None = None
    fold_duplicates: bool = False

    def check(self, catalog: Catalog) -> None:
        if self.k < 1:
            raise FashionError(f"k is {self.k}; it should be 1 at least.")
        if self.group_by is None:
            return
        check_group(self.group_by, catalog.items.column_names)
        kind = catalog.items.schema.field(self.group_by).type
        if pa.types.is_nested(kind):
            raise FashionError(
                f"group_by is {self.group_by!r}, a column of lists or records; name one of single values."
            )

    @property
    def plain(self) -> bool:
        """Whether the k nearest are the answer as they are."""
        return self.group_by is None and not self.fold_duplicates

    def below(self, score: float) -> bool:
        """Whether an item of that score is too far to be a hit."""
        return self.score_threshold is not None and score < self.score_threshold

    def done(self, hits: Sequence[Hit], latest: Sequence[tuple[float, int]]) -> bool:
        """Whether no further hit is wanted, or to be had, after the (score, id) that were found last."""
        return len(hits) == self.k or not latest or self.below(latest[-1][0])

    def choose(self, catalog: Catalog, found: Sequence[tuple[float, int]]) -> list[Hit]:
        """Hits among (score, id), best first."""
        hits: list[Hit] = []
        groups: set[Any] = set()
        if self.fold_duplicates:
            vectors = catalog.embeddings[np.searchsorted(catalog.ids, [number for _, number in found])]
            folded = np.zeros(len(found), np.bool_)
        for at, (score, number) in enumerate(found):
            if len(hits) == self.k or self.below(score):
                break
            if self.fold_duplicates and folded[at]:
                continue
            group = catalog.value(number, self.group_by) if self.group_by else None
            if group is not None and group in groups:
                continue
            groups.add(group)
            if self.fold_duplicates:
                folded |= vectors @ vectors[at] >= NEAR_DUPLICATE
            item = catalog.item(number)
            hits.append(Hit(len(hits) + 1, score, number, item["label"], catalog.place(item), item))
        return hits

    def groups(self, hits: Iterable[Hit]) -> set[Any]:
        """The values of the column that have their hit."""
        return {hit.item[self.group_by] for hit in hits} - {None} if self.group_by else set()

    def done_with(self, catalog: Catalog, hits: Sequence[Hit], found: Iterable[tuple[float, int]]) -> NDArray[np.bool_]:
        """Which items [N] cannot be further hits: what was found already, and others of the hits' groups or likes."""
        done = np.zeros(len(catalog), np.bool_)
        done[np.searchsorted(catalog.ids, [number for _, number in found])] = True
        if self.fold_duplicates and hits:
            of_hits = catalog.embeddings[[catalog.row(hit.id) for hit in hits]]
            done |= (np.asarray(catalog.embeddings) @ of_hits.T >= NEAR_DUPLICATE).any(axis=1)
        groups = self.groups(hits)
        if groups:
            column = column_of(str(self.group_by), catalog.items)
            done |= in_numpy(pc.is_in(column, value_set=pa.array(list(groups), column.type)))
        return done
