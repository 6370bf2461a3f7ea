"""Nearest neighbours by cosine in Milvus: for catalogues that outgrow one machine, or need replicas.

Each version of a catalogue has a collection of its own, so that versions change whole here too.  Filters are sent
as lists of ids, which the catalogue works out from its items, so they mean exactly what they mean with FAISS.
"""

import json
import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fashion.errors import CatalogError, FashionError, OutageError
from fashion.files import write_text
from fashion.search.remaking import made_anew
from fashion.search.searching import Found, unit_vectors
from fashion.search.store import Store

log = logging.getLogger(__name__)

SETTINGS: dict[str, Any] = {"uri": None, "index_type": "FLAT", "build": {}, "search": {}}
BATCH = 5000
NOTE = "index.milvus.json"
"""The file of a catalogue's version that says which collection is its index."""

LARGEST_K = 16_384
"""Milvus returns no more than this."""


class MilvusIndex:
    """What `FAISSIndex` is, in a Milvus collection.

    Args:
        uri: `http://…` of a server or cluster, or a local file for the embedded edition (milvus-lite).  A token is
            taken from the environment: FASHION_MILVUS_TOKEN.
        index_type: Milvus's own: FLAT (exact), HNSW, IVF_FLAT, AUTOINDEX, …
        build, search: that type's parameters, such as {M: 32, efConstruction: 200} and {ef: 128}.
    """

    kind = "milvus"
    largest_k = LARGEST_K

    def __init__(self, dimension: int = 64, collection: str = "", **settings: Any):
        unknown = [name for name in settings if name not in SETTINGS]
        if unknown:
            raise FashionError(f"index=milvus has no setting {unknown[0]!r}; it has {', '.join(SETTINGS)}.")
        self.settings = SETTINGS | settings
        if not self.settings["uri"]:
            raise FashionError("index.uri is not set; name http://HOST:19530, or a local file to try Milvus in.")
        if "://" not in str(self.settings["uri"]):  # a file, wherever the next command is run from
            self.settings["uri"] = str(Path(str(self.settings["uri"])).expanduser().resolve())
        self.dimension, self.collection = dimension, collection
        self.recall: float | None = None
        self.folder: str | None = None
        """Of the catalogue that the collection was made for, which alone may drop it; None: not written to one yet."""
        self.ids = np.zeros(0, np.int64)
        self._client: Any = None

    @property
    def client(self) -> Any:
        """The connection; opened when first needed.

        Raises:
            FashionError: if the `milvus` extra is missing, or no server answers.
        """
        if self._client is None:
            uri = str(self.settings["uri"])
            if "://" not in uri:
                Path(uri).parent.mkdir(parents=True, exist_ok=True)
                # The embedded edition logs a traceback of each call of the client that it does not know.
                logging.getLogger("grpc._server").setLevel(logging.CRITICAL)
            token = os.environ.get("FASHION_MILVUS_TOKEN", "")
            self._client = self._asked(lambda: _pymilvus().MilvusClient(uri, token=token, timeout=30))
        return self._client

    def __len__(self) -> int:
        return len(self.ids)

    def build(self, embeddings: ArrayLike, ids: ArrayLike) -> None:
        """Put `embeddings` [N,dimension] under `ids` [N] into a new collection.

        Raises:
            FashionError: as for `FAISSIndex.build`, or if the server refuses.
        """
        vectors = unit_vectors(embeddings, self.dimension)
        self.ids = np.asarray(ids, dtype=np.int64)
        self.collection, self.folder = f"fashion_{uuid.uuid4().hex}", None
        try:
            self._asked(lambda: self._create(vectors))
        except BaseException:
            with suppress(FashionError):
                self.drop()  # it may be incomplete
            raise

    def _create(self, vectors: NDArray[np.float32]) -> None:
        kinds = _pymilvus().DataType
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", kinds.INT64, is_primary=True)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=self.dimension)
        index = self.client.prepare_index_params()
        kind, parameters = self.settings["index_type"], dict(self.settings["build"])
        index.add_index("vector", index_type=kind, metric_type="IP", params=parameters)
        self.client.create_collection(self.collection, schema=schema, index_params=index, consistency_level="Strong")
        for at in range(0, len(vectors), BATCH):
            rows = zip(self.ids[at : at + BATCH].tolist(), vectors[at : at + BATCH], strict=True)
            self.client.insert(self.collection, [{"id": number, "vector": vector} for number, vector in rows])
        self.client.load_collection(self.collection)

    def search(self, query: ArrayLike, k: int = 10, allowed: NDArray[np.bool_] | None = None) -> Found:
        """As `FAISSIndex.search`."""
        if k < 1:
            raise FashionError(f"k is {k}; it should be 1 at least.")
        array = np.asarray(query, dtype=np.float32)
        vectors = array[None] if array.ndim == 1 else array
        most = len(self) if allowed is None else int(allowed.sum())
        k = min(k, most)
        if k > LARGEST_K:
            raise FashionError(f"k is {k}; Milvus finds at most {LARGEST_K}.")
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        ids = np.full((len(vectors), k), -1, np.int64)
        if k:
            fetch = min(k + 16, most, LARGEST_K)  # of equal scores at the end, the lowest ids are wanted
            found = self._asked(lambda: self._found(vectors, fetch, self._expression(allowed)))
            for row, hits in enumerate(found):
                pairs = sorted((-float(hit["distance"]), int(hit["id"])) for hit in hits)[:k]
                scores[row, : len(pairs)] = [-score for score, _ in pairs]
                ids[row, : len(pairs)] = [number for _, number in pairs]
        return (scores[0], ids[0]) if array.ndim == 1 else (scores, ids)

    def _found(self, vectors: NDArray[np.float32], fetch: int, expression: str) -> Any:
        parameters = {"metric_type": "IP", "params": dict(self.settings["search"])}
        return self.client.search(
            self.collection, data=list(vectors), anns_field="vector", limit=fetch, filter=expression,
            search_params=parameters, output_fields=["id"],
        )  # fmt: skip

    def _expression(self, allowed: NDArray[np.bool_] | None) -> str:
        """The shorter of the two lists: which may be found, or which may not."""
        if allowed is None or allowed.all():
            return ""
        few = 2 * allowed.sum() <= len(allowed)
        return f"id {'in' if few else 'not in'} {self.ids[allowed if few else ~allowed].tolist()}"

    def save(self, path: str | Path) -> None:
        """Note which collection it is, and whose; the vectors are Milvus's."""
        write_text(Path(path), json.dumps({"collection": self.collection, "folder": self.folder}) + "\n")

    @classmethod
    def noted(cls, path: Path, settings: Mapping[str, Any]) -> "MilvusIndex":
        """The index whose collection `save` noted, without asking the server for it."""
        note = json.loads(path.read_text(encoding="utf-8"))
        index = cls(64, note["collection"], **{key: value for key, value in settings.items() if key != "kind"})
        index.folder = str(note.get("folder", "unknown"))
        return index

    @classmethod
    def load(cls, path: Path, ids: NDArray[np.int64], settings: Mapping[str, Any]) -> "MilvusIndex":
        """The index whose collection `save` noted, over those ids.

        Raises:
            FashionError: if the server has no such collection.
        """
        index, catalog = cls.noted(path, settings), path.parents[2]  # path: of catalog/versions/000007
        index.ids = np.asarray(ids, dtype=np.int64)
        if not index._asked(lambda: index.client.has_collection(index.collection)):
            raise CatalogError(
                f"{index.settings['uri']} has no collection {index.collection}; make the catalogue anew with "
                f"{made_anew(catalog)}."
            )
        index._asked(lambda: index.client.load_collection(index.collection))
        return index

    def drop(self) -> None:
        """Remove its collection, which no version of the catalogue needs any more."""
        self._asked(lambda: self.client.drop_collection(self.collection))

    def _asked(self, work: Any) -> Any:
        refusal = _pymilvus().MilvusException
        try:
            return work()
        except refusal as error:
            raise OutageError(
                f"Milvus at {self.settings['uri']} refused or does not answer: {error.message or error}"
            ) from error


def _pymilvus() -> Any:
    try:
        import pymilvus
    except ImportError as error:
        raise FashionError("index=milvus needs the `milvus` extra: pip install -e '.[milvus]'") from error
    return pymilvus


def collections(store: Store) -> dict[str, MilvusIndex]:
    """The Milvus collections that the kept versions of a catalogue need, by name; not of those that cannot be read."""
    found: dict[str, MilvusIndex] = {}
    for number in store.numbers():
        with suppress(OSError, ValueError, KeyError, TypeError, FashionError):
            settings = store.manifest(number)["index"]
            if settings["kind"] == "milvus":
                index = MilvusIndex.noted(store.version(number) / NOTE, settings)
                found[index.collection] = index
    return found


def _identity(folder: Path) -> str:
    """The folder's path, device and inode: a copy on another machine may have the same path."""
    there = folder.resolve()
    stat = there.stat()
    return f"{there} ({stat.st_dev}:{stat.st_ino})"


@contextmanager
def dropping(store: Store, index: Any) -> Iterator[None]:
    """Around the writing of a version with that index: drops the collections that no kept version needs afterwards.

    If the writing fails, that is the index's own.  Those of another catalogue, which this one is a copy of, stay.
    """
    before, here = collections(store), _identity(store.folder)
    if isinstance(index, MilvusIndex) and index.folder is None:
        index.folder = here
        before[index.collection] = index
    try:
        yield
    finally:
        for name in before.keys() - collections(store).keys():
            if before[name].folder != here:
                log.warning("The collection %s stays in Milvus: it is of the catalogue %s.", name, before[name].folder)
                continue
            try:
                before[name].drop()
            except FashionError as error:  # the version is written all the same
                log.warning("%s; the collection %s stays there, and no version needs it.", error, name)
