"""What the manifest of a catalogue's version says, and whether the version's files are what it says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashion.errors import CatalogError, FashionError
from fashion.files import sha256
from fashion.model_files import SHIPPED
from fashion.quoting import as_typed
from fashion.search.milvus import NOTE
from fashion.search.remaking import made_anew
from fashion.search.store import Store

if TYPE_CHECKING:
    from fashion.search.catalog import Catalog

SCHEMA_VERSION = 2

NEEDED = {"sha256": dict, "index": dict, "root": str, "fingerprint": str, "model": str, "next_id": int}
"""Keys without which nothing is read, and the type of each."""


def files_of(kind: str) -> tuple[str, str, str]:
    """The files of a version whose index is of that kind."""
    return "items.parquet", "embeddings.npy", NOTE if kind == "milvus" else "index.faiss"


def encoder_of(folder: str | Path, version: int | None = None) -> Path:
    """Where the model lies that a catalogue folder was made with, or that version of it.

    Raises:
        FashionError: if the folder is no catalogue, keeps no such version, or the model is not there any more.
    """
    store = Store(folder)
    where = store.current() if version is None else store.kept(version)
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
        "line": store.ancestors(),
        "written_by": written_by,
        "keep": store.keep,
        "dim": catalog.index.dimension,
        "metric": "cosine",
        "index": {"kind": catalog.index.kind, **catalog.index.settings},
        "asked": catalog.asked,
        "recall": catalog.index.recall,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def read_manifest(folder: Path, current: Path) -> dict[str, Any]:
    path = current / "manifest.json"
    if current != folder and not current.exists():
        lost = (
            f"lacks its current version, {current.relative_to(folder)}"
            if current != Store(folder).version(0)
            else "has lost the link that says which version is current (a copy needs its links: cp -a)"
        )
        raise CatalogError(f"{folder} {lost}; {way_out(folder)}.")
    if not path.is_file() or current == folder:
        what = "is no catalogue" if folder.exists() else "does not exist"
        raise CatalogError(
            f"{folder} {what}; make one with: python run.py task=index pictures=FOLDER {as_typed('catalog', folder)}"
        )
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["schema_version"]
        for key, kind in NEEDED.items():
            if not isinstance(manifest[key], kind):
                raise TypeError(f"{key!r} is {manifest[key]!r}")
        manifest["index"]["kind"]
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
    return next((one for one in store.others() if is_intact(store, one, items_only=items_only)), None)


def is_intact(store: Store, number: int, *, items_only: bool = False) -> bool:
    """Whether that version's files are what was written."""
    manifest = store.manifest(number)
    with suppress(OSError, KeyError, TypeError):
        files = files_of(manifest["index"]["kind"])[: 1 if items_only else None]
        return all(_hashed(store.version(number) / name) == manifest["sha256"][name] for name in files)
    return False


def _hashed(path: Path) -> str:
    """The file's SHA-256, cached until the file changes: a server may often look for a version to roll back to."""
    stat = path.stat()
    return _hash_of(path.resolve(), stat.st_ino, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=100)
def _hash_of(path: Path, *touched: int) -> str:
    return sha256(path)


def way_out(folder: Path) -> str:
    """What to do about a damaged catalogue: an intact version has the added items, and going back embeds nothing."""
    number = intact(Store(folder))
    back = (
        ""
        if number is None
        else f"go back to version {number} with task=rollback version={number} {as_typed('catalog', folder)}, or "
    )
    return f"{back}make it anew with {made_anew(folder)}"
