"""The files of a catalogue's version, read; and the pictures that no version needs any more."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import parquet

from fashion.search.index import FAISSIndex
from fashion.search.manifest import check_files, files_of, model_of, read_manifest
from fashion.search.milvus import MilvusIndex
from fashion.search.remaking import noted_source
from fashion.search.store import Store

PICTURES = "pictures"
"""The folder of a catalogue's where pictures lie that requests sent."""

STORED = re.compile(r"\.?[0-9a-f]{32}(-\w+)?\.jpg")
"""The names that a server gives pictures there, complete or partly written: no other files are deleted."""

UNDER_WAY = 3600
"""A picture younger than so many seconds may belong to a change that is not written yet."""

FORMER = {"size": "file_size", "mtime_ns": "file_mtime_ns"}
"""Columns of schema 1 and their names now: a shop may have a column `size` of its own."""

ROW_GROUP = 65_536
"""Items of a row group of the table: to read a million as one group takes twice the memory."""

_ALLOCATING = threading.Lock()
"""Held while Arrow's allocator, which is global to the process, is another."""


def read_version(folder: Path, version: Path | None, mmap: bool, items_only: bool) -> dict[str, Any]:
    """The fields of a `Catalog` as that version of a catalogue folder has them; arguments as for `Catalog.open`."""
    manifest = read_manifest(folder, version or folder)
    assert version is not None
    files = files_of(manifest["index"]["kind"])
    check_files(folder, version, manifest, files[:1] if items_only else files)
    items = read_items(version / "items.parquet")
    if manifest["schema_version"] == 1:
        items = items.rename_columns([FORMER.get(name, name) for name in items.column_names])
    embeddings: NDArray[np.float32] = np.zeros((len(items), 64), np.float32)
    index: FAISSIndex | MilvusIndex = FAISSIndex()
    if not items_only:
        embeddings = np.load(version / "embeddings.npy", mmap_mode="r", allow_pickle=False)
        index = open_index(version / files[2], items, manifest["index"], mmap)
        index.recall = manifest.get("recall")
    return {
        "items": items,
        "embeddings": embeddings,
        "index": index,
        "root": Path(manifest["root"]),
        "fingerprint": manifest["fingerprint"],
        "model": model_of(manifest),
        "next_id": max(manifest["next_id"], Store(folder).next_id()),
        "asked": manifest.get("asked") or manifest["index"],
        "version": int(version.name),
        "folder": folder.resolve(),
        "made_from": noted_source(manifest),
        "given": manifest.get("given"),
    }


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


def forget_pictures(store: Store) -> None:
    """Within the store's `writer`: delete stored pictures, except new ones, that no kept version names.

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
