"""task=embed: the embeddings of one machine's share of the pictures, for task=index embeddings=… to join."""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from omegaconf import DictConfig
from pyarrow import parquet

from fashion.errors import FashionError
from fashion.quoting import as_typed
from fashion.search.embedding import Journal, embed_pictures
from fashion.search.engine import VisualSearchEngine
from fashion.search.listing import Content, Listing, box_texts, content_key, contents_of
from fashion.search.parts import PATH, Cut, cut_of, part_files, read_part, write_manifest, write_part
from fashion.search.table import check_reserved
from fashion.tasks.listed import check_alone, listed
from fashion.tasks.options import Options, read_options

log = logging.getLogger(__name__)

RANKS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))
"""Where torchrun and Slurm tell a process which one of how many it is."""


class EmbedOptions(Options):
    encoder: str
    pictures: str | None
    split: Literal["train", "validation", "test", "all"] | None
    embeddings: str
    shard: str
    on_bad_image: Literal["fail", "skip"]


def run(cfg: DictConfig) -> int:
    """Embed the shard's pictures, unless its part is there already; returns how many it has.

    A part of another list of pictures, or of other shards, is replaced, and so is one whose pictures were changed or
    left out; what it holds is not embedded again.
    """
    options = read_options(cfg, EmbedOptions)
    number, count = which_shard(options.shard)
    if options.pictures:
        check_alone("pictures")
    engine = VisualSearchEngine(options.encoder)
    whole = listed(cfg, engine, options.pictures, options.split)
    check_reserved(whole.columns, str(whole.root))
    share = shard_of(whole, number, count)
    folder = Path(options.embeddings).expanduser()
    vectors, metadata = part_files(folder, number - 1)
    write_manifest(folder, engine.encoder.fingerprint, whole.root)
    cut, done = Cut.of(whole, count), metadata.exists() and vectors.exists()
    noted = _noted(metadata, share.external_ids()) if done else None
    contents, boxes = contents_of(share.paths, noted), box_texts(share)
    alike = done and cut_of(metadata) == cut
    if alike and contents == noted:
        log.info("Shard %d/%d is in %s already; delete %s to embed it again.", number, count, folder, metadata)
        return len(np.load(vectors, mmap_mode="r", allow_pickle=False))
    keys = [content_key(content.sha256, box) for content, box in zip(contents, boxes, strict=True)]
    journal = Journal(folder / f".shard-{number}", engine.encoder.fingerprint)
    if done:
        why = "pictures were changed or left out" if alike else "it is of another list of pictures, or of other shards"
        log.info("%s is written anew, as %s; what is new is embedded.", metadata, why)
        journal.known |= _known(folder, f"{number - 1:04d}")
    found, _, skipped = embed_pictures(
        engine.encoder, share.paths, keys, share.boxes, journal=journal, on_bad_image=options.on_bad_image
    )
    kept = [at for at, key in enumerate(keys) if key in found]
    columns: dict[str, Any] = {
        PATH: [share.paths[at].relative_to(share.root).as_posix() for at in kept],
        "sha256": [contents[at].sha256 for at in kept],
        "file_size": [contents[at].size for at in kept],
        "file_mtime_ns": [contents[at].mtime_ns for at in kept],
        **{name: [values[at] for at in kept] for name, values in share.columns.items()},
    }
    if share.boxes:
        columns["bbox"] = [boxes[at] for at in kept]
    embeddings = np.stack([found[keys[at]] for at in kept]) if kept else np.zeros((0, 64), np.float32)
    write_part(folder, number - 1, embeddings, pa.table(columns), cut)
    journal.clear()
    for reason in skipped[:5]:
        log.info("  skipped: %s", reason)
    log.info(
        "Shard %d/%d: holds %d pictures, %d skipped. When all shards are there: python run.py task=index "
        "%s %s", number, count, len(kept), len(skipped),
        as_typed("encoder", options.encoder), as_typed("embeddings", folder),
    )  # fmt: skip
    return len(kept)


def _noted(metadata: Path, names: Sequence[str]) -> list[Content | None]:
    """What a part notes of the pictures with those external ids; None where it has none, or cannot be read."""
    try:
        columns = parquet.read_table(metadata).select(["external_id", "file_size", "file_mtime_ns", "sha256"])
    except (OSError, KeyError, pa.ArrowException):
        return [None] * len(names)
    known = {str(name): Content(*content) for name, *content in zip(*columns.to_pydict().values(), strict=True)}
    return [known.get(name) for name in names]


def _known(folder: Path, number: str) -> dict[str, NDArray[np.float32]]:
    """Content and box → embedding, of a part that is to be replaced; nothing where it cannot be read."""
    try:
        vectors, table = read_part(folder, number)
        names = table["sha256"].to_pylist()
    except (FashionError, KeyError):
        return {}
    boxes = table["bbox"].to_pylist() if "bbox" in table.column_names else [""] * len(names)
    return dict(zip(map(content_key, names, boxes), map(np.array, vectors), strict=True))


def which_shard(text: str) -> tuple[int, int]:
    """ "3/8" → (3, 8), counted from 1; "auto" → this process's place among torchrun's or Slurm's.

    Raises:
        FashionError: if it is no such thing, or there is no place to be told.
    """
    if text == "auto":
        for rank, world in RANKS:
            if rank in os.environ and world in os.environ:
                return int(os.environ[rank]) + 1, int(os.environ[world])
        raise FashionError("shard=auto needs torchrun or Slurm (RANK or SLURM_PROCID is not set); set shard=1/8.")
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise FashionError(f"shard is {text!r}; it should be like 3/8 (the third of eight), or auto.")
    return int(match[1]), int(match[2])


def shard_of(listing: Listing, number: int, count: int) -> Listing:
    """Every count-th picture, from the number-th on: each picture in one shard, and shards of equal work."""
    share = slice(number - 1, None, count)
    columns = {"external_id": listing.external_ids()} | dict(listing.columns)
    return replace(
        listing,
        paths=listing.paths[share],
        columns={name: values[share] for name, values in columns.items()},
        boxes=listing.boxes[share] if listing.boxes else None,
    )
