"""How a catalogue is made again, for messages: from what its last `task=index` was made from, as its manifest says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fashion.quoting import PLAIN, as_typed, as_typed_list
from fashion.search.store import Store


def made_anew(folder: str | Path, encoder: str | Path | None = None) -> str:
    """The command that makes a catalogue anew.

    Any other source would give its items other names and columns, so it is only guessed where no manifest names it.
    """
    store = Store(folder)
    source = made_from(store)
    words = ["task=index", "rebuild=true"]
    words += [as_typed("encoder", encoder)] if encoder else []
    words += [source or as_typed("pictures", root_of(store) or "FOLDER"), as_typed("catalog", folder)]
    return " ".join(words) + ("" if source else " (or with the data=… or embeddings=… that it was made with)")


def made_from(store: Store) -> str | None:
    """What the catalogue's last `task=index` was made from, as it is typed; None where that is not noted."""
    return typed_overrides(noted_source(_manifest(store))) or None


def noted_source(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The overrides that a manifest notes; empty where it notes none, or, being from elsewhere, something else."""
    noted = manifest.get("made_from")
    return noted if isinstance(noted, dict) and all(map(PLAIN.fullmatch, noted)) else {}


def typed_overrides(overrides: Mapping[str, Any]) -> str:
    """Overrides, key → value or values, as they are typed."""
    return " ".join(
        as_typed_list(key, map(str, value)) if isinstance(value, list) else as_typed(key, value)
        for key, value in overrides.items()
    )


def root_of(store: Store) -> str | None:
    """Where the pictures lie; None where no manifest says it, or only "/"."""
    root = str(_manifest(store).get("root", "/"))
    return None if root == "/" else root


def _manifest(store: Store) -> dict[str, Any]:
    """The current version's, or that of the version to go back to first that can be read; empty where none can."""
    for number in (store.number(), *store.others()):
        said = store.manifest(number)
        if said.get("root"):
            return said
    return {}
