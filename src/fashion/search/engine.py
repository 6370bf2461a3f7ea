"""The visual search engine: an encoder and a catalogue, and what one asks of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashion.data.folders import class_name, find_pictures
from fashion.data.images import BadPictureError, Given, as_picture, load_picture
from fashion.encoder import Embedded, Encoder, load_encoder
from fashion.errors import FashionError
from fashion.search.catalog import Catalog
from fashion.search.filters import Filter
from fashion.search.hits import hits_for
from fashion.search.listing import Listing, box_of
from fashion.search.plan import Changes
from fashion.search.results import Choice, Hit, SearchResult
from fashion.search.store import Store
from fashion.search.sync import synced


class VisualSearchEngine:
    """Embeds, names and searches pictures.

    ```python
    engine = VisualSearchEngine("outputs/triplet/2026-01-31_12-00-00")
    engine.embed_dataset("catalogue/")
    results = engine.search("q.jpg", k=5)
    engine.display_results(results)
    ```

    Args:
        model: a run folder, a checkpoint, an exported bundle, or a catalogue folder (its own model and items);
            `pretrained`, the default: the model that comes with the package (`pretrained-int8`: faster); or an
            encoder that is loaded already.
        catalog: a catalogue folder, or one that is open; None: none yet.
        index: `kind` and settings of the index that catalogues get; None: the one they have, and flat for new ones.
        mmap: leave the catalogue's index on the disk, for one larger than memory.

    Raises:
        FashionError: if either is missing or damaged, or they do not belong together.
    """

    def __init__(
        self,
        model: str | Path | Encoder = "pretrained",
        catalog: str | Path | Catalog | None = None,
        index: Mapping[str, Any] | None = None,
        *,
        mmap: bool = False,
    ):
        own = isinstance(model, str | Path) and _is_catalog(Path(model).expanduser(), catalog)
        if own:
            catalog = catalog or Path(str(model))
        opened = Catalog.open(catalog, mmap=mmap) if isinstance(catalog, str | Path) else catalog
        self.catalog: Catalog | None = opened
        if own and opened:
            model = opened.encoder_path()
        self.encoder = load_encoder(Path(model)) if isinstance(model, str | Path) else model
        if opened:
            opened.check_encoder(self.encoder)
        self.index = dict(index) if index else None
        self.skipped: list[str] = []

    @property
    def opened(self) -> Catalog:
        """The catalogue, where there has to be one.

        Raises:
            FashionError: if there is none.
        """
        if self.catalog is None:
            raise FashionError("There is no catalogue to search; call embed_dataset, or name a catalogue folder.")
        return self.catalog

    def embed_image(self, picture: Given) -> NDArray[np.float32]:
        """A picture (path, file's bytes, PIL image, or [H,W,3] uint8 array) → its embedding [64], of length 1."""
        vector: NDArray[np.float32] = self.encode([picture])[0][0]
        return vector

    def classify(self, picture: Given) -> list[tuple[str, float]]:
        """All classes with their probabilities, likeliest first."""
        probabilities = self.encode([picture])[1][0]
        order = np.argsort(-probabilities, kind="stable")
        return [(self.encoder.class_names[at], float(probabilities[at])) for at in order]

    def encode(self, pictures: Sequence[Given]) -> Embedded:
        """Embeddings [N,64] and class probabilities [N,classes] of pictures."""
        size, centre = self.encoder.image_size, self.encoder.centre
        return self.encoder(np.stack([as_picture(picture, size, centre) for picture in pictures]))

    def embed_dataset(self, folder: str | Path, *, on_bad_image: str = "fail") -> Catalog:
        """Make every picture below `folder` searchable, in memory; replaces `self.catalog`, unless it fails."""
        listing, index = self.list_folder(folder), self.index or {"kind": "flat"}
        self.catalog, changes = synced(self.encoder, None, listing, index, on_bad_image=on_bad_image)
        self.skipped = changes.skipped
        return self.opened

    @staticmethod
    def list_folder(folder: str | Path) -> Listing:
        """Every picture below `folder`; its label is the name of the folder that it lies in, below that one."""
        root = Path(folder).expanduser()
        paths = find_pictures(root)
        labels = [class_name(path.parent.name) if path.parent != root else None for path in paths]
        return Listing(root, paths, {"label": labels}, made_from={"pictures": str(root.resolve())})

    def sync(self, listing: Listing, store: Store | None = None, **options: Any) -> Changes:
        """Make `self.catalog` equal to `listing`: embed what is new or changed, drop what is gone.

        Args:
            store: where the catalogue lies; the caller holds its writer lock.  None: in memory only.
            options: of `fashion.search.sync.synced`.
        """
        index = self.index or (self.catalog.asked if self.catalog else {"kind": "flat"})
        self.catalog, changes = synced(self.encoder, self.catalog, listing, index, store, **options)
        self.skipped = changes.skipped
        return changes

    def search(
        self,
        query: Given | Sequence[Given],
        k: int = 5,
        *,
        filter: str | Filter | None = None,
        group_by: str | None = None,
        score_threshold: float | None = None,
        fold_duplicates: bool = False,
        together: bool = False,
    ) -> list[SearchResult]:
        """What looks like each query: at most k items each (fewer if there are no more), best first.

        Args:
            filter: only items for which this is true, such as `label = 'dress' and price < 50`.
            group_by: only the best item of each value of this column, such as `product_id`.
            score_threshold: no items below this cosine.
            fold_duplicates: of nearly identical pictures only the best.
            together: the pictures show one item and are one query: their mean is searched.

        Raises:
            FashionError: if there is no catalogue or query, a picture cannot be read, or a column is unknown.
        """
        queries = list(query) if isinstance(query, Sequence) and not isinstance(query, str | bytes) else [query]
        if not queries:
            raise FashionError("There is no query; name a picture.")
        choice = Choice(k, group_by, score_threshold, fold_duplicates)
        self._ready(choice)
        embeddings, probabilities = self.encode(queries)
        names = [str(one) if isinstance(one, str | Path) else "picture" for one in queries]
        if together:
            mean = embeddings.mean(axis=0, keepdims=True)
            embeddings, probabilities = mean / np.linalg.norm(mean), probabilities.mean(axis=0, keepdims=True)
            names = names[:1]
        hits = self.nearest(embeddings, choice, filter)
        return [self._result(name, found, row) for name, found, row in zip(names, hits, probabilities, strict=True)]

    def more_like(self, number: int, k: int = 5, *, filter: str | None = None, **options: Any) -> list[Hit]:
        """What looks like the catalogue's item with id `number`, itself left out; options as for `search`."""
        choice = Choice(k, **options)
        catalog = self._ready(choice)
        row = catalog.row(number)
        if filter is None and choice.plain:
            # Without a mask: with one, hnsw compares all items.
            hits = self.nearest(catalog.embeddings[row][None], replace(choice, k=k + 1))[0]
            others = [hit for hit in hits if hit.id != number][:k]
            return [replace(hit, rank=rank) for rank, hit in enumerate(others, start=1)]
        allowed = np.ones(len(catalog), dtype=bool) if filter is None else catalog.allowed(filter).copy()
        allowed[row] = False
        return self.nearest(catalog.embeddings[row][None], choice, allowed)[0]

    def like_item(self, number: int, **options: Any) -> SearchResult:
        """`more_like` as a SearchResult: its query is the item's external_id, its class that of the picture."""
        hits = self.more_like(number, **options)
        item, encoder = self.opened.item(number), self.encoder
        path, box = self.opened.picture(item), box_of(item.get("bbox"))
        result = SearchResult(item["external_id"], None, None, hits, box=box, picture=str(path))
        try:
            picture = load_picture(path, encoder.image_size, box, encoder.centre)
        except BadPictureError:  # a catalogue needs no pictures to be searched
            return result
        _, (row,) = encoder(picture[None])
        best = int(row.argmax())
        return replace(result, predicted=encoder.class_names[best], probability=float(row[best]))

    def nearest(
        self, embeddings: NDArray[np.float32], choice: Choice, filter: str | Filter | NDArray[np.bool_] | None = None
    ) -> list[list[Hit]]:
        """Hits for each embedding [Q,64]; `filter` may be a mask over the items."""
        catalog = self._ready(choice)
        allowed = filter if filter is None or isinstance(filter, np.ndarray) else catalog.allowed(filter)
        return hits_for(embeddings, catalog, choice, allowed)

    def _ready(self, choice: Choice) -> Catalog:
        choice.check(self.opened)
        return self.opened

    def _result(self, name: str, hits: list[Hit], probabilities: NDArray[np.float32]) -> SearchResult:
        best = int(probabilities.argmax())
        threshold = self.encoder.no_match
        match = None if threshold is None else bool(hits and hits[0].score >= threshold)
        return SearchResult(name, self.encoder.class_names[best], float(probabilities[best]), hits, match)

    def display_results(self, results: Sequence[SearchResult], path: str | Path | None = None) -> Image.Image:
        """Print a table of the hits, and draw them beside their queries; returns (and writes to `path`) the picture."""
        from fashion.report.pictures import display_results

        return display_results(results, self.encoder.class_names, Path(path) if path is not None else None)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.encoder.class_names

    @property
    def size(self) -> int:
        """How many items can be found."""
        return len(self.catalog or ())

    def item_number(self, external_id: str) -> int:
        """The id of the catalogue's item that its owner calls so."""
        return self.opened.number(external_id)

    def item_picture(self, number: int) -> Path:
        """Where the picture of the catalogue's item with id `number` lies."""
        return self.opened.picture(self.opened.item(number))


def _is_catalog(model: Path, catalog: Any) -> bool:
    return Store(model).current() is not None or (
        isinstance(catalog, str | Path) and model == Path(catalog).expanduser()
    )
