"""The catalogue: items, their embeddings and the index over them, as one folder that is swapped whole.

`items.parquet` (id, external_id, path below the root, label, product_id, sha256, any further columns),
`embeddings.npy` (float32, length 1, in the items' order), `index.faiss` (stable int64 ids), `manifest.json`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from fashion.encoder import Encoder
from fashion.errors import FashionError
from fashion.files import recover_folder, replacing_folder, sha256
from fashion.search.index import FAISSIndex

SCHEMA_VERSION = 1
FILES = ("items.parquet", "embeddings.npy", "index.faiss")


@dataclass
class Catalog:
    """Searchable items.

    items: one row an item.  embeddings: [N,64] float32 of length 1, in the same order.  index: over the items' `id`.
    root: the folder that the items' paths lie below.  fingerprint, model: of the encoder that embedded them.
    """

    items: pa.Table
    embeddings: NDArray[np.float32]
    index: FAISSIndex
    root: Path
    fingerprint: str
    model: Path
    row_of: dict[int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.row_of = {number: row for row, number in enumerate(self.items["id"].to_pylist())}

    def __len__(self) -> int:
        return self.items.num_rows

    @classmethod
    def build(
        cls, items: pa.Table, embeddings: NDArray[np.float32], encoder: Encoder, root: Path, index: Mapping[str, Any]
    ) -> "Catalog":
        """A catalogue of `items` (with `id`, `path`, `label`, …) and their embeddings, in memory.

        Args:
            index: `kind` and settings of the `FAISSIndex`.
        """
        built = FAISSIndex(embeddings.shape[1], **index)
        built.build(embeddings, items["id"].to_numpy())
        return cls(items, embeddings, built, root, encoder.fingerprint, encoder.source)

    def item(self, number: int) -> dict[str, Any]:
        """All that is known of the item with id `number`."""
        row: dict[str, Any] = self.items.slice(self.row_of[number], 1).to_pylist()[0]
        return row

    def picture(self, item: Mapping[str, Any]) -> Path:
        """Where the item's picture lies."""
        return self.root / str(item["path"])

    def check_encoder(self, encoder: Encoder) -> None:
        """Refuse an encoder other than the one that made the embeddings: its vectors would mean something else."""
        if encoder.fingerprint != self.fingerprint:
            raise FashionError(
                f"The catalogue was made by the model {self.fingerprint} ({self.model}), and {encoder.source} is "
                f"{encoder.fingerprint}; rebuild it: python run.py task=index encoder={encoder.source} catalog=…"
            )

    @staticmethod
    def check_target(folder: Path) -> None:
        """Refuse to replace a folder that is not a catalogue."""
        if folder.exists() and (
            not folder.is_dir() or (any(folder.iterdir()) and not (folder / "manifest.json").exists())
        ):
            raise FashionError(f"{folder} exists and is no catalogue, so it is not overwritten; name another folder.")

    def write(self, folder: Path) -> None:
        """Write the catalogue folder, in place of an older one, whole or not at all."""
        self.check_target(folder)
        with replacing_folder(folder) as part:
            parquet.write_table(self.items, part / "items.parquet")
            np.save(part / "embeddings.npy", self.embeddings)
            self.index.save(part / "index.faiss")
            manifest = {
                "schema_version": SCHEMA_VERSION,
                "fingerprint": self.fingerprint,
                "model": str(self.model.resolve()),
                "root": str(self.root.resolve()),
                "count": len(self),
                "dim": self.index.dimension,
                "metric": "cosine",
                "index": {"kind": self.index.kind, **self.index.settings},
                "sha256": {name: sha256(part / name) for name in FILES},
                "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
            (part / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def open(cls, folder: str | Path) -> "Catalog":
        """Read a catalogue folder.

        Raises:
            FashionError: if it is missing or incomplete, was written by another version, or a file in it was changed.
        """
        folder = Path(folder).expanduser()
        recover_folder(folder)
        manifest = _manifest(folder)
        for name in FILES:
            path = folder / name
            # FAISS and Parquet trust what they read, so nothing is read that is not what was written.
            if not path.is_file() or sha256(path) != manifest["sha256"].get(name):
                raise FashionError(
                    f"{path} is missing, truncated or altered; rebuild with task=index catalog={folder}."
                )
        items = parquet.read_table(folder / "items.parquet")
        embeddings = np.load(folder / "embeddings.npy", mmap_mode="r", allow_pickle=False)
        index = FAISSIndex.load(folder / "index.faiss", **manifest["index"])
        return cls(items, embeddings, index, Path(manifest["root"]), manifest["fingerprint"], Path(manifest["model"]))


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    if not path.is_file():
        what = "is no catalogue" if folder.exists() else "does not exist"
        raise FashionError(f"{folder} {what}; make one with: python run.py task=index encoder=RUN catalog={folder}")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["schema_version"]
        for key in ("sha256", "index", "root", "fingerprint", "model"):
            manifest[key]
    except (ValueError, KeyError, TypeError) as error:
        raise FashionError(f"{path} is damaged ({error}); build the catalogue again with task=index.") from error
    if version != SCHEMA_VERSION:
        raise FashionError(
            f"{path} has schema version {version}, and this version reads {SCHEMA_VERSION}; rebuild with task=index."
        )
    return manifest
