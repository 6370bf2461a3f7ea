"""Real servers over small catalogues."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import write_pictures

from fashion import VisualSearchEngine
from fashion.benchmark.server import Server
from fashion.search.store import Store


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("shop"), {".": {"dress": 6, "hat": 6, "shoes": 6}})


def catalogue(bundle: Path, shop: Path, folder: Path) -> Path:
    engine, store = VisualSearchEngine(bundle), Store(folder)
    with store.writer():
        engine.sync(engine.list_folder(shop), store)
    return folder


@pytest.fixture
def served_folder(bundle: Path, shop: Path, tmp_path: Path) -> Path:
    return catalogue(bundle, shop, tmp_path / "catalog")


@pytest.fixture(scope="session")
def server(bundle: Path, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Read by many tests, changed by none."""
    with Server(catalogue(bundle, shop, tmp_path_factory.mktemp("served") / "catalog")) as started:
        yield started


@pytest.fixture
def keyed_server(bundle: Path, shop: Path, tmp_path: Path) -> Iterator[Server]:
    """With an API key, small limits, and one worker."""
    overrides = ("server.api_key=open-sesame", "server.max_upload_mb=0.2", "server.max_pixels=250000",
                 "server.workers=1", "server.queue=1", "server.reload_s=0.1", "server.read_timeout_s=30")  # fmt: skip
    with Server(catalogue(bundle, shop, tmp_path / "catalog"), *overrides) as started:
        yield started


@pytest.fixture(scope="module")
def hasty_server(bundle: Path, shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With an API key, and soon tired of waiting: on a busy machine even for an ordinary request."""
    folder = tmp_path_factory.mktemp("hasty") / "catalog"
    with Server(catalogue(bundle, shop, folder), "server.api_key=open-sesame", "server.read_timeout_s=1") as started:
        yield started
