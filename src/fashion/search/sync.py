"""Making a catalogue equal to its source: what is new or changed is embedded, what is gone is dropped."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fashion.encoder import Encoder
from fashion.errors import FashionError
from fashion.search.auto import in_full
from fashion.search.catalog import Catalog
from fashion.search.embedding import Journal, embed_pictures
from fashion.search.listing import Listing, content_hash
from fashion.search.plan import Changes, Plan, check_shrink, kept_added, merged, plan
from fashion.search.store import Store


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
        allow_shrink: let more than half of the items go.
        dry_run: only say what would change.
        rebuild: embed every item anew, also those that were added by request; ids stay.
        first_id: where there is no catalogue yet, the first id to give.
        check_content: read every picture, also those whose size and time of change are as noted.
        known: embeddings that were made elsewhere, by content and box (`fashion.search.parts.listing_of`).

    Raises:
        FashionError: if the listing is not for a catalogue, no picture can be read, or too many items would go.
    """
    settings = in_full(index)
    planned = plan(old, listing, first_id, check_content=check_content)
    check_shrink(old, planned.ids, allow_shrink)
    changes = planned.changes
    if dry_run:
        return old, changes
    if rebuild:
        planned.rows[:] = -1
    journal = Journal(store.folder if store else None, encoder.fingerprint)
    journal.known |= dict(known or {})
    before = len(journal.known)
    fresh = _embed_missing(encoder, listing, planned, journal, on_bad_image)
    added = _embed_added(encoder, old, planned, journal, on_bad_image) if old and rebuild else None
    changes.embedded = len(journal.known) - before
    items, embeddings = merged(old, planned, fresh, added)
    if not len(embeddings):
        raise FashionError(
            f"None of the {len(listing.paths)} pictures in {listing.root} can be read; there is nothing to search."
        )
    check_shrink(old, items["id"].to_numpy(), allow_shrink)
    new = old
    # A version that says nothing new would push an older one out.
    if rebuild or old is None or not old.holds(items, listing.root, settings):
        new = Catalog.build(items, embeddings, encoder, listing.root, settings, planned.next_id)
        if store is not None:
            new.commit(store)
    journal.clear()
    return new, changes


def _embed_missing(
    encoder: Encoder, listing: Listing, planned: Plan, journal: Journal, on_bad_image: str
) -> dict[int, NDArray[np.float32]]:
    """Embeddings [64] of the listing's pictures that need one, by position; without those that are skipped."""
    todo = np.flatnonzero(planned.rows < 0).tolist()
    keys = [f"{planned.hashes[at]} {planned.boxes[at]}" for at in todo]
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
    """Embeddings [64] of the added items that stay, from their pictures, by id; without those that are skipped."""
    kept = old.items.filter(pa.array(kept_added(old, planned))).to_pylist()
    paths = [old.picture(item) for item in kept]
    keys = [f"{content_hash(path)} " for path in paths]
    vectors, _, why = embed_pictures(encoder, paths, keys, journal=journal, on_bad_image=on_bad_image)
    planned.changes.skipped += why
    return {item["id"]: vectors[key] for item, key in zip(kept, keys, strict=True) if key in vectors}
