"""The visual search engine: an encoder and a catalogue, and what one asks of them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from fashion.data.images import BadPictureError, find_pictures, keep_good, load_picture, load_pictures
from fashion.encoder import BATCH, Embedded, load_encoder
from fashion.errors import FashionError
from fashion.search.catalog import Catalog

Query = str | Path | bytes | Image.Image | NDArray[np.uint8]


@dataclass(frozen=True)
class Hit:
    """One found item: rank from 1, cosine, and the item's columns."""

    rank: int
    score: float
    id: int
    label: str | None
    path: str
    item: dict[str, Any]


@dataclass(frozen=True)
class SearchResult:
    """What one query found, best first, and what the model takes the query for."""

    query: str
    predicted: str
    probability: float
    hits: list[Hit]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class VisualSearchEngine:
    """Embeds, names and searches pictures.

    ```python
    engine = VisualSearchEngine("outputs/triplet/2026-01-31_12-00-00")
    engine.embed_dataset("catalogue/")
    results = engine.search("q.jpg", k=5)
    engine.display_results(results)
    ```

    Args:
        model: a run folder, a checkpoint, an exported bundle, or a catalogue folder (its own model and items).
        catalog: a catalogue folder; None: none yet.
        index: `kind` and settings of the index that new catalogues get.

    Raises:
        FashionError: if either is missing or damaged, or they do not belong together.
    """

    def __init__(self, model: str | Path, catalog: str | Path | None = None, index: Mapping[str, Any] | None = None):
        model = Path(model).expanduser()
        if (model / "items.parquet").is_file() or model == catalog:
            catalog = catalog or model
        self.catalog = Catalog.open(catalog) if catalog is not None else None
        self.encoder = load_encoder(self.catalog.model if self.catalog and Path(str(catalog)) == model else model)
        if self.catalog:
            self.catalog.check_encoder(self.encoder)
        self.index = dict(index or {"kind": "flat"})
        self.skipped: list[str] = []

    def embed_image(self, picture: Query) -> NDArray[np.float32]:
        """A picture (path, file's bytes, PIL image, or [H,W,3] uint8 array) → its embedding [64], of length 1."""
        vector: NDArray[np.float32] = self._embed([picture])[0][0]
        return vector

    def classify(self, picture: Query) -> list[tuple[str, float]]:
        """All classes with their probabilities, likeliest first."""
        probabilities = self._embed([picture])[1][0]
        order = np.argsort(-probabilities, kind="stable")
        return [(self.encoder.class_names[at], float(probabilities[at])) for at in order]

    def _embed(self, pictures: Sequence[Query]) -> Embedded:
        return self.encoder(np.stack([_loaded(picture, self.encoder.image_size) for picture in pictures]))

    def embed_dataset(self, folder: str | Path, *, on_bad_image: str = "fail") -> Catalog:
        """Make every picture below `folder` searchable; its label is its folder's name where that is a class."""
        root = Path(folder).expanduser()
        paths = find_pictures(root)
        labels = [path.parent.name if path.parent.name in self.encoder.class_names else None for path in paths]
        return self.embed_items(paths, {"label": labels}, root=root, on_bad_image=on_bad_image)

    def embed_items(
        self,
        paths: Sequence[Path],
        columns: Mapping[str, Sequence[Any]],
        *,
        root: Path,
        boxes: Sequence[Sequence[float] | None] | None = None,
        on_bad_image: str = "fail",
    ) -> Catalog:
        """Make pictures searchable, each with its value of every column; replaces `self.catalog`.

        Pictures are decoded on other threads while the encoder works.  With `on_bad_image="skip"`, what cannot be
        read is left out and listed in `self.skipped`.

        Args:
            paths: N pictures below `root`.  columns: name → N values.
            boxes: N parts to look at, or None for whole pictures.
        """
        from rich.progress import track

        self.skipped = []
        kept: list[int] = []
        parts: list[Embedded] = []
        batch: list[NDArray[np.uint8]] = []
        loaded = track(load_pictures(paths, self.encoder.image_size, boxes), "Embedding pictures", total=len(paths))
        for at, picture in keep_good(loaded, on_bad_image, lambda _, bad: self.skipped.append(str(bad))):
            kept.append(at)
            batch.append(picture)
            if len(batch) == BATCH:
                parts.append(self.encoder(np.stack(batch)))
                batch = []
        if batch:
            parts.append(self.encoder(np.stack(batch)))
        if not kept:
            raise FashionError(
                f"None of the {len(paths)} pictures below {root} can be read; there is nothing to search."
            )
        embeddings = np.concatenate([part[0] for part in parts])
        items = {name: [values[at] for at in kept] for name, values in columns.items()}
        self.catalog = Catalog.build(
            _table([paths[at] for at in kept], items, root), embeddings, self.encoder, root, self.index
        )
        return self.catalog

    def search(self, query: Query | Sequence[Query], k: int = 5) -> list[SearchResult]:
        """What looks like each query: at most k items each (fewer if the catalogue is smaller), best first."""
        if self.catalog is None:
            raise FashionError("There is no catalogue to search; call embed_dataset, or name a catalogue folder.")
        queries = list(query) if isinstance(query, Sequence) and not isinstance(query, str | bytes) else [query]
        if not queries:
            raise FashionError("There is no query; name a picture.")
        embeddings, probabilities = self._embed(queries)
        scores, ids = self.catalog.index.search(embeddings, k)
        results = []
        for at, one in enumerate(queries):
            best = int(probabilities[at].argmax())
            name = str(one) if isinstance(one, str | Path) else "picture"
            hits = self._hits(scores[at], ids[at])
            results.append(SearchResult(name, self.encoder.class_names[best], float(probabilities[at, best]), hits))
        return results

    def _hits(self, scores: NDArray[np.float32], ids: NDArray[np.int64]) -> list[Hit]:
        assert self.catalog is not None
        hits = []
        for rank, (score, number) in enumerate(zip(scores.tolist(), ids.tolist(), strict=True), start=1):
            if number >= 0:  # an approximate index may find fewer than k
                item = self.catalog.item(number)
                hits.append(Hit(rank, score, number, item["label"], str(self.catalog.picture(item)), item))
        return hits

    def display_results(self, results: Sequence[SearchResult], path: str | Path | None = None) -> Image.Image:
        """Print a table of the hits, and draw them beside their queries; returns (and writes to `path`) the picture."""
        from fashion.report.pictures import save_picture, search_grid
        from fashion.report.tables import hits_table, show

        for result in results:
            show(hits_table(result))
        grid = search_grid(results, self.encoder.class_names)
        if path is not None:
            save_picture(grid, Path(path))
        return grid


def _loaded(picture: Query, size: int) -> NDArray[np.uint8]:
    if isinstance(picture, str | Path | bytes):
        return load_picture(picture, size)
    try:
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    except (TypeError, ValueError) as error:
        raise BadPictureError(f"The array is no picture ({error}); give [height,width,3] of uint8.") from error
    resized = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def _table(paths: Sequence[Path], columns: Mapping[str, Sequence[Any]], root: Path) -> pa.Table:
    names = [path.relative_to(root).as_posix() for path in paths]
    count = len(names)
    table: dict[str, Any] = {
        "id": pa.array(range(count), pa.int64()),
        "external_id": [str(value) for value in columns.get("external_id", names)],
        "path": names,
        "label": pa.array(columns.get("label", [None] * count), pa.string()),
        "product_id": pa.array(
            [None if value in (None, "") else str(value) for value in columns.get("product_id", [None] * count)],
            pa.string(),
        ),
        "sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths],
    }
    table |= {name: list(values) for name, values in columns.items() if name not in table}
    return pa.table(table)
