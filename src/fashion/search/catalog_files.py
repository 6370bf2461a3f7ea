"""The files of a catalogue's version, and what its manifest says."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import parquet

from fashion.errors import CatalogError, FashionError
from fashion.files import sha256
from fashion.model_files import SHIPPED
from fashion.quoting import as_typed
from fashion.search.index import FAISSIndex
from fashion.search.milvus import NOTE, MilvusIndex
from fashion.search.remaking import made_anew
from fashion.search.store import Store

if TYPE_CHECKING:
    from fashion.search.catalog import Catalog

SCHEMA_VERSION = 2

PICTURES = "pictures"
"""The folder of a catalogue's where pictures lie that requests sent."""

STORED = re.compile(r"\.?[0-9a-f]{32}(-\w+)?\.jpg")
"""The names of pictures there that a server gave, whole or half-written: nobody else's are deleted."""

UNDER_WAY = 3600
"""Seconds for which a picture that no version names may be of a change that is not written yet."""

FORMER = {"size": "file_size", "mtime_ns": "file_mtime_ns"}
"""Columns of schema 1 under their names of today: a shop has sizes of its own."""

ROW_GROUP = 65_536
"""Items that are read from the table at a time: reading one of a million takes up twice the memory."""

_ALLOCATING = threading.Lock()
"""Held by the thread that has changed Arrow's allocator, which is the whole process's."""


def files_of(kind: str) -> tuple[str, str, str]:
    """The files of a version whose index is of that kind."""
    return "items.parquet", "embeddings.npy", NOTE if kind == "milvus" else "index.faiss"


def encoder_of(folder: str | Path, version: int | None = None) -> Path:
    """Where the model lies that a catalogue folder was made with, or that version of it.

    Raises:
        FashionError: if the folder is no catalogue, or the model is not there any more.
    """
    store = Store(folder)
    where = store.current() if version is None else store.version(version)
    return present(model_of(read_manifest(store.folder, where or store.folder)))


def present(model: Path) -> Path:
    if not model.exists():
        raise FashionError(f"The catalogue's model {model} is not there any more; say where it is now: encoder=…")
    return model


def model_of(manifest: Mapping[str, Any]) -> Path:
    return SHIPPED.get(manifest["model"], Path(manifest["model"]))


def noted_model(model: Path) -> str:
    """A model's path as the manifest notes it."""
    return next((name for name, path in SHIPPED.items() if path.resolve() == model), str(model))


def read_items(path: Path) -> pa.Table:
    """Row group by row group, with the system's allocator: Arrow's own keeps twice what the table takes."""
    with _ALLOCATING:
        pool = pa.default_memory_pool()
        pa.set_memory_pool(pa.system_memory_pool())
        try:
            file = parquet.ParquetFile(path)
            return pa.concat_tables([file.read_row_group(number) for number in range(file.num_row_groups)])
        finally:
            pa.set_memory_pool(pool)


def ids_of(items: pa.Table) -> NDArray[np.int64]:
    """The items' ids; not by to_numpy, which loads all of pandas where that is installed."""
    return np.concatenate([np.from_dlpack(chunk) for chunk in items["id"].chunks])


def open_index(path: Path, items: pa.Table, settings: Mapping[str, Any], mmap: bool) -> FAISSIndex | MilvusIndex:
    if settings["kind"] == "milvus":
        return MilvusIndex.load(path, ids_of(items), settings)
    return FAISSIndex.load(path, mmap=mmap, **settings)


def manifest_of(catalog: Catalog, store: Store, written_by: str) -> dict[str, Any]:
    """What the manifest of a new version says, but for its files' digests; `line`: the versions that it comes from."""
    return {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": catalog.fingerprint,
        "model": noted_model(catalog.model.resolve()),
        "root": str(catalog.root.resolve()),
        "made_from": catalog.made_from,
        "given": catalog.given,
        "count": len(catalog),
        "next_id": catalog.next_id,
        "line": store.line(),
        "written_by": written_by,
        "keep": store.keep,
        "dim": catalog.index.dimension,
        "metric": "cosine",
        "index": {"kind": catalog.index.kind, **catalog.index.settings},
        "factory": catalog.index.factory,
        "asked": catalog.asked,
        "recall": catalog.index.recall,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def read_manifest(folder: Path, current: Path) -> dict[str, Any]:
    path = current / "manifest.json"
    if current != folder and not current.exists():
        raise CatalogError(f"{folder} lacks its current version, {current.relative_to(folder)}; {way_out(folder)}.")
    if not path.is_file() or current == folder:
        what = "is no catalogue" if folder.exists() else "does not exist"
        raise CatalogError(
            f"{folder} {what}; make one with: python run.py task=index pictures=FOLDER {as_typed('catalog', folder)}"
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["schema_version"]
        for key in ("sha256", "index", "root", "fingerprint", "model", "next_id"):
            manifest[key]
    except (ValueError, KeyError, TypeError) as error:
        raise CatalogError(f"{folder / 'manifest.json'} is damaged ({error}); {way_out(folder)}.") from error
    if version not in (1, SCHEMA_VERSION):
        raise CatalogError(
            f"{folder / 'manifest.json'} has schema version {version}, and this version reads {SCHEMA_VERSION}; make "
            f"the catalogue anew with {made_anew(folder)}."
        )
    return manifest


def check_files(folder: Path, version: Path, manifest: Mapping[str, Any], names: Sequence[str]) -> None:
    """Refuse files that are not what was written: FAISS and Parquet trust what they read.

    Raises:
        CatalogError: naming the first of `names` that is missing or altered.
    """
    for name in names:
        path = version / name
        if not path.is_file() or sha256(path) != manifest["sha256"].get(name):
            raise CatalogError(f"{folder / name} is missing, truncated or altered; {way_out(folder)}.")


def intact(store: Store, *, items_only: bool = False) -> int | None:
    """The first version to go back to whose files are what was written; None where no older one is.

    Args:
        items_only: look at the items alone, from which the rest can be made anew.
    """
    return next((one for one in store.others() if is_intact(store.version(one), items_only=items_only)), None)


def is_intact(version: Path, *, items_only: bool = False) -> bool:
    """Whether a version's files are what was written."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        manifest = json.loads((version / "manifest.json").read_text(encoding="utf-8"))
        files = files_of(manifest["index"]["kind"])[: 1 if items_only else None]
        return all(sha256(version / name) == manifest["sha256"][name] for name in files)
    return False


def way_out(folder: Path) -> str:
    """What to do about a damaged catalogue: an intact version has the items that were added, and costs nothing."""
    number = intact(Store(folder))
    back = (
        ""
        if number is None
        else f"go back to version {number} with task=rollback version={number} {as_typed('catalog', folder)}, or "
    )
    return f"{back}make it anew with {made_anew(folder)}"


def forget_pictures(store: Store) -> None:
    """Within the store's `writer`: delete stored pictures that no kept version names, but for new ones.

    Raises:
        OSError: if one cannot be deleted, or a version cannot be read.
    """
    left = {path.name: path for path in (store.folder / PICTURES).glob("*") if STORED.fullmatch(path.name)}
    for number in reversed(store.numbers()):
        if not left:
            return
        paths = parquet.read_table(store.version(number) / "items.parquet", columns=["path"])["path"]
        for path in paths.filter(pc.match_substring(paths, f"{PICTURES}/")).to_pylist():
            left.pop(Path(path).name, None)
    for path in left.values():
        if path.stat().st_mtime < time.time() - UNDER_WAY:
            path.unlink()
