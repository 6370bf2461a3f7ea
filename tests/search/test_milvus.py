"""Milvus's embedded edition, in this process and as a server, answers as flat does."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import unit, until, write_pictures

from fashion import FAISSIndex, VisualSearchEngine
from fashion.errors import FashionError
from fashion.search.catalog import Catalog
from fashion.search.items import delete_items, update_items
from fashion.search.milvus import MilvusIndex
from fashion.search.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("milvus")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "milvus-lite"), "server", "--host", "127.0.0.1", "--port", str(port),
               "--data-dir", str(folder / "data")]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)

        def listens() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(listens)
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        process.wait(20)


@pytest.fixture(params=["embedded", "server"])
def uri(request, tmp_path) -> str:
    return str(tmp_path / "m.db") if request.param == "embedded" else request.getfixturevalue("server")


def test_the_same_results_as_flat(uri, caplog):
    vectors, queries = unit(2000), unit(6, 1)
    vectors[7] = vectors[3]  # a tie
    ids = np.arange(2000) * 5 + 2
    flat, milvus = FAISSIndex(64), MilvusIndex(64, uri=uri)
    flat.build(vectors, ids)
    milvus.build(vectors, ids)
    random = np.random.default_rng(2)
    for allowed in (None, random.random(2000) < 0.1, random.random(2000) < 0.9, np.arange(2000) < 3):
        scores, found = milvus.search(np.concatenate([queries, vectors[3:4]]), 8, allowed)
        expected, truth = flat.search(np.concatenate([queries, vectors[3:4]]), 8, allowed)
        np.testing.assert_array_equal(found, truth)
        np.testing.assert_allclose(scores, expected, atol=1e-5)
    milvus.drop()
    assert "Traceback" not in caplog.text


def test_a_catalogue_is_synced_filtered_and_deleted_from(uri, bundle, tmp_path):
    shop = write_pictures(tmp_path / "shop", {".": {"dress": 5, "hat": 5, "shoes": 5}})
    engines = {}
    for kind, settings in {"flat": {}, "milvus": {"uri": uri}}.items():
        store = Store(tmp_path / kind, keep=2)
        engine = VisualSearchEngine(bundle, index={"kind": kind, **settings})
        for _ in range(2):
            with store.writer():
                engine.catalog = Catalog.open(store.folder) if store.current() else None
                engine.sync(engine.list_folder(shop), store)
        for name in ("hat/0.png", "dress/1.png", "shoes/3.png"):
            delete_items(engine, store, [name])
        engines[kind] = VisualSearchEngine(bundle, store.folder)
    query = shop / "hat/2.png"
    for options in ({}, {"filter": "label = 'shoes'"}, {"filter": "label != 'hat'", "group_by": "label"}):
        (flat,), (milvus,) = (engine.search(query, k=13, **options) for engine in engines.values())
        assert [hit.id for hit in milvus.hits] == [hit.id for hit in flat.hits]
    index = engines["milvus"].catalog.index
    assert isinstance(index, MilvusIndex)
    kept = [name for name in index.client.list_collections() if name.startswith("fashion_")]
    assert len(kept) == len(Store(tmp_path / "milvus").numbers()) == 3  # of four


def collections(uri: str) -> set[str]:
    return {name for name in MilvusIndex(uri=uri).client.list_collections() if name.startswith("fashion_")}


def test_a_copy_leaves_the_collections_of_its_original(uri, bundle, tmp_path, caplog):
    shop = write_pictures(tmp_path / "shop", {".": {"dress": 3, "hat": 3}})
    engine, store = VisualSearchEngine(bundle, index={"kind": "milvus", "uri": uri}), Store(tmp_path / "c", keep=1)
    with store.writer():
        engine.sync(engine.list_folder(shop), store)
    copy = Store(shutil.copytree(store.folder, tmp_path / "copy", symlinks=True), keep=1)
    update_items(engine, copy, {"dress/1.png": {"price": 3}})  # with the collection of the original
    before = collections(uri)
    for name in ("hat/0.png", "hat/1.png"):
        delete_items(engine, copy, [name])
    assert len(collections(uri) - before) == 1
    with copy.writer():
        engine.sync(engine.list_folder(shop), copy)  # so that neither kind of version has the original's any more
    assert len(collections(uri) - before) == 2
    assert f"is of the catalogue {store.folder}" in caplog.text
    assert len(VisualSearchEngine(store.folder).search(shop / "hat/0.png", k=6)[0].hits) == 6
    assert len(VisualSearchEngine(copy.folder).search(shop / "hat/0.png", k=6)[0].hits) == 6


def test_a_version_that_cannot_be_written_leaves_no_collection(uri, bundle, tmp_path):
    shop = write_pictures(tmp_path / "shop", {".": {"dress": 3, "hat": 3}})
    engine, store = VisualSearchEngine(bundle, index={"kind": "milvus", "uri": uri}), Store(tmp_path / "c")
    before = collections(uri)
    (tmp_path / "c").mkdir()
    with store.writer():
        (tmp_path / "c/versions").write_text("in the way")
        with pytest.raises(FashionError, match="could not be written"):
            engine.sync(engine.list_folder(shop), store)
    assert collections(uri) == before


def test_a_file_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert MilvusIndex(uri="m.db").settings["uri"] == str(tmp_path / "m.db")
    assert MilvusIndex(uri="http://host:1").settings["uri"] == "http://host:1"


def test_what_cannot_be_reached_or_is_not_there_is_named(tmp_path, uri):
    with pytest.raises(FashionError, match=r"index\.uri is not set"):
        MilvusIndex(64)
    with pytest.raises(FashionError, match="no setting 'nprobe'"):
        MilvusIndex(64, uri=uri, nprobe=3)
    (tmp_path / "i.json").write_text('{"collection": "fashion_gone"}')
    with pytest.raises(
        FashionError, match="no collection fashion_gone; make the catalogue anew with task=index rebuild=true"
    ):
        MilvusIndex.load(tmp_path / "i.json", np.arange(3), {"kind": "milvus", "uri": uri})
