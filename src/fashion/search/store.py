"""A folder of numbered versions, of which one is current: what a catalogue's readers and its writer agree on.

`versions/000007/` holds the files, `current` is a link to it, and a link beside it for each file (`items.parquet` →
`current/items.parquet`).  A version is written whole beside the others; then `current` is replaced by one rename, which
either happened or did not, whatever kills the process.  Readers never wait, and what they have open stays.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fashion.errors import FashionError
from fashion.files import UMASK, explained, flush, read_json, write_text
from fashion.search.locking import only_writer

NEXT_ID = ".next_id"
"""The file that notes the lowest id that was never given: manifests may be damaged."""

PATIENCE = 30
"""Seconds that a command waits for another writer: a server that is asked for one change after the other."""


class Store:
    """The versions below `folder`.

    Args:
        keep: how many versions stay that `task=index` wrote, and as many again of changes of single items, the current
            one among them; None: as many as the newest manifest says, or 3.  Kept apart, so that a few new prices do
            not push out the last good import.
        patience: seconds to wait for another writer.  A server's changes take a fraction of one.
    """

    def __init__(self, folder: str | Path, keep: int | None = None, patience: float = 0):
        if keep is not None and keep < 1:
            raise FashionError(f"keep is {keep}; at least 1 version stays, the current one.")
        self.folder, self.asked, self.patience = Path(folder).expanduser(), keep, patience

    @property
    def keep(self) -> int:
        """How many versions stay of either kind."""
        return self.asked or self._noted_keep() or 3

    def keeps_otherwise(self) -> bool:
        """Whether another number of versions was asked for than is noted."""
        return self.asked not in (None, self._noted_keep())

    def _noted_keep(self) -> int | None:
        # Not as the current version notes it, which may be an older one, or damaged.
        return next((keep for keep in reversed(self._noted("keep")) if keep > 0), None)

    def _noted(self, key: str) -> list[int]:
        """The whole numbers that the kept versions' manifests note there, of the oldest version first."""
        found = (self.manifest(number).get(key) for number in self.numbers())
        return [value for value in found if type(value) is int]

    def current(self) -> Path | None:
        """The folder of the current version; None where nothing was ever written.

        That of version 0, which there never is, in a copy without links: it does not say which version was current.
        """
        link, fresh = self.folder / "current", self.folder / ".current"
        if link.is_symlink():
            return self.folder / link.readlink()
        if not link.is_dir() and fresh.is_symlink() and fresh.exists():  # a writer was killed as it made the link
            return self.folder / fresh.readlink()
        # A copy that followed links: the version that it is a copy of.
        said = read_json(link / "manifest.json")
        same = (number for number in reversed(self.numbers()) if said and self.manifest(number) == said)
        lost = self.version(0) if any(map(self.manifest, self.numbers())) else None
        return next(map(self.version, same), lost)

    def numbers(self) -> list[int]:
        """The versions that are kept, oldest first."""
        found = (self.folder / "versions").glob("[0-9]*") if self.folder.exists() else ()
        return sorted(int(path.name) for path in found if path.name.isdecimal())

    def number(self) -> int:
        """The current version's number; 0 where there is none."""
        current = self.current()
        return int(current.name) if current else 0

    def check(self) -> None:
        """Refuse a folder that holds something else, which a write would clutter or a clean-up harm."""
        strange = self.folder.exists() and (
            not self.folder.is_dir()
            or (any(self.folder.iterdir()) and not (self.folder / ".lock").exists() and self.current() is None)
        )
        if strange:
            raise FashionError(
                f"{self.folder} exists and is no catalogue, so it is not overwritten; name another folder."
            )

    def writable(self) -> bool:
        """Whether this process may write there, as far as the system can say without a try."""
        parts = (self.folder, self.folder / "versions", self.folder / ".lock")
        return all(os.access(path, os.W_OK) for path in parts if path.exists())

    @contextmanager
    def writer(self) -> Iterator[None]:
        """Hold the lock: one writer at a time, over all processes of this machine; released if the process dies.

        Raises:
            BusyError: that names who holds it.
            OutageError: if the file system has no locks, or cannot be written.
        """
        self.check()
        with only_writer(self.folder, self.patience):
            self._clean()
            yield

    @contextmanager
    def new_version(self, instead: bool = False) -> Iterator[Path]:
        """Within `writer`: an empty folder that becomes the current version when the block ends well.

        Args:
            instead: it takes the place of the current one, which is removed.

        Raises:
            FashionError: if the disk is full; the old version stays current.
        """
        before = self.number()
        with explained(self.folder):
            versions = self.folder / "versions"
            versions.mkdir(exist_ok=True)
            part = Path(tempfile.mkdtemp(prefix=".new-", dir=versions))
            try:
                yield part
                part.chmod(0o777 & ~UMASK)
                for path in part.iterdir():
                    flush(path)
                flush(part)
                final = self.version(max([0, *self.numbers()]) + 1)
                self._announce(final)  # or a kill of the first writer would look like a copy without links
                part.rename(final)
                flush(versions)
                self._point(final)
            finally:
                shutil.rmtree(part, ignore_errors=True)
        if instead:
            shutil.rmtree(self.version(before), ignore_errors=True)
        self._prune()

    def use(self, number: int) -> None:
        """Within `writer`: make another of the kept versions the current one.

        Raises:
            FashionError: if that version is not kept, or the disk is full.
        """
        with explained(self.folder):
            self._point(self.kept(number))

    def _point(self, version: Path) -> None:
        for path in version.iterdir():
            link = self.folder / path.name
            if not link.is_symlink():
                link.unlink(missing_ok=True)  # a copy's
                link.symlink_to(Path("current") / path.name)
        fresh = self._announce(version)
        copied, aside = self.folder / "current", self.folder / ".copied"
        if copied.is_dir() and not copied.is_symlink():
            shutil.rmtree(aside, ignore_errors=True)
            copied.rename(aside)
        fresh.replace(copied)
        shutil.rmtree(aside, ignore_errors=True)
        flush(self.folder)

    def _announce(self, version: Path) -> Path:
        """Make the link that is to replace `current`."""
        fresh, target = self.folder / ".current", version.relative_to(self.folder)
        if not fresh.is_symlink() or fresh.readlink() != target:
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(target)
        return fresh

    def ancestors(self) -> list[int]:
        """The kept versions that led to the current one, itself first: not those that were rolled back."""
        kept, found = self.numbers(), []
        number = self.number()
        while number in kept and number not in found:
            found.append(number)
            manifest = self.manifest(number)
            line = manifest.get("line")
            if line is not None:
                return found + [one for one in line if one in kept]
            before = manifest.get("previous")  # older manifests name the last one only
            number = max((one for one in kept if one < number), default=0) if before is None else before
        return found

    def others(self) -> list[int]:
        """The kept versions besides the current one: those that led to it, then the others, each newest first."""
        ancestors = self.ancestors()
        return [*ancestors[1:], *(number for number in reversed(self.numbers()) if number not in ancestors)]

    def of_items(self, number: int) -> bool:
        """Whether the version was written by a change of single items, not by `task=index`."""
        return bool(self.manifest(number).get("written_by") == "items")

    def listed(self) -> str:
        """The kept versions in words, by who wrote them."""
        single = [number for number in self.numbers() if self.of_items(number)]
        imported = [number for number in self.numbers() if number not in single]
        words = ", ".join(map(str, imported)) or "none"
        return f"{words}; after changes of single items {', '.join(map(str, single))}" if single else words

    def _prune(self) -> None:
        left = {True: self.keep, False: self.keep}
        for number in (self.number(), *self.others()):
            kind = self.of_items(number)
            left[kind] -= 1
            if left[kind] < 0:
                shutil.rmtree(self.version(number), ignore_errors=True)

    def version(self, number: int) -> Path:
        """The folder of the version with that number."""
        return self.folder / "versions" / f"{number:06d}"

    def manifest(self, number: int) -> dict[str, Any]:
        """What that version's manifest says; empty where it cannot be read."""
        said = read_json(self.version(number) / "manifest.json")
        return said if isinstance(said, dict) else {}

    def kept(self, number: int) -> Path:
        """The same of a version that is kept.

        Raises:
            FashionError: if it is not.
        """
        if number not in self.numbers():
            raise FashionError(f"{self.folder} keeps no version {number}; it has {self.listed()}.")
        return self.version(number)

    def _clean(self) -> None:
        """Remove what a killed writer left: half-written versions."""
        for path in self.folder.glob("versions/.new-*"):
            shutil.rmtree(path, ignore_errors=True)

    def next_id(self) -> int:
        """The lowest id that no version ever gave, also those that were rolled back, or cannot be read any more."""
        noted = self._noted("next_id")
        with suppress(OSError, ValueError):  # older catalogues have no such file
            noted.append(int((self.folder / NEXT_ID).read_text(encoding="utf-8")))
        return max(noted, default=0)

    def use_ids_below(self, number: int) -> None:
        """Within `writer`: note that ids below this one were given, for when no manifest can say so any more."""
        path = self.folder / NEXT_ID
        write_text(path, f"{max(number, self.next_id())}\n")
        flush(path)
