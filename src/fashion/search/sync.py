"""Making a catalogue equal to its source: what is new or changed is embedded, what is gone is dropped."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fashion.data.images import BadPictureError
from fashion.encoder import Encoder
from fashion.errors import FashionError
from fashion.search.auto import in_full
from fashion.search.catalog import Catalog
from fashion.search.embedding import Journal, embed_pictures
from fashion.search.guarding import added, check_given, check_shrink, filled
from fashion.search.listing import Listing, content_hash, content_key
from fashion.search.plan import Changes, Plan, plan
from fashion.search.store import Store
from fashion.search.table import joined

FILE = ("file_size", "file_mtime_ns")
"""Columns that say nothing of an item, only of its file: with them, the next sync needs not read it."""


def synced(
    encoder: Encoder,
    old: Catalog | None,
    listing: Listing,
    index: Mapping[str, Any],
    store: Store | None = None,
    *,
    on_bad_image: str = "fail",
    allow_shrink: bool = False,
    dry_run: bool = False,
    rebuild: bool = False,
    first_id: int = 0,
    check_content: bool = False,
    known: Mapping[str, NDArray[np.float32]] | None = None,
) -> tuple[Catalog | None, Changes]:
    """The catalogue that equals `listing`, and what was done for it; the old one where there was nothing to do.

    Args:
        old: the catalogue as it was; None: there is none yet.
        index: `kind` and settings of the index.
        store: where the catalogue lies; the caller holds its writer lock.  None: in memory only.
        on_bad_image: `fail` stops at a picture that cannot be read; `skip` leaves it out.
        allow_shrink: let more than half of the items go, the external ids that were given, and whole columns.
        dry_run: only say what would change, and write nothing.
        rebuild: embed every item anew, also those that were added by request; ids stay.
        first_id: where there is no catalogue yet, the first id to give.
        check_content: read every picture, also those whose size and time of change are as noted.
        known: embeddings that were made elsewhere, by content and box (`fashion.search.parts.listing_of`).

    Raises:
        FashionError: if the listing is not for a catalogue, no picture can be read, or too much would be lost
            (`fashion.search.guarding`).
    """
    settings = in_full(index)
    planned = plan(old, listing, first_id, check_content=check_content)
    stay = old.ids[kept_added(old, planned)] if old else planned.ids[:0]
    check_shrink(old, np.concatenate([planned.ids, stay]), allow_shrink)
    check_given(old, planned, listing, allow_shrink)
    changes = planned.changes
    if rebuild:
        planned.rows[:] = -1
    journal = Journal(store.folder if store else None, encoder.fingerprint)
    journal.known |= dict(known or {})
    if dry_run:
        changes.embedded = len(_contents_to_embed(old, planned, rebuild) - journal.known.keys())
        return old, changes
    before = len(journal.known)
    fresh = _embed_missing(encoder, listing, planned, journal, on_bad_image)
    renewed = _embed_added(encoder, old, planned, journal, on_bad_image) if old and rebuild else None
    changes.embedded = len(journal.known) - before
    items, embeddings = merged(old, planned, fresh, renewed)
    if not len(embeddings):
        raise FashionError(
            f"None of the {len(listing.paths)} pictures in {listing.root} can be read; there is nothing to search."
        )
    check_shrink(old, items["id"].to_numpy(), allow_shrink)
    new = old
    # A version that says nothing new would push an older one out.
    keeps_otherwise = store is not None and store.keeps_otherwise()
    said = (items, listing, settings, encoder.source)
    if rebuild or keeps_otherwise or old is None or not old.holds(*said):
        like = None if rebuild else old
        new = Catalog.build(items, embeddings, encoder, listing.root, settings, planned.next_id, like=like)
        new.made_from, new.given = dict(listing.made_from), filled(planned.items)
        if store is not None:
            instead = not rebuild and old is not None and _is_newest(old, store) and old.holds(*said, but=FILE)
            new.commit(store, "items" if instead and store.of_items(store.number()) else "index", instead=instead)
    journal.clear()
    return new, changes


def _is_newest(catalog: Catalog, store: Store) -> bool:
    """Whether it is the store's current version and its last: no other was made from it, and would lead back to it."""
    same = catalog.folder is not None and catalog.folder.resolve() == store.folder.resolve()
    return same and catalog.version == store.number() == max(store.numbers(), default=0)


def _contents_to_embed(old: Catalog | None, planned: Plan, rebuild: bool) -> set[str]:
    """The content and box of all that must be embedded, of added items as the catalogue notes them."""
    contents = {*planned.keys().values()}
    if old and rebuild:
        noted = old.items["sha256"].filter(pa.array(kept_added(old, planned)))
        contents |= set(map(content_key, noted.to_pylist()))
    return contents


def _embed_missing(
    encoder: Encoder, listing: Listing, planned: Plan, journal: Journal, on_bad_image: str
) -> dict[int, NDArray[np.float32]]:
    """Embeddings [64] of the listing's pictures that need one, by position; without those that are skipped."""
    missing = planned.keys()
    todo, keys = [*missing], [*missing.values()]
    vectors, left_out, why = embed_pictures(
        encoder,
        [listing.paths[at] for at in todo],
        keys,
        [listing.boxes[at] for at in todo] if listing.boxes else None,
        journal=journal,
        on_bad_image=on_bad_image,
    )
    names = planned.items["external_id"]
    planned.changes.leave_out({names[todo[at]].as_py() for at in left_out}, why)
    return {at: vectors[key] for at, key in zip(todo, keys, strict=True) if key in vectors}


def _embed_added(
    encoder: Encoder, old: Catalog, planned: Plan, journal: Journal, on_bad_image: str
) -> dict[int, NDArray[np.float32]]:
    """Embeddings [64] of the added items that stay, from their pictures, by id; those that are skipped are removed."""
    kept = old.items.filter(pa.array(kept_added(old, planned))).to_pylist()
    paths = [old.picture(item) for item in kept]
    gone = next((at for at, path in enumerate(paths) if not path.is_file()), None)
    if gone is not None and on_bad_image == "fail":
        raise BadPictureError(
            f"The added item {kept[gone]['external_id']!r} has lost its picture {paths[gone]}; add it again with "
            "task=items, delete it, or leave such items out with on_bad_image=skip."
        )
    keys = [content_key(content_hash(path)) for path in paths]
    vectors, _, why = embed_pictures(encoder, paths, keys, journal=journal, on_bad_image=on_bad_image)
    planned.changes.skipped += why
    lost = [item["external_id"] for item, key in zip(kept, keys, strict=True) if key not in vectors]
    planned.changes.removed += lost
    return {item["id"]: vectors[key] for item, key in zip(kept, keys, strict=True) if key in vectors}


def kept_added(old: Catalog, planned: Plan) -> NDArray[np.bool_]:
    """Which of the old items were added by request and are not the source's now: they stay."""
    return added(old) & ~np.isin(old.ids, planned.ids)


def merged(
    old: Catalog | None,
    planned: Plan,
    fresh: Mapping[int, NDArray[np.float32]],
    renewed: Mapping[int, NDArray[np.float32]] | None = None,
) -> tuple[pa.Table, NDArray[np.float32]]:
    """The items and embeddings that the plan leads to, ascending by id.

    Args:
        fresh: position in the listing → its new embedding; positions that need one and have none are left out.
        renewed: id → new embedding of the added items that stay; None: all stay, and keep theirs.
    """
    reused = planned.rows >= 0
    kept = reused.copy()
    kept[list(fresh)] = True
    embeddings = np.empty((len(kept), 64), np.float32)
    if old is not None:
        embeddings[reused] = old.embeddings[planned.rows[reused]]
    for at, vector in fresh.items():
        embeddings[at] = vector
    table, embeddings = planned.items.filter(pa.array(kept)), embeddings[kept]
    if old is not None:
        stay = kept_added(old, planned)
        if renewed is not None:
            stay &= np.isin(old.ids, list(renewed))
        numbers = old.ids[stay].tolist()
        others = old.embeddings[stay] if renewed is None else _stacked([renewed[number] for number in numbers])
        own = old.items.filter(pa.array(stay))
        has = {*table.column_names, *filled(own)}  # any other column went from the source, and its values with it
        table = joined(table, own.select([name for name in own.column_names if name in has]))
        embeddings = np.concatenate([embeddings, others])
    order = np.argsort(table["id"].to_numpy(), kind="stable")
    return table.take(pa.array(order)), np.ascontiguousarray(embeddings[order])


def _stacked(vectors: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.stack(vectors) if vectors else np.zeros((0, 64), np.float32)
