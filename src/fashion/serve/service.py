"""The engine behind the server: bounded work beside the event loop, and new catalogue versions while it runs."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import faiss

from fashion.errors import CatalogError, FashionError, OtherModelError, OutageError
from fashion.quoting import as_typed
from fashion.search.catalog import Catalog
from fashion.search.engine import VisualSearchEngine
from fashion.search.index import FAISSIndex
from fashion.search.remaking import made_from
from fashion.search.results import Choice
from fashion.search.store import Store
from fashion.serve.describing import described, spread
from fashion.serve.errors import ApiError
from fashion.serve.figures import Figures
from fashion.serve.settings import Settings

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Service:
    """One engine, its catalogue's folder, and a few threads that work with them.

    Requests take `engine` once and keep it: a new version replaces the attribute, never what a request holds.
    """

    def __init__(self, engine: VisualSearchEngine, store: Store, settings: Settings, *, mmap: bool = False):
        self.engine, self.store, self.settings, self.mmap = engine, store, settings, mmap
        # One OpenMP thread for each (the setting is per thread): requests run beside each other instead.
        self.pool = ThreadPoolExecutor(settings.workers, "search", lambda: faiss.omp_set_num_threads(1))
        self.writing = asyncio.Lock()
        self.waiting = self.changing = 0
        self.ready = False
        self.state = self._state(self.catalog.version)
        self.unused_version: int | None = None
        self.unused_state: list[int] = []
        self.figures = Figures(lambda: self.unused_version or 0)

    @property
    def catalog(self) -> Catalog:
        return self.engine.opened

    @contextmanager
    def place(self, *, change: bool = False) -> Iterator[None]:
        """Hold one of the places of requests that are read, worked on or waiting.

        Args:
            change: of the catalogue.  They wait for each other, so they get half of the places: searches go on.

        Raises:
            ApiError: 503, at once, if none is free.
        """
        places = self.settings.workers + self.settings.queue
        if self.waiting >= places or (change and self.changing >= max(places // 2, 1)):
            raise ApiError(503, "busy", "The server is busy; try again in a second.", {"Retry-After": "1"})
        self.waiting += 1
        self.changing += change
        self.figures.busy.set(self.waiting)
        try:
            yield
        finally:
            self.waiting -= 1
            self.changing -= change
            self.figures.busy.set(self.waiting)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do `work` on one of the threads; the caller holds a place."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)

    def reload(self) -> bool:
        """Load the catalogue's current version unless it is in use already; whether it was loaded.

        Raises:
            FashionError: if it cannot be used.  It is tried again once its folder or manifest has changed, as it may be
                half copied; after an outage of the disk or of Milvus, always.
        """
        number = self.store.number()
        state = self._state(number)
        if (number, state) == (self.catalog.version, self.state):
            self.unused_version = None
            return False
        if (number, state) == (self.unused_version, self.unused_state):
            return False
        try:
            fresh = Catalog.open(self.store.folder, mmap=self.mmap)
            fresh.check_encoder(self.engine.encoder)
        except FashionError as error:
            if isinstance(error, CatalogError) or not isinstance(error, OutageError):  # an outage passes
                self.unused_version, self.unused_state = number or None, state  # 0: there is none, until it is put back
            raise
        self.use(fresh)
        self.state = state
        self.look_for_pictures()
        return True

    def _state(self, number: int) -> list[int]:
        """Inodes and times of change of the version's folder and manifest: others once that number is written anew."""
        folder, found = self.store.version(number), []
        for path in (folder, folder / "manifest.json"):
            with contextlib.suppress(FileNotFoundError):
                now = path.stat()
                found += [now.st_ino, now.st_mtime_ns]
        return found

    def take(self, catalog: Catalog) -> None:
        """Search `catalog`, which was just written."""
        self.use(Catalog.open(self.store.folder, mmap=True) if self.mmap else catalog)
        self.state = self._state(self.catalog.version)

    def use(self, catalog: Catalog) -> None:
        engine = VisualSearchEngine(self.engine.encoder, catalog)
        engine.nearest(catalog.embeddings[:1], Choice(1))  # what is read lazily is read now
        if isinstance(catalog.index, FAISSIndex):
            catalog.index.quicken()
        # Once, and on the thread that loads a version: on the event loop all requests would wait for it.
        self.description = described(catalog, engine.encoder, self.settings)
        self.engine, self.unused_version = engine, None
        self.figures.items.set(len(catalog))
        self.figures.version.set(catalog.version)
        self.figures.created.set(self.description.created.timestamp() if self.description.created else 0)

    def look_for_pictures(self) -> None:
        """Warn if the pictures have moved: searches need none, so nothing else would tell."""
        items = spread(self.catalog)
        gone = [path for path in map(self.catalog.picture, items) if not os.access(path, os.R_OK)]
        if len(gone) > len(items) / 2:
            log.warning(
                "%d of %d pictures that were looked for are missing, such as %s.  Searches go on, and show no "
                "pictures; run this with their new place in it: python run.py task=index %s %s (embeds nothing again).",
                len(gone), len(items), gone[0], made_from(self.store) or "pictures=NEW",
                as_typed("catalog", self.store.folder),
            )  # fmt: skip

    async def watch(self) -> None:
        """Look for a new version now and then, for as long as the server runs."""
        said = ""
        while True:
            await asyncio.sleep(self.settings.reload_s)
            try:
                async with self.writing:  # else it could put a version back that a change has just replaced
                    found = await asyncio.to_thread(self.reload)
                if found:
                    log.info("Catalogue version %d: %d items", self.catalog.version, len(self.catalog))
                    said = ""
            except Exception as error:  # whatever is wrong with it, what is loaded is still searched
                if str(error) != said:
                    why: object = error
                    if isinstance(error, OtherModelError):  # its own message is for those who want the old model
                        why = "it is of another model; restart the server to search it, or use task=rollback."
                    log.error("The new catalogue version is not used: %s", why)
                    said = str(error)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """For as long as the server runs."""
        self.use(self.catalog)
        self.look_for_pictures()
        watcher = asyncio.create_task(self.watch())
        self.ready = True
        try:
            yield
        finally:
            self.ready = False
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
            self.pool.shutdown()
            log.info("The server has stopped; what was under way is finished.")
