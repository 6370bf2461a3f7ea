"""Embedding many pictures: decoded and embedded on a few threads, and a journal that outlives a kill."""

import shutil
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fashion.data.images import Picture
from fashion.data.loading import keep_good, made_of_pictures
from fashion.encoder import Encoder
from fashion.files import replacing

Vector = NDArray[np.float32]
EVERY = 1024
"""Embeddings between two writes of the journal: if the process dies, about a second's work is lost."""

DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
"""What NumPy raises for an .npz file that is truncated, or no such file."""


class Journal:
    """Embeddings of a sync under way, by content: a killed one that is run again embeds none of them twice.

    Args:
        folder: the catalogue's folder; None: nothing is noted.
        fingerprint: of the encoder; only its embeddings are used.
    """

    def __init__(self, folder: Path | None, fingerprint: str):
        self.folder = folder / ".embedded" / fingerprint if folder else None
        self.pending: dict[str, Vector] = {}
        self.known: dict[str, Vector] = {}
        for path in sorted(self.folder.glob("*.npz")) if self.folder else ():
            # Embeddings in a damaged file are made again; `clear` deletes it like the others.
            with suppress(*DAMAGE), np.load(path, allow_pickle=False) as part:
                self.known |= dict(zip(part["keys"].tolist(), part["embeddings"], strict=True))

    def add(self, key: str, embedding: Vector) -> None:
        """Note an embedding [64] under its key."""
        self.pending[key] = embedding
        if len(self.pending) >= EVERY:
            self.flush()

    def flush(self) -> None:
        if self.folder and self.pending:
            number = 1 + max((int(path.stem) for path in self.folder.glob("[0-9]*.npz")), default=-1)
            with replacing(self.folder / f"{number:06d}.npz") as part, part.open("wb") as file:
                np.savez(file, keys=np.array(list(self.pending)), embeddings=np.stack(list(self.pending.values())))
        self.known |= self.pending
        self.pending = {}

    def clear(self) -> None:
        """Forget it all: the catalogue has it now."""
        if self.folder:
            shutil.rmtree(self.folder.parent, ignore_errors=True)


def embed_pictures(
    encoder: Encoder,
    paths: Sequence[Path],
    keys: Sequence[str],
    boxes: Sequence[Sequence[float] | None] | None = None,
    *,
    journal: Journal,
    on_bad_image: str = "fail",
) -> tuple[dict[str, Vector], list[int], list[str]]:
    """Embed pictures, each content once, with a progress bar.

    Args:
        keys: what names each picture's content (and box).
        on_bad_image: `fail` stops at the first that cannot be read; `skip` leaves such out.

    Returns:
        key → embedding [64]; the positions of the pictures that are left out, and the reason of each.

    Raises:
        BadPictureError: with `fail`, naming the picture.
    """
    from rich.progress import track

    def embedded(pictures: list[Picture]) -> list[Vector]:
        return list(encoder(np.stack(pictures))[0])

    first = {key: at for at, key in reversed(list(enumerate(keys))) if key not in journal.known}
    todo = sorted(first.values())
    reasons: dict[str, str] = {}
    shown, cut = [paths[at] for at in todo], [boxes[at] for at in todo] if boxes else None
    vectors = made_of_pictures(embedded, shown, encoder.image_size, cut, encoder.centre)
    bar = track(vectors, "Embedding pictures", total=len(todo), disable=not todo)
    try:
        for at, vector in keep_good(bar, on_bad_image, lambda at, bad: reasons.update({keys[todo[at]]: str(bad)})):
            journal.add(keys[todo[at]], vector)
    finally:
        journal.flush()
    left_out = [at for at, key in enumerate(keys) if key in reasons]
    copies = {at: f"{paths[at]} holds the same: " for at in left_out if at != first[keys[at]]}
    why = [copies.get(at, "") + reasons[keys[at]] for at in left_out]
    return {key: journal.known[key] for key in dict.fromkeys(keys) if key in journal.known}, left_out, why
