"""Embeddings as files that any machine may have written: clip-retrieval's layout, with our manifest beside it.

`img_emb/img_emb_0003.npy` holds the embeddings [n,64] of part 3, `metadata/metadata_0003.parquet` a row for each, and
`manifest.json` says which model made them.  A part is whole once its metadata is there; that of a shard says which list
of pictures it was cut from, and into how many.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from fashion.data.tables import tidy
from fashion.errors import FashionError
from fashion.files import replacing, write_array, write_text
from fashion.search.listing import Content, Listing, box_of, box_text, box_texts, content_key
from fashion.search.store import Store
from fashion.search.table import RESERVED

PATH = "image_path"
"""clip-retrieval's name for the column of paths."""


@dataclass(frozen=True)
class Cut:
    """What a shard is a share of: of `shards` shards, of the list of pictures with that `digest`."""

    shards: int
    digest: str

    @classmethod
    def of(cls, listing: Listing, shards: int) -> "Cut":
        """The listing, cut into so many: the same on every machine, wherever its pictures lie there."""
        said = [listing.external_ids(), *([name, list(map(str, values))] for name, values in listing.columns.items())]
        if listing.boxes:
            said.append(["bbox", box_texts(listing)])
        return cls(shards, hashlib.sha256(json.dumps(said).encode()).hexdigest())


def part_files(folder: Path, number: int) -> tuple[Path, Path]:
    """The files of one part: embeddings, metadata."""
    return folder / "img_emb" / f"img_emb_{number:04d}.npy", folder / "metadata" / f"metadata_{number:04d}.parquet"


def write_manifest(folder: Path, fingerprint: str, root: Path) -> None:
    """Say which model made the parts; each writer writes the same.

    Raises:
        FashionError: if the folder holds another model's parts, or is a catalogue, which has a manifest of its own.
    """
    if Store(folder).current():
        raise FashionError(f"{folder} is a catalogue; name another folder for the embeddings.")
    known = read_parts_manifest(folder)
    if known.get("fingerprint", fingerprint) != fingerprint:
        raise FashionError(
            f"{folder} holds embeddings of the model {known['fingerprint']}, not of {fingerprint}; name another folder."
        )
    write_text(folder / "manifest.json", json.dumps({"fingerprint": fingerprint, "root": str(root.resolve())}) + "\n")


def read_parts_manifest(folder: Path) -> dict[str, Any]:
    """Its `fingerprint` and `root`; empty where another tool wrote the parts."""
    try:
        return dict(json.loads((folder / "manifest.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise FashionError(f"{folder / 'manifest.json'} is damaged ({error}); embed the pictures again.") from error


def write_part(
    folder: Path, number: int, embeddings: NDArray[np.float32], rows: pa.Table, cut: Cut | None = None
) -> None:
    """Write one part, whole or not at all; `rows` has a column `image_path`.

    Args:
        cut: what the part is a shard of; None: of nothing larger.
    """
    vectors, metadata = part_files(folder, number)
    if cut:
        rows = rows.replace_schema_metadata({"shards": str(cut.shards), "digest": cut.digest})
    metadata.unlink(missing_ok=True)  # of an older part, which is none any more once its embeddings are replaced
    with replacing(vectors) as part:
        write_array(part, embeddings)
    with replacing(metadata) as part:
        parquet.write_table(rows, part)


def cut_of(metadata: Path) -> Cut | None:
    """What the part with these metadata is a shard of; None where nothing is said of it."""
    try:
        said = parquet.read_schema(metadata).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise FashionError(f"{metadata} cannot be read ({error}); delete it, and embed that part again.") from error
    return Cut(int(said[b"shards"]), said[b"digest"].decode()) if b"shards" in said and b"digest" in said else None


def read_part(folder: Path, number: str) -> tuple[NDArray[np.float32], pa.Table]:
    """Embeddings [n,64] of the part whose files end in `number`, on the disk, and their rows.

    Raises:
        FashionError: if it is damaged, incomplete, or of another dimension.
    """
    path = folder / "img_emb" / f"img_emb_{number}.npy"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        table = parquet.read_table(folder / "metadata" / f"metadata_{number}.parquet")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise FashionError(f"{path} or its metadata cannot be read ({error}); embed that part again.") from error
    if array.ndim != 2 or array.shape != (table.num_rows, 64):
        raise FashionError(
            f"{path} has shape {array.shape}; for its {table.num_rows} rows it should be ({table.num_rows}, 64)."
        )
    return array, table


def read_parts(folder: Path) -> tuple[NDArray[np.float32], pa.Table]:
    """All parts, in order of their numbers: embeddings [N,64] and their rows.

    Raises:
        FashionError: if there is none, one is damaged, incomplete, or of another dimension, or the parts are shards
            and not all of one list's.
    """
    numbers = sorted(path.stem.rpartition("_")[2] for path in folder.glob("metadata/metadata_*.parquet"))
    if not numbers:
        raise FashionError(f"{folder} holds no embeddings (metadata/metadata_*.parquet); make them with task=embed.")
    _check_shards(folder, numbers)
    parts = [part for part in (read_part(folder, number) for number in numbers) if len(part[1])]
    if not parts:
        raise FashionError(f"All parts in {folder} are empty; embed some pictures.")
    joined = pa.concat_tables([table for _, table in parts], promote_options="permissive")
    if PATH not in joined.column_names:
        raise FashionError(f"The metadata in {folder} have no column {PATH!r}; it should name the pictures.")
    return np.concatenate([np.asarray(vectors, dtype=np.float32) for vectors, _ in parts]), joined


def _check_shards(folder: Path, numbers: Sequence[str]) -> None:
    """Refuse shards that are not all there, or were cut differently: pictures would be missing without a word."""
    cuts = {number: cut_of(folder / "metadata" / f"metadata_{number}.parquet") for number in numbers}
    first = cuts[numbers[0]]
    odd = next((number for number, cut in cuts.items() if cut != first), None)
    if odd is not None:
        raise FashionError(
            f"The shards {int(numbers[0]) + 1} and {int(odd) + 1} in {folder} were cut from different lists of "
            "pictures, or into different numbers of shards; run task=embed for each shard again (what is known is not "
            f"embedded twice), and delete metadata/metadata_{odd}.parquet if there is no such shard any more."
        )
    missing = sorted(set(range(first.shards)) - {int(number) for number in numbers}) if first else []
    if first and missing:
        raise FashionError(
            f"{folder} holds {len(numbers)} of {first.shards} shards; make the others first: "
            f"task=embed shard={missing[0] + 1}/{first.shards} …"
        )


def listing_of(folder: Path) -> tuple[Listing, dict[str, NDArray[np.float32]]]:
    """What the parts hold as a listing to sync a catalogue with, and the embedding of each content.

    Pictures need not be there: what was noted of them when they were embedded is taken as it is.
    """
    embeddings, table = read_parts(folder)
    columns = tidy(table).to_pydict()
    paths = [Path(path) for path in columns.pop(PATH)]
    root = Path(
        read_parts_manifest(folder).get("root") or (Path("/") if all(path.is_absolute() for path in paths) else folder)
    )
    paths = [path if path.is_absolute() else root / path for path in paths]
    if not all(path.is_relative_to(root) for path in paths):
        root = Path("/")
    names = columns.get("external_id") or [path.relative_to(root).as_posix() for path in paths]
    columns["external_id"] = names
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not lengths.all() or not np.isfinite(lengths).all():
        raise FashionError(f"Some embeddings in {folder} are zero or not finite; embed them again.")
    # Where nothing is said of a picture's content its vector stands for it, so that new vectors are taken up.
    hashes = [
        str(value) if value else f"embedded {hashlib.sha256(row.tobytes()).hexdigest()}"
        for row, value in zip(embeddings, _column(columns, "sha256"), strict=True)
    ]
    sizes, mtimes = ([int(value or 0) for value in _column(columns, name)] for name in ("file_size", "file_mtime_ns"))
    given = [box_of(str(value or "")) for value in _column(columns, "bbox")]
    contents = [Content(*row) for row in zip(sizes, mtimes, hashes, strict=True)]
    boxes = map(box_text, given)  # as the catalogue writes them; other tools may write them otherwise
    known = dict(zip(map(content_key, hashes, boxes), embeddings / lengths, strict=True))
    left = {name: values for name, values in columns.items() if name not in (*RESERVED, "bbox")}
    made_from = {"embeddings": str(folder.resolve())}
    return Listing(root, paths, left, given if any(given) else None, contents, made_from), known


def _column(columns: dict[str, list[Any]], name: str) -> Sequence[Any]:
    return columns.get(name) or [None] * len(columns["external_id"])
