"""What a report shows of an evaluation: tables with intervals, confusion, searches that went well and badly, a map."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashion.data.arrays import PictureArray
from fashion.data.sources import Item
from fashion.evaluation import Evaluation
from fashion.protocols import rows_in
from fashion.report.confusion import most_confused
from fashion.report.html import Section
from fashion.report.pictures import drawn, search_grid
from fashion.search.listing import box_text
from fashion.search.results import Hit, SearchResult

SHOWN = 8
"""Queries of a grid."""

HITS = 6
"""Hits of each query of a grid."""

COLOURS = 20
"""Classes up to which the map has a legend: there are no more colours to tell apart."""


def evaluation_sections(
    searches: "Searches", confusion: Image.Image, metrics: Mapping[str, float] | None = None
) -> list[Section]:
    """The sections of one evaluation; `confusion`: its matrix as a picture; `metrics`: only these figures."""
    result, queries, gallery = searches.result, searches.queries, searches.gallery
    counts = f"{len(queries.labels)} {result.split} pictures"
    if result.gallery is not None:
        counts += f", searched in the {gallery_name(gallery)} of {len(gallery.labels)}"
    counts += "; 95% bootstrap intervals." if result.intervals else "."
    sections = [
        Section("Figures", text=counts, table=figures_table(metrics or result.metrics, result.intervals)),
        Section("Confusion", picture=confusion, table=most_confused(result.confusion, result.class_names),
                caption="Rows: true classes. Columns: predicted ones. The table lists the most frequent confusions."),
    ]  # fmt: skip
    if result.per_class:
        sections.insert(1, Section("Per class", table=per_class_rows(result.per_class)))
    if result.gallery is not None and "gallery" in result.retrievals:
        spread = np.linspace(0, len(queries.labels) - 1, min(SHOWN, len(queries.labels))).astype(int)
        right = f"Green and ✓: the query's {searches.relevance}."
        sections.append(Section("Searches", picture=searches.grid(spread), caption=f"Evenly spread queries. {right}"))
        if searches.worst_grid is not None:
            caption = f"Lowest average precision. {right}"
            sections.append(Section("Worst queries", picture=searches.worst_grid, caption=caption))
    caption = (
        "Each dot is a picture, in the colour of its class; crosses are named wrongly. Shown are the two directions in "
        "which embeddings differ most (PCA)."
    )
    return [*sections, Section("Map", picture=embedding_map(result, queries.labels), caption=caption)]


def gallery_name(gallery: PictureArray) -> str:
    """The searched pictures in words: a table may have some of another split than the training searched."""
    split = gallery.items[0].split
    return f"{'training' if split == 'train' else split} gallery"


def worst(result: Evaluation, count: int = SHOWN) -> NDArray[np.int64]:
    """The queries [≤ count] whose search in the gallery has the lowest average precision, worst first.

    Queries that have nothing to find are left out.
    """
    found = result.retrievals["gallery"]
    order = np.argsort(found.figures["map"], kind="stable")
    return order[found.relevant[order] > 0][:count]


class Searches:
    """Searches of evaluated pictures in their gallery, as they are drawn; none finds itself.

    Args:
        relevance: what a hit must share with the query to be right: `class`, or a column.
    """

    def __init__(
        self, result: Evaluation, queries: PictureArray, gallery: PictureArray, root: Path, relevance: str = "class"
    ):
        self.result, self.class_names = result, result.class_names
        self.queries, self.gallery, self.root, self.relevance = queries, gallery, root, relevance
        self.themselves = rows_in(queries, gallery)

    def _sort(self, item: Item) -> str:
        return item.label if self.relevance == "class" else str(item.extra.get(self.relevance))

    def grid(self, rows: NDArray[np.int64]) -> Image.Image:
        return search_grid([self.of(int(row), HITS) for row in rows], self.class_names, tile=96)

    @cached_property
    def worst_grid(self) -> Image.Image | None:
        """The worst queries; None where no query has anything to find."""
        lowest = worst(self.result)
        return self.grid(lowest) if len(lowest) else None

    def of(self, row: int, k: int) -> SearchResult:
        """What the query in that row finds."""
        assert self.result.gallery is not None
        scores = self.result.gallery @ self.result.embeddings[row]
        order = np.argsort(-scores, kind="stable")[: k + self.themselves.shape[1]]
        order = order[~np.isin(order, self.themselves[row])][:k]
        items = self.gallery.items
        hits = [
            Hit(
                rank,
                float(scores[at]),
                int(at),
                self._sort(items[at]),
                str(self.root / items[at].path),
                {"bbox": box_text(items[at].box)},
            )
            for rank, at in enumerate(order, start=1)
        ]
        named = self.class_names[int(self.result.predicted[row])]
        probability = float(self.result.probability[row])
        query = self.queries.items[row]
        path = str(self.root / query.path)
        return SearchResult(path, named, probability, hits, truth=self._sort(query), box=query.box)


def figures_table(
    metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]
) -> tuple[list[str], list[list[str]]]:
    """[metric, value, interval] rows and their headers."""
    ranges = {name: f"{low:.3f} to {high:.3f}" for name, (low, high) in intervals.items()}
    return ["metric", "value", "95% interval"], [[n, f"{v:.3f}", ranges.get(n, "")] for n, v in metrics.items()]


def per_class_rows(per_class: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[list[str]]]:
    names = list(next(iter(per_class.values()), {}))
    rows = [
        [label, *(f"{v[n]:.3f}" if isinstance(v[n], float) else str(v[n]) for n in names)]
        for label, v in per_class.items()
    ]
    return ["class", *names], rows


def embedding_map(result: Evaluation, labels: NDArray[np.int64]) -> Image.Image:
    """The queries' embeddings in two dimensions, coloured by class; crosses are named wrongly.

    More than 20 classes share colours, and have no legend.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    centred = result.embeddings - result.embeddings.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    places = centred @ directions[:2].T
    places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))  # of a single picture
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps["tab20" if len(result.class_names) > 10 else "tab10"]
    for number, name in enumerate(result.class_names):
        own = labels == number
        if not own.any():
            continue
        right = own & (result.predicted == labels)
        colour = colours(number % colours.N)
        shown = f" {name}"  # a legend leaves out names that begin with _
        axes.scatter(places[right, 0], places[right, 1], s=14, color=colour, label=shown)
        axes.scatter(places[own & ~right, 0], places[own & ~right, 1], s=26, color=colour, marker="x")
    axes.set_xticks([])
    axes.set_yticks([])
    if len(result.class_names) <= COLOURS:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return drawn(figure)
