"""Embeddings as files that any machine may have written: clip-retrieval's layout, with our manifest beside it.

`img_emb/img_emb_0003.npy` holds the embeddings [n,64] of part 3, `metadata/metadata_0003.parquet` a row for each, and
`manifest.json` says which model made them.  A part is whole once its metadata is there.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from fashion.errors import FashionError
from fashion.files import replacing, write_text
from fashion.search.sync import RESERVED, Content, Listing

PATH = "image_path"
"""clip-retrieval's name for the column of paths."""


def part_files(folder: Path, number: int) -> tuple[Path, Path]:
    """The files of one part: embeddings, metadata."""
    return folder / "img_emb" / f"img_emb_{number:04d}.npy", folder / "metadata" / f"metadata_{number:04d}.parquet"


def write_manifest(folder: Path, fingerprint: str, root: Path) -> None:
    """Say which model made the parts; each writer writes the same.

    Raises:
        FashionError: if the folder holds another model's parts.
    """
    known = read_manifest(folder)
    if known.get("fingerprint", fingerprint) != fingerprint:
        raise FashionError(
            f"{folder} holds embeddings of the model {known['fingerprint']}, not of {fingerprint}; name another folder."
        )
    write_text(folder / "manifest.json", json.dumps({"fingerprint": fingerprint, "root": str(root.resolve())}) + "\n")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Its `fingerprint` and `root`; empty where another tool wrote the parts."""
    try:
        return dict(json.loads((folder / "manifest.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise FashionError(f"{folder / 'manifest.json'} is damaged ({error}); embed the pictures again.") from error


def write_part(folder: Path, number: int, embeddings: NDArray[np.float32], rows: pa.Table) -> None:
    """Write one part, whole or not at all; `rows` has a column `image_path`."""
    vectors, metadata = part_files(folder, number)
    with replacing(vectors) as part:
        np.save(part, embeddings)
    with replacing(metadata) as part:
        parquet.write_table(rows, part)


def read_parts(folder: Path, dimension: int = 64) -> tuple[NDArray[np.float32], pa.Table]:
    """All parts, in order of their numbers: embeddings [N,dimension] and their rows.

    Raises:
        FashionError: if there is none, or one is damaged, incomplete, or of another dimension.
    """
    numbers = sorted(path.stem.rpartition("_")[2] for path in folder.glob("metadata/metadata_*.parquet"))
    if not numbers:
        raise FashionError(f"{folder} holds no embeddings (metadata/metadata_*.parquet); make them with task=embed.")
    vectors, tables = [], []
    for number in numbers:
        path = folder / "img_emb" / f"img_emb_{number}.npy"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            table = parquet.read_table(folder / "metadata" / f"metadata_{number}.parquet")
        except (OSError, ValueError, pa.ArrowException) as error:
            raise FashionError(f"{path} or its metadata cannot be read ({error}); embed that part again.") from error
        if array.ndim != 2 or array.shape != (table.num_rows, dimension):
            raise FashionError(
                f"{path} has shape {array.shape}; for its {table.num_rows} rows it should be "
                f"({table.num_rows}, {dimension})."
            )
        if array.shape[0]:
            vectors.append(np.asarray(array, dtype=np.float32))
            tables.append(table)
    if not vectors:
        raise FashionError(f"All parts in {folder} are empty; embed some pictures.")
    joined = pa.concat_tables(tables, promote_options="permissive")
    if PATH not in joined.column_names:
        raise FashionError(f"The metadata in {folder} have no column {PATH!r}; it should name the pictures.")
    return np.concatenate(vectors), joined


def listing_of(folder: Path, dimension: int = 64) -> tuple[Listing, dict[str, NDArray[np.float32]]]:
    """What the parts hold as a listing to sync a catalogue with, and the embedding of each content.

    Pictures need not be there: what was noted of them when they were embedded is taken as it is.
    """
    embeddings, table = read_parts(folder, dimension)
    columns = table.to_pydict()
    paths = [Path(path) for path in columns.pop(PATH)]
    root = Path(
        read_manifest(folder).get("root") or (Path("/") if all(path.is_absolute() for path in paths) else folder)
    )
    paths = [path if path.is_absolute() else root / path for path in paths]
    if not all(path.is_relative_to(root) for path in paths):
        root = Path("/")
    names = columns.get("external_id") or [path.relative_to(root).as_posix() for path in paths]
    columns["external_id"] = names
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not lengths.all() or not np.isfinite(lengths).all():
        raise FashionError(f"Some embeddings in {folder} are zero or not finite; embed them again.")
    hashes = [
        str(value) if value else f"embedded {name}"
        for name, value in zip(names, _column(columns, "sha256"), strict=True)
    ]
    sizes, mtimes = ([int(value or 0) for value in _column(columns, name)] for name in ("file_size", "file_mtime_ns"))
    boxes = [str(value or "") for value in _column(columns, "bbox")]
    contents = [Content(*row) for row in zip(sizes, mtimes, hashes, strict=True)]
    known = {f"{content} {box}": row for content, box, row in zip(hashes, boxes, embeddings / lengths, strict=True)}
    given = [[float(value) for value in box.split()] if box else None for box in boxes]
    left = {name: values for name, values in columns.items() if name not in (*RESERVED, "bbox")}
    return Listing(root, paths, left, given if any(given) else None, contents), known


def _column(columns: dict[str, list[Any]], name: str) -> Sequence[Any]:
    return columns.get(name) or [None] * len(columns["external_id"])
