"""A catalogue that follows its source: what is embedded, which ids stay, and what survives a kill."""

import errno
import fcntl
import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
import pytest
from helpers import write_checkpoint, write_pictures

from fashion import VisualSearchEngine
from fashion.errors import FashionError, OutageError
from fashion.search import catalog as catalog_module
from fashion.search import catalog_files
from fashion.search.catalog import Catalog
from fashion.search.items import add_items, delete_items, update_items
from fashion.search.listing import Listing
from fashion.search.plan import Changes
from fashion.search.store import Store
from fashion.serve.pictures import store_picture


@pytest.fixture
def source(tmp_path) -> Path:
    return write_pictures(tmp_path / "shop", {".": {"dress": 6, "hat": 6, "shoes": 6}})


@pytest.fixture
def engine(bundle) -> VisualSearchEngine:
    return VisualSearchEngine(bundle)


def sync(
    engine: VisualSearchEngine, source: Path, folder: Path, columns: dict[str, list] | None = None, **options
) -> Changes:
    store, listing = Store(folder), engine.list_folder(source)
    with store.writer():
        engine.catalog = Catalog.open(folder) if store.current() else None
        listing = Listing(source, listing.paths, {**listing.columns, **(columns or {})})
        return engine.sync(listing, store, **options)


def ids(folder: Path) -> dict[str, int]:
    items = Catalog.open(folder).items
    return dict(zip(items["external_id"].to_pylist(), items["id"].to_pylist(), strict=True))


def consistent(engine: VisualSearchEngine, folder: Path) -> None:
    """Every item's embedding is its own picture's, and the index agrees."""
    catalog = Catalog.open(folder)
    assert (np.diff(catalog.ids) > 0).all()
    for row, item in enumerate(catalog.items.to_pylist()):
        vector = engine.embed_image(catalog.picture(item))
        np.testing.assert_allclose(catalog.embeddings[row], vector, atol=1e-5)
    found = catalog.index.search(np.asarray(catalog.embeddings), 1)[0][:, 0]
    np.testing.assert_allclose(found, 1, atol=1e-5)


def test_only_what_is_new_or_changed_is_embedded(engine, source, tmp_path):
    first = sync(engine, source, tmp_path / "c")
    assert (len(first.added), first.embedded) == (18, 18)
    before = ids(tmp_path / "c")
    (source / "hat/0.png").unlink()
    (source / "hat/1.png").rename(source / "shoes/renamed.png")
    shutil.copy(source / "dress/0.png", source / "dress/copy.png")
    write_pictures(tmp_path / "other", {".": {"skirt": 2}})
    shutil.copy(tmp_path / "other/skirt/0.png", source / "dress/1.png")
    shutil.copy(tmp_path / "other/skirt/1.png", source / "dress/new.png")
    os.utime(source / "dress/2.png")  # touched, not changed
    changes = sync(engine, source, tmp_path / "c")
    assert changes.removed == ["hat/0.png"]
    assert changes.renamed == ["shoes/renamed.png"]
    assert sorted(changes.added) == ["dress/copy.png", "dress/new.png"]
    assert changes.changed == ["dress/1.png"]
    assert changes.unchanged == 15
    assert changes.embedded == 2  # the copy's content was known
    after = ids(tmp_path / "c")
    assert after["shoes/renamed.png"] == before["hat/1.png"]
    assert after["dress/1.png"] == before["dress/1.png"]
    assert {after["dress/copy.png"], after["dress/new.png"]} == {18, 19}
    consistent(engine, tmp_path / "c")


def test_of_two_copies_that_are_gone_the_older_one_was_renamed(engine, source, tmp_path):
    shutil.copy(source / "hat/0.png", source / "hat/copy.png")
    sync(engine, source, tmp_path / "c")
    before = ids(tmp_path / "c")
    assert before["hat/0.png"] < before["hat/copy.png"]
    (source / "hat/copy.png").unlink()
    (source / "hat/0.png").rename(source / "hat/new.png")
    changes = sync(engine, source, tmp_path / "c")
    assert (changes.renamed, changes.removed) == (["hat/new.png"], ["hat/copy.png"])
    assert ids(tmp_path / "c")["hat/new.png"] == before["hat/0.png"]


def test_ids_are_never_used_again(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    (source / "shoes/5.png").unlink()  # the highest id
    sync(engine, source, tmp_path / "c")
    shutil.copy(source / "hat/0.png", source / "shoes/5.png")
    sync(engine, source, tmp_path / "c")
    assert ids(tmp_path / "c")["shoes/5.png"] == 18
    store = Store(tmp_path / "c")
    with store.writer():
        store.use(store.numbers()[-2])  # back to where id 18 was not given yet
    (source / "hat/0.png").rename(source / "hat/9.png")
    (source / "hat/9.png").write_bytes((source / "hat/9.png").read_bytes() + b"\0")
    (source / "shoes/5.png").unlink()
    sync(engine, source, tmp_path / "c")
    assert ids(tmp_path / "c")["hat/9.png"] == 19


def test_a_dry_run_counts_what_would_be_embedded(engine, source, tmp_path):
    folder = tmp_path / "c"
    assert sync(engine, source, folder, dry_run=True).embedded == 18
    sync(engine, source, folder)
    add_items(engine, Store(folder), [write_pictures(tmp_path, {"new": {"skirt": 1}}) / "new/skirt/0.png"], [
        {"external_id": "A1"}])  # fmt: skip
    for options, count in (({}, 0), ({"rebuild": True}, 19)):
        assert sync(engine, source, folder, dry_run=True, **options).embedded == count
        assert sync(engine, source, folder, **options).embedded == count


def test_a_dry_run_says_what_would_change_and_changes_nothing(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    (source / "hat/0.png").unlink()
    changes = sync(engine, source, tmp_path / "c", dry_run=True)
    assert (changes.removed, changes.embedded) == (["hat/0.png"], 0)
    assert len(Catalog.open(tmp_path / "c")) == 18


def test_a_source_that_lost_half_its_items_must_be_confirmed(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    shutil.rmtree(source / "hat")
    shutil.rmtree(source / "shoes")
    with pytest.raises(FashionError, match="12 of the catalogue's 18 items.*allow_shrink=true"):
        sync(engine, source, tmp_path / "c")
    assert len(Catalog.open(tmp_path / "c")) == 18
    sync(engine, source, tmp_path / "c", allow_shrink=True)
    assert len(Catalog.open(tmp_path / "c")) == 6


def test_versions_are_kept_and_can_be_gone_back_to(engine, source, tmp_path):
    for number in range(5):
        (source / f"hat/{number}.png").unlink()
        sync(engine, source, tmp_path / "c")
    store = Store(tmp_path / "c")
    assert store.numbers() == [3, 4, 5]
    assert len(Catalog.open(tmp_path / "c")) == 13
    with store.writer():
        store.use(3)
        with pytest.raises(FashionError, match="keeps no version 1; it has 3, 4, 5"):
            store.use(1)
    with pytest.raises(FashionError, match="c keeps no version 99; it has 3, 4, 5"):
        Catalog.open(tmp_path / "c", version=99)
    assert len(Catalog.open(tmp_path / "c")) == 15
    assert json.loads((tmp_path / "c/manifest.json").read_text())["count"] == 15  # the links follow


def test_what_was_gone_back_from_is_forgotten_first(engine, source, tmp_path):
    store = Store(tmp_path / "c")
    for number in range(3):
        (source / f"hat/{number}.png").unlink()
        sync(engine, source, store.folder)
    assert store.numbers() == [1, 2, 3]
    with store.writer():
        store.use(1)
    (source / "hat/3.png").unlink()
    sync(engine, source, store.folder)
    assert store.ancestors() == [4, 1]
    assert store.numbers() == [1, 3, 4]
    (source / "hat/4.png").unlink()
    sync(engine, source, store.folder)
    assert store.numbers() == store.ancestors()[::-1] == [1, 4, 5]


def test_the_index_is_kept_where_columns_alone_change(engine, source, tmp_path, monkeypatch):
    sync(engine, source, tmp_path / "c", {"price": [1] * 18})

    def never(*arguments: object, **settings: object) -> None:
        raise AssertionError("the index is built anew")

    monkeypatch.setattr(catalog_module, "built", never)
    update_items(engine, Store(tmp_path / "c"), {"hat/1.png": {"price": 5}})
    sync(engine, source, tmp_path / "c", {"price": [2] * 18})
    assert Catalog.open(tmp_path / "c").items["price"].to_pylist() == [2] * 18
    consistent(engine, tmp_path / "c")
    with pytest.raises(AssertionError, match="built anew"):
        delete_items(engine, Store(tmp_path / "c"), ["hat/1.png"])


def test_a_copied_catalogue_can_be_written(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    shutil.copytree(tmp_path / "c", tmp_path / "copy", symlinks=True, ignore=shutil.ignore_patterns(".lock"))
    delete_items(engine, Store(tmp_path / "copy"), ["hat/1.png"])
    assert len(Catalog.open(tmp_path / "copy")) == 17


def test_added_pictures_move_with_the_catalogue(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    picture = store_picture((source / "hat/0.png").read_bytes(), tmp_path / "c/pictures")
    assert add_items(engine, Store(tmp_path / "c"), [picture], [{"external_id": "mine"}]) == [18]
    folder = (tmp_path / "c").rename(tmp_path / "moved")
    catalog = Catalog.open(folder)
    assert catalog.picture(catalog.item(18)) == folder / "pictures" / picture.name
    consistent(engine, folder)
    sync(engine, source, folder, rebuild=True)
    assert ids(folder)["mine"] == 18


def test_added_pictures_among_the_sources_are_none_of_them(engine, source):
    sync(engine, source, source / "c")
    picture = store_picture((source / "hat/0.png").read_bytes(), source / "c/pictures")
    add_items(engine, Store(source / "c"), [picture], [{"external_id": "mine"}])
    assert len(engine.list_folder(source).paths) == 18
    assert len(engine.list_folder(source / "c/pictures").paths) == 1
    assert len(engine.embed_dataset(source)) == 18


def test_added_items_whose_pictures_are_gone_are_lost_with_a_word_only(engine, source, tmp_path):
    folder = tmp_path / "c"
    sync(engine, source, folder)
    pictures = [store_picture((source / f"hat/{number}.png").read_bytes(), folder / "pictures") for number in range(2)]
    add_items(engine, Store(folder), pictures, [{"external_id": "a"}, {"external_id": "b"}])
    pictures[0].unlink()
    changes = sync(engine, source, folder, rebuild=True, on_bad_image="skip")
    assert (changes.removed, len(changes.skipped)) == (["a"], 1)
    pictures[1].unlink()
    sync(engine, source, folder)  # needs no picture of theirs
    with pytest.raises(FashionError, match="1 of the catalogue's 1 added items would be lost.*allow_shrink=true"):
        sync(engine, source, folder, rebuild=True, on_bad_image="skip")
    assert ids(folder)["b"] == 19
    assert sync(engine, source, folder, rebuild=True, on_bad_image="skip", allow_shrink=True).removed == ["b"]


def test_pictures_that_no_version_names_are_deleted(engine, source, tmp_path):
    store = Store(tmp_path / "c", keep=2)
    pictures, data = store.folder / "pictures", (source / "hat/0.png").read_bytes()
    sync(engine, source, store.folder)
    named = [store_picture(data, pictures) for _ in range(2)]
    add_items(engine, store, named, [{"external_id": "a"}, {"external_id": "b"}])
    killed = store_picture(data, pictures)  # between storing and the version
    (pictures / "mine.jpg").write_bytes(data)
    long_ago = time.time() - 7200
    for path in pictures.iterdir():
        os.utime(path, (long_ago, long_ago))
    new = store_picture(data, pictures)
    for price in (1, 2):
        delete_items(engine, store, ["a"]) if price == 1 else update_items(engine, store, {"b": {"price": price}})
        assert not killed.exists()
        assert named[0].exists() == (price == 1)  # the version before has it
    assert sorted(pictures.iterdir()) == sorted([named[1], new, pictures / "mine.jpg"])


def test_a_copy_that_followed_links_is_a_catalogue_too(engine, source, tmp_path):
    """As object stores, archives of some kinds and network drives make it."""
    for number in range(2):
        (source / f"hat/{number}.png").unlink()
        sync(engine, source, tmp_path / "c")
    copy = shutil.copytree(tmp_path / "c", tmp_path / "copy", symlinks=False)
    assert not (copy / "current").is_symlink()
    store = Store(copy)
    assert len(Catalog.open(copy)) == VisualSearchEngine(copy).size == 16
    delete_items(engine, store, ["hat/4.png"])
    assert (len(Catalog.open(copy)), store.number()) == (15, 3)
    assert json.loads((copy / "manifest.json").read_text())["count"] == 15
    with store.writer():
        store.use(1)
    assert len(Catalog.open(copy)) == 17


def test_a_kill_while_a_copy_gets_its_link_loses_nothing(engine, source, tmp_path, monkeypatch):
    sync(engine, source, tmp_path / "c")
    copy = shutil.copytree(tmp_path / "c", tmp_path / "copy", symlinks=False)
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        rename(path, target)
        if path.name == "current":
            raise KeyboardInterrupt
        return target

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            delete_items(engine, Store(copy), ["hat/4.png"])
    assert not (copy / "current").exists()
    assert len(Catalog.open(copy)) in (17, 18)
    delete_items(engine, Store(copy), ["hat/1.png"])
    assert not (copy / ".copied").exists()
    assert (copy / "current").is_symlink()


def test_nothing_to_add_or_delete_is_said(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    for work, words in ((lambda store: add_items(engine, store, [], []), "no item to add"),
                        (lambda store: delete_items(engine, store, []), "no item to delete")):  # fmt: skip
        with pytest.raises(FashionError, match=words):
            work(Store(tmp_path / "c"))
    assert Store(tmp_path / "c").numbers() == [1]


def test_the_second_writer_is_told_who_holds_the_lock(engine, source, tmp_path):
    store = Store(tmp_path / "c")
    with store.writer():
        code = f"from fashion.search.store import Store\nwith Store({str(tmp_path / 'c')!r}).writer(): pass"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"is being written by process {os.getpid()} on" in done.stderr
    with store.writer():
        pass


def test_a_patient_writer_waits_for_another(tmp_path, caplog):
    caplog.set_level("INFO")
    order = []

    def wait() -> None:
        with Store(tmp_path / "c", patience=30).writer():
            order.append("second")

    with Store(tmp_path / "c").writer():
        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(0.3)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
    assert caplog.text.count("Waiting for another writer of") == 1


def test_a_file_system_without_locks_is_no_other_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(errno.ENOLCK, "No locks available")))
    with pytest.raises(OutageError, match=r"cannot be locked \(No locks available\)"), Store(tmp_path / "c").writer():
        pass


def test_a_full_disk_is_a_sentence_where_a_version_is_gone_back_to(engine, source, tmp_path, monkeypatch):
    full = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    sync(engine, source, tmp_path / "c")
    delete_items(engine, Store(tmp_path / "c"), ["hat/0.png"])
    with monkeypatch.context() as patch:
        patch.setattr("fashion.search.locking.os.write", full)
        with (store := Store(tmp_path / "c")).writer():
            store.use(1)
    assert full.called
    assert len(Catalog.open(tmp_path / "c")) == 18
    monkeypatch.setattr(Path, "symlink_to", full)
    with pytest.raises(OutageError, match=r"No space left on device.* free some space"), store.writer():
        store.use(2)
    assert len(Catalog.open(tmp_path / "c")) == 18


def test_the_same_id_twice_is_refused(engine, source, tmp_path):
    listing = engine.list_folder(source)
    twice = Listing(source, listing.paths, {"external_id": ["a"] * len(listing.paths)})
    with pytest.raises(FashionError, match="external_id 'a' comes more than once"):
        engine.sync(twice)


def test_unreadable_pictures_stop_a_sync_or_are_left_out(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    (source / "hat/bad.png").write_bytes(b"<html>")
    with pytest.raises(FashionError, match=r"bad\.png"):
        sync(engine, source, tmp_path / "c")
    changes = sync(engine, source, tmp_path / "c", on_bad_image="skip")
    assert len(changes.skipped) == 1
    assert len(Catalog.open(tmp_path / "c")) == 18


def test_each_picture_that_is_missing_gets_its_own_reason(engine, source):
    listing = Listing(source, [source / "hat/0.png", *(source / f"hat/gone{number}.png" for number in range(3))], {})
    changes = engine.sync(listing, on_bad_image="skip")
    assert len(changes.skipped) == 3
    for number, reason in enumerate(sorted(changes.skipped)):
        assert f"gone{number}.png" in reason
        assert "holds the same" not in reason


def test_items_are_added_changed_and_deleted(engine, source, tmp_path):
    folder, store = tmp_path / "c", Store(tmp_path / "c")
    sync(engine, source, folder)
    extra = write_pictures(tmp_path / "extra", {".": {"skirt": 2}}) / "skirt"
    rows = [{"external_id": "s0", "label": "skirt", "price": 10}, {"external_id": "s1", "price": 20.5}]
    assert add_items(engine, store, [extra / "0.png", extra / "1.png"], rows) == [18, 19]
    assert [hit.id for hit in engine.search(extra / "0.png", k=1)[0].hits] == [18]
    update_items(engine, store, {"s0": {"price": 30.0, "label": None}, "hat/0.png": {"price": 5}})
    found = {row["external_id"]: row for row in Catalog.open(folder).items.to_pylist()}
    assert (found["s0"]["price"], found["s0"]["label"], found["hat/0.png"]["price"]) == (30.0, None, 5.0)
    assert add_items(engine, store, [extra / "1.png"], [{"external_id": "s0", "label": "skirt"}]) == [18]
    consistent(engine, folder)
    sync(engine, source, folder)  # items that were added stay
    assert ids(folder)["s1"] == 19
    delete_items(engine, store, ["s0", "hat/0.png"])
    assert not {"s0", "hat/0.png"} & ids(folder).keys()
    assert sync(engine, source, folder).added == ["hat/0.png"]
    assert ids(folder)["hat/0.png"] == 20
    consistent(engine, folder)


def test_a_source_item_that_is_replaced_stays_the_sources(engine, source, tmp_path):
    folder, store = tmp_path / "c", Store(tmp_path / "c")
    sync(engine, source, folder)
    before = ids(folder)
    extra = write_pictures(tmp_path / "extra", {".": {"skirt": 2}}) / "skirt"
    add_items(engine, store, [extra / "0.png", extra / "1.png"], [{"external_id": f"hat/{n}.png"} for n in (0, 1)])
    assert ids(folder) == before
    consistent(engine, folder)
    (source / "hat/1.png").unlink()
    changes = sync(engine, source, folder)
    assert (changes.changed, changes.removed) == (["hat/0.png"], ["hat/1.png"])
    del before["hat/1.png"]
    assert ids(folder) == before
    consistent(engine, folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e, s: delete_items(e, s, ["nothing"]), "no item with external_id 'nothing'"),
        (lambda e, s: delete_items(e, s, ["no text: \udcff"]), "no item with external_id 'no text"),
        (lambda e, s: update_items(e, s, {"hat/0.png": {"id": 3}}), "cannot be set"),
        (
            lambda e, s: update_items(e, s, {"hat/0.png": {"label": 3}}),
            r"has 3 in the column 'label' \(text\); use",
        ),
        (lambda e, s: delete_items(e, s, list(ids(s.folder))), "No item would be left"),
    ],
)
def test_bad_changes_change_nothing(engine, source, tmp_path, change, words):
    sync(engine, source, tmp_path / "c")
    with pytest.raises(FashionError, match=words):
        change(engine, Store(tmp_path / "c"))
    assert Store(tmp_path / "c").numbers() == [1]


def test_columns_follow_the_table(engine, source, tmp_path):
    prices = [5.0, math.nan, None, *range(15)]
    sync(engine, source, tmp_path / "c", {"price": prices})
    assert sync(engine, source, tmp_path / "c", {"price": prices}).unchanged == 18
    assert Store(tmp_path / "c").numbers() == [1]
    prices[1:4] = [7.0, None, None]
    for dry_run in (True, False):
        changes = sync(engine, source, tmp_path / "c", {"price": prices}, dry_run=dry_run)
        assert changes.other_columns == ["dress/1.png", "dress/3.png"]
        assert str(changes) == "2 with other columns, 16 unchanged; 0 pictures embedded"
    assert Catalog.open(tmp_path / "c").items["price"].to_pylist() == [5, 7, None, None, *range(1, 15)]
    with pytest.raises(FashionError, match=r"the source has no column price \(16 values\)"):
        sync(engine, source, tmp_path / "c")
    changes = sync(engine, source, tmp_path / "c", allow_shrink=True)
    assert changes.other_columns[:2] == ["dress/0.png", "dress/1.png"]


WORK = """
import sys
from pathlib import Path
from fashion import VisualSearchEngine
from fashion.search import embedding
from fashion.search.catalog import Catalog
from fashion.search.items import add_items, delete_items
from fashion.search.store import Store
embedding.EVERY = embedding.BATCH = 4
bundle, source, folder, extra, verb = sys.argv[1:]
engine, store = VisualSearchEngine(bundle), Store(folder)
print("ready", flush=True)
if verb == "sync":
    with store.writer():
        engine.catalog = Catalog.open(folder)
        engine.sync(engine.list_folder(source), store)
elif verb == "add":
    add_items(engine, store, [Path(extra)], [{"external_id": "extra"}])
else:
    delete_items(engine, store, ["dress/0.png"])
print("acknowledged", flush=True)
"""


@pytest.mark.slow
def test_kills_at_any_moment_lose_nothing(engine, bundle, source, tmp_path):
    """Killed at random moments, the catalogue is as before or as after, and what was acknowledged is there."""
    folder, dice = tmp_path / "c", random.Random(0)
    extra = write_pictures(tmp_path / "extra", {".": {"skirt": 1}}) / "skirt/0.png"
    more = write_pictures(tmp_path / "more", {".": {"skirt": 12}}) / "skirt"
    sync(engine, source, folder)
    shutil.copytree(folder, tmp_path / "before", symlinks=True)
    shutil.copytree(more, source / "skirt")
    outcomes = {"sync": {18, 30}, "add": {18, 19}, "delete": {18, 17}}
    acknowledged, longest = 0, 0.0
    for number in range(int(os.environ.get("FASHION_KILLS", "20")) + 3):
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "before", folder, symlinks=True)
        verb = dice.choice(list(outcomes))
        process = subprocess.Popen(
            [sys.executable, "-c", WORK, bundle, source, folder, extra, verb], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        started = time.monotonic()
        if number < 3:  # how long a change takes on this machine, today
            said = process.stdout.read()
            longest = max(longest, time.monotonic() - started)
        else:
            time.sleep(dice.uniform(0, 1.2 * longest))
            process.send_signal(signal.SIGKILL)
            said = process.stdout.read()
        process.wait()
        count = len(Catalog.open(folder))
        assert count in outcomes[verb]
        if "acknowledged" in said:
            acknowledged += 1
            assert count != 18
        if verb == "sync":  # a second call finishes, and the half-done work is gone
            sync(engine, source, folder)
            assert len(Catalog.open(folder)) == 30
            assert not list(folder.glob("versions/.new-*"))
    assert acknowledged >= 3


def test_a_killed_sync_embeds_nothing_twice(engine, bundle, source, tmp_path, monkeypatch):
    from fashion.data import loading
    from fashion.search import embedding

    monkeypatch.setattr(loading, "PIECE", 4)
    monkeypatch.setattr(loading, "THREADS", 1)  # so that the pieces before the interruption are complete
    monkeypatch.setattr(embedding, "EVERY", 4)
    calls: list[int] = []
    encoder = engine.encoder
    real = type(encoder).__call__

    def counted(self, pictures):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(len(pictures))
        return real(self, pictures)

    monkeypatch.setattr(type(encoder), "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        sync(engine, source, tmp_path / "c")
    monkeypatch.setattr(type(encoder), "__call__", real)
    for dry_run in (True, False):
        changes = sync(engine, source, tmp_path / "c", dry_run=dry_run)
        assert (len(changes.added), changes.embedded) == (18, 6)
    assert not (tmp_path / "c/.embedded").exists()
    consistent(engine, tmp_path / "c")


def test_a_catalogue_of_another_model_is_not_mixed(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    other = VisualSearchEngine(write_checkpoint(tmp_path / "other.ckpt", seed=1))
    with pytest.raises(FashionError, match="rebuild=true"):
        add_items(other, Store(tmp_path / "c"), [source / "hat/0.png"], [{"external_id": "x"}])
    assert pa.types.is_int64(Catalog.open(tmp_path / "c").items.schema.field("id").type)


def test_an_update_gives_an_item_a_new_picture_and_keeps_the_rest(engine, source, tmp_path):
    store, folder = Store(tmp_path / "c"), tmp_path / "c"
    paths = engine.list_folder(source).paths
    boxes = [[0, 0, 20, 20], *[None] * 17]
    with store.writer():
        engine.sync(Listing(source, paths, {"label": ["x"] * 18, "price": [*range(18)]}, boxes), store)
    new = write_pictures(tmp_path / "new", {".": {"skirt": 1}}) / "skirt/0.png"
    update_items(engine, store, {"hat/1.png": {"price": 5}}, {"dress/0.png": new, "hat/1.png": new})
    catalog = Catalog.open(folder)
    for name, price in (("dress/0.png", 0), ("hat/1.png", 5)):
        found = catalog.item(catalog.number(name))
        assert (found["label"], found["price"], found["bbox"], found["path"]) == ("x", price, "", str(new))
    consistent(engine, folder)
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(FashionError, match=r"bad\.png"):
        update_items(engine, store, {}, {"hat/1.png": tmp_path / "bad.png"})
    with pytest.raises(FashionError, match=r"the source has no column price \(18 values\); if that is meant"):
        sync(engine, source, folder)
    changes = sync(engine, source, folder, allow_shrink=True)
    assert changes.changed == ["dress/0.png", "hat/1.png"]  # it is the source's item


def test_columns_that_only_later_items_have_are_kept(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    pictures = [source / "hat/0.png", source / "hat/1.png"]
    rows = [{"external_id": "a", "size": "M"}, {"external_id": "b", "price": 30.0, "colour": "blue"}]
    add_items(engine, Store(tmp_path / "c"), [str(path) for path in pictures], rows)
    items = {item["external_id"]: item for item in Catalog.open(tmp_path / "c").items.to_pylist()}
    assert (items["b"]["price"], items["b"]["colour"], items["b"]["size"]) == (30.0, "blue", None)
    assert (items["a"]["price"], items["a"]["size"]) == (None, "M")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1, None, "a"], r"item '2' has 'a' in the column 'price' \(number\); use a value of its type\."),
        ([2**63, 1], "item '0' has 9223372036854775808 in the column 'price'; no column can hold that"),
        ([["S", "M"]], r"item '0' has \['S', 'M'\] in the column 'price'; no column can hold that"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(engine, source, tmp_path, values, words):
    sync(engine, source, tmp_path / "c")
    rows = [{"external_id": str(at), "price": value} for at, value in enumerate(values)]
    with pytest.raises(FashionError, match=words):
        add_items(engine, Store(tmp_path / "c"), [source / "hat/0.png"] * len(rows), rows)
    assert len(Catalog.open(tmp_path / "c")) == 18


def test_a_column_without_values_can_be_given_some(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    store = Store(tmp_path / "c")
    update_items(engine, store, {"hat/0.png": {"price": None}})
    update_items(engine, store, {"hat/0.png": {"price": 3, "product_id": 7}})
    assert Catalog.open(tmp_path / "c").items.filter(pa.compute.field("product_id") == "7").num_rows == 1
    assert Catalog.open(tmp_path / "c").items.filter(pa.compute.field("price") == 3).num_rows == 1


@pytest.mark.parametrize("name", ["id", "path", "sha256", "origin"])
def test_names_that_the_catalogue_needs_are_refused(engine, source, tmp_path, name):
    with pytest.raises(FashionError, match=f"column '{name}', which the catalogue notes by itself"):
        sync(engine, source, tmp_path / "c", {name: ["x"] * 18})
    sync(engine, source, tmp_path / "c")
    with pytest.raises(FashionError, match=f"column '{name}'"):
        add_items(engine, Store(tmp_path / "c"), [source / "hat/0.png"], [{"external_id": "a", name: "x"}])


def test_a_shop_has_sizes_of_its_own(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c", {"size": ["S", "M", "L"] * 6})
    assert len(engine.search(source / "hat/0.png", k=18, filter="size = 'M'")[0].hits) == 6


def test_catalogues_of_the_schema_before_are_read(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    version = tmp_path / "c/versions/000001"
    items = pa.parquet.read_table(version / "items.parquet")
    former = {"file_size": "size", "file_mtime_ns": "mtime_ns"}
    renamed = items.rename_columns([former.get(name, name) for name in items.column_names])
    pa.parquet.write_table(renamed, version / "items.parquet")
    manifest = json.loads((version / "manifest.json").read_text())
    digest = hashlib.sha256((version / "items.parquet").read_bytes()).hexdigest()
    manifest |= {"schema_version": 1, "sha256": manifest["sha256"] | {"items.parquet": digest}}
    (version / "manifest.json").write_text(json.dumps(manifest))
    changes = sync(engine, source, tmp_path / "c")
    assert (changes.unchanged, changes.embedded) == (18, 0)


def test_another_models_catalogue_is_not_changed(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    other = VisualSearchEngine(write_checkpoint(tmp_path / "other.ckpt", seed=9))
    for change in (
        lambda: delete_items(other, Store(tmp_path / "c"), ["hat/0.png"]),
        lambda: update_items(other, Store(tmp_path / "c"), {"hat/0.png": {"price": 3}}),
    ):
        with pytest.raises(FashionError, match="was made by the model"):
            change()
    assert len(Catalog.open(tmp_path / "c")) == 18


def test_a_change_keeps_as_many_versions_as_were_asked_for(engine, source, tmp_path):
    store = Store(tmp_path / "c", keep=5)
    with store.writer():
        engine.sync(engine.list_folder(source), store)
    for price in range(5):
        update_items(engine, Store(tmp_path / "c"), {"hat/0.png": {"price": price}})
    assert Store(tmp_path / "c").numbers() == [1, 2, 3, 4, 5, 6]  # five of these, and what sync wrote
    update_items(engine, Store(tmp_path / "c"), {"hat/0.png": {"price": 5}})
    assert Store(tmp_path / "c").numbers() == [1, 3, 4, 5, 6, 7]
    with (fewer := Store(tmp_path / "c", keep=2)).writer():  # noted from then on
        engine.catalog = Catalog.open(tmp_path / "c")
        engine.sync(engine.list_folder(source), fewer)
    assert Store(tmp_path / "c").numbers() == [1, 6, 7, 8]
    assert Store(tmp_path / "c").keep == 2


@pytest.mark.parametrize("forgets", ["rollback", "damage", "other type"])
def test_how_many_versions_are_kept_is_remembered(engine, source, tmp_path, forgets):
    for number in range(4):
        (source / f"hat/{number}.png").unlink()
        sync(engine, source, tmp_path / "c")
    store = Store(tmp_path / "c", keep=6)
    for number in range(4, 6):
        (source / f"hat/{number}.png").unlink()
        with store.writer():
            engine.sync(engine.list_folder(source), store)
    manifest = store.version(6) / "manifest.json"
    with (store := Store(tmp_path / "c")).writer():
        if forgets == "rollback":
            store.use(3)  # of before six were asked for
        else:
            text = manifest.read_text()
            manifest.write_text(text.replace('"keep": 6', '"keep": "x"') if forgets == "other type" else text[:-9])
        engine.catalog = None
        engine.sync(engine.list_folder(source), store, rebuild=True, first_id=18)
    assert store.numbers() == [2, 3, 4, 5, 6, 7]
    assert store.keep == 6


def test_files_that_are_only_touched_push_out_no_version(engine, source, tmp_path):
    def touched() -> None:
        for _ in range(3):
            for path in source.rglob("*.png"):
                os.utime(path, ns=(time.time_ns(), time.time_ns()))
            assert sync(engine, source, store.folder).unchanged == 17

    store = Store(tmp_path / "c")
    sync(engine, source, store.folder)
    (source / "hat/0.png").unlink()
    sync(engine, source, store.folder)
    touched()
    assert store.listed() == "1, 5"
    assert len(Catalog.open(store.folder, version=1)) == 18
    assert sync(engine, source, store.folder).unchanged == 17
    assert store.number() == 5  # the times are noted
    add_items(engine, store, [source / "hat/1.png"], [{"external_id": "A1"}])
    touched()
    assert store.listed() == "1, 5; after changes of single items 9"
    assert store.ancestors() == [9, 5, 1]
    with store.writer():
        store.use(5)
    touched()
    assert store.listed() == "1, 5, 12; after changes of single items 9"  # 9 came from 5, and leads back to it


def test_touched_files_remove_no_version_of_another_catalogue(engine, source, pictures, tmp_path):
    sync(engine, source, tmp_path / "c")
    sync(engine, pictures / "test", tmp_path / "other")
    engine.catalog = Catalog.open(tmp_path / "c")
    for path in source.rglob("*.png"):
        os.utime(path, ns=(time.time_ns(), time.time_ns()))
    other = Store(tmp_path / "other")
    with other.writer():
        engine.sync(engine.list_folder(source), other)
    assert other.numbers() == [1, 2]


def test_the_first_writer_may_be_killed_at_any_moment(engine, source, tmp_path, monkeypatch):
    for point in ("_announce", "_point"):
        folder = tmp_path / point
        with monkeypatch.context() as patch:
            patch.setattr(Store, point, Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                sync(engine, source, folder)
        sync(engine, source, folder)
        assert len(Catalog.open(folder)) == 18


def test_the_link_of_the_first_version_is_there_until_it_is_current(engine, source, tmp_path, monkeypatch):
    """Killed between its removal and its making, the writer would leave what looks like a copy without links."""
    made, link = [], Path.symlink_to
    monkeypatch.setattr(Path, "symlink_to", lambda self, target: (made.append(self.name), link(self, target))[0])
    sync(engine, source, tmp_path / "c")
    assert made.count(".current") == 1


def test_changes_of_single_items_push_out_no_import(engine, source, tmp_path):
    store = Store(tmp_path / "c")
    for number in range(3):
        (source / f"hat/{number}.png").unlink()
        sync(engine, source, store.folder)
    with store.writer():
        store.use(2)  # version 3 is gone back from
    for price in range(5):
        update_items(engine, store, {"hat/5.png": {"price": price}})
    assert store.listed() == "1, 2, 3; after changes of single items 6, 7, 8"
    assert store.ancestors() == [8, 7, 6, 2, 1]  # also across those that are gone
    manifest = store.version(6) / "manifest.json"
    manifest.write_text(manifest.read_text().replace("written_by", "x"))  # as before it was noted
    assert not store.of_items(6)


def test_a_reader_whose_version_is_removed_meanwhile_reads_the_next(engine, source, tmp_path, monkeypatch):
    sync(engine, source, tmp_path / "c")
    update_items(engine, Store(tmp_path / "c"), {"hat/0.png": {"price": 9}})

    def slow(path: Path) -> pa.Table:
        monkeypatch.undo()  # before the first read only
        for price in range(4):
            update_items(engine, Store(tmp_path / "c"), {"hat/0.png": {"price": price}})
        return catalog_files.read_items(path)

    monkeypatch.setattr(catalog_files, "read_items", slow)
    assert Catalog.open(tmp_path / "c").version == 6


def test_pictures_that_cannot_be_read_are_counted_once_each_and_as_nothing_else(engine, source, tmp_path):
    for name in ("a", "b", "c"):
        (source / f"hat/{name}.png").write_bytes(b"")
    changes = sync(engine, source, tmp_path / "c", on_bad_image="skip")
    assert (len(changes.added), len(changes.skipped), changes.embedded) == (18, 3, 18)
    assert [f"hat/{name}.png" in changes.skipped[at] for at, name in enumerate("abc")] == [True] * 3


@pytest.mark.parametrize("content", [b"", b"PK\3\4 cut off"])
def test_a_damaged_journal_is_embedded_again(engine, source, tmp_path, content):
    sync(engine, source, tmp_path / "c")
    (source / "hat/new.png").write_bytes((source / "hat/0.png").read_bytes() + b"\0")
    journal = tmp_path / "c/.embedded" / engine.encoder.fingerprint / "000000.npz"
    journal.parent.mkdir(parents=True)
    journal.write_bytes(content)
    assert sync(engine, source, tmp_path / "c", dry_run=True).embedded == 1
    assert journal.exists()  # a dry run changes nothing
    assert sync(engine, source, tmp_path / "c").embedded == 1
    assert not (tmp_path / "c/.embedded").exists()


def test_what_the_picture_is_cut_by_is_not_set_beside_it(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    with pytest.raises(FashionError, match="bbox of 'hat/0.png' cannot be set"):
        update_items(engine, Store(tmp_path / "c"), {"hat/0.png": {"bbox": "0 0 5 5"}})
    with pytest.raises(FashionError, match="'x' has a bbox"):
        add_items(engine, Store(tmp_path / "c"), [source / "hat/0.png"], [{"external_id": "x", "bbox": "0 0 5 5"}])


def test_an_update_that_sets_nothing_is_refused(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    with pytest.raises(FashionError, match="no column to set"):
        update_items(engine, Store(tmp_path / "c"), {"hat/0.png": {}})
    assert Store(tmp_path / "c").numbers() == [1]


def test_an_external_id_that_comes_twice_is_named(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(50_000)]
    listing = Listing(tmp_path, paths, {"external_id": [*range(49_999), 7]})
    with pytest.raises(FashionError, match="'7' comes more than once"):
        listing.external_ids()
    with pytest.raises(FashionError, match="/3.png stands in more than one row; add a column external_id"):
        Listing(tmp_path, [*paths[:5], paths[3]], {}).external_ids()


def test_a_sync_without_changes_writes_no_version(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    sync(engine, source, tmp_path / "c")
    assert Store(tmp_path / "c").numbers() == [1]
    (source / "hat/0.png").unlink()
    sync(engine, source, tmp_path / "c")
    assert Store(tmp_path / "c").numbers() == [1, 2]


def test_a_rebuild_keeps_ids_and_what_was_added(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    add_items(engine, Store(tmp_path / "c"), [source / "hat/0.png"], [{"external_id": "A1", "price": 3}])
    (source / "dress/0.png").unlink()
    before = ids(tmp_path / "c")
    changes = sync(engine, source, tmp_path / "c", rebuild=True)
    assert changes.removed == ["dress/0.png"]
    del before["dress/0.png"]
    assert ids(tmp_path / "c") == before
    assert Catalog.open(tmp_path / "c").next_id == 19
    consistent(engine, tmp_path / "c")


def test_a_rebuild_by_another_model_embeds_everything(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    add_items(engine, Store(tmp_path / "c"), [source / "hat/0.png"], [{"external_id": "A1"}])
    extra = write_pictures(tmp_path / "extra", {".": {"skirt": 1}}) / "skirt/0.png"
    add_items(engine, Store(tmp_path / "c"), [extra], [{"external_id": "A2"}])
    other = VisualSearchEngine(write_checkpoint(tmp_path / "other.ckpt", seed=9))
    assert sync(other, source, tmp_path / "c", rebuild=True).embedded == 19
    consistent(other, tmp_path / "c")


def test_pictures_that_cannot_be_read_any_more_count_as_lost(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    extra = [{"external_id": f"added {at}"} for at in range(12)]
    add_items(engine, Store(tmp_path / "c"), [source / "hat/0.png"] * 12, extra)  # do not count: they are not its own
    for path in [*source.glob("dress/*"), *source.glob("shoes/*")]:
        path.write_bytes(b"")
    with pytest.raises(FashionError, match="12 of the catalogue's 18 items"):
        sync(engine, source, tmp_path / "c", on_bad_image="skip")
    assert len(Catalog.open(tmp_path / "c")) == 30


def test_a_rebuild_leaves_out_added_pictures_that_are_gone_if_told_to(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    shutil.copy(source / "hat/0.png", tmp_path / "here.png")
    shutil.copy(source / "hat/1.png", tmp_path / "gone.png")
    pictures = [tmp_path / "gone.png", tmp_path / "here.png"]
    add_items(engine, Store(tmp_path / "c"), pictures, [{"external_id": "gone"}, {"external_id": "here"}])
    pictures[0].unlink()
    with pytest.raises(FashionError, match=r"The added item 'gone' has lost its picture .*gone\.png; add it again"):
        sync(engine, source, tmp_path / "c", rebuild=True)
    assert len(sync(engine, source, tmp_path / "c", rebuild=True, on_bad_image="skip").skipped) == 1
    assert "here" in ids(tmp_path / "c")
    consistent(engine, tmp_path / "c")


def test_values_that_no_column_can_hold_name_their_item(engine, source, tmp_path):
    for value, words in (([1], "no column can hold that"), (b"\xff\xfe", "no column can hold that"), (3, r"\(text\)")):
        with pytest.raises(FashionError, match=f"'dress/1.png' has .* in the column 'tags'.*{words}"):
            sync(engine, source, tmp_path / "c", {"tags": ["a" if value == 3 else None, value, *[None] * 16]})
    sync(engine, source, tmp_path / "c", {"tags": [b"a", *[None] * 17]})
    assert Catalog.open(tmp_path / "c").items["tags"][0].as_py() == "a"


@pytest.mark.parametrize("empty", [None, ""])
def test_items_without_an_external_id_are_refused(engine, source, tmp_path, empty):
    with pytest.raises(FashionError, match=r"1\.png has no external_id"):
        sync(engine, source, tmp_path / "c", {"external_id": ["a", empty, *"bcdefghijklmnopq"]})


def test_an_added_item_that_does_not_fit_the_source_is_named(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    store = Store(tmp_path / "c")
    add_items(engine, store, [source / "hat/0.png"], [{"external_id": "A1", "price": "cheap"}])
    with pytest.raises(
        FashionError, match=r"'A1' has 'cheap' in the column 'price' \(number in the source\); .*update='A1'"
    ):
        sync(engine, source, tmp_path / "c", {"price": list(range(18))})
    update_items(engine, store, {"A1": {"price": None}})
    sync(engine, source, tmp_path / "c", {"price": list(range(18))})
    update_items(engine, store, {"A1": {"price": 9.5}})
    wrong = [str(number) for number in range(17)] + ["12,50"]
    with pytest.raises(FashionError, match=r"'shoes/5.png' has '12,50' in the column 'price'.* correct it in the"):
        sync(engine, source, tmp_path / "c", {"price": wrong})
    assert Catalog.open(tmp_path / "c").items["price"].to_pylist() == [*range(18), 9.5]


def test_content_is_checked_on_request(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    path, other = source / "hat/0.png", (source / "hat/1.png").read_bytes()
    size = max(path.stat().st_size, len(other))
    path.write_bytes(path.read_bytes().ljust(size, b"\0"))
    os.utime(path, (10**9, 10**9))
    sync(engine, source, tmp_path / "c")
    path.write_bytes(other.ljust(size, b"\0"))
    os.utime(path, (10**9, 10**9))
    assert sync(engine, source, tmp_path / "c").unchanged == 18
    assert sync(engine, source, tmp_path / "c", check_content=True).changed == ["hat/0.png"]
    consistent(engine, tmp_path / "c")


def test_a_renamed_picture_keeps_its_id_beside_a_copy(engine, source, tmp_path):
    shutil.copy(source / "hat/0.png", source / "shoes/copy.png")
    sync(engine, source, tmp_path / "c")
    before = ids(tmp_path / "c")
    (source / "hat/0.png").rename(source / "hat/renamed.png")
    changes = sync(engine, source, tmp_path / "c")
    assert (changes.renamed, changes.added, changes.removed) == (["hat/renamed.png"], [], [])
    assert ids(tmp_path / "c")["hat/renamed.png"] == before["hat/0.png"]


def test_copies_of_one_picture_are_items_of_their_own(engine, source, tmp_path):
    shutil.copy(source / "dress/0.png", source / "shoes/copy.png")
    assert sync(engine, source, tmp_path / "c").embedded == 18
    before = ids(tmp_path / "c")
    assert str(sync(engine, source, tmp_path / "c")) == "19 unchanged; 0 pictures embedded"
    (source / "dress/0.png").rename(source / "hat/moved.png")
    (source / "shoes/copy.png").unlink()
    changes = sync(engine, source, tmp_path / "c")
    assert (changes.renamed, changes.removed) == (["hat/moved.png"], ["shoes/copy.png"])
    assert ids(tmp_path / "c")["hat/moved.png"] == before["dress/0.png"]  # the older of two that are gone


def test_an_added_item_that_the_source_has_too_is_one_item_and_the_sources(engine, source, tmp_path):
    folder, store = tmp_path / "c", Store(tmp_path / "c")
    sync(engine, source, folder)
    extra = write_pictures(tmp_path / "extra", {".": {"skirt": 1}}) / "skirt/0.png"
    add_items(engine, store, [extra], [{"external_id": "hat/new.png"}])
    shutil.copy(extra, source / "hat/new.png")
    sync(engine, source, folder)
    assert (Catalog.open(folder).ids.tolist(), ids(folder)["hat/new.png"]) == ([*range(19)], 18)
    (source / "hat/new.png").unlink()
    assert sync(engine, source, folder).removed == ["hat/new.png"]


def test_a_dry_run_says_that_too_much_would_go(engine, source, tmp_path):
    sync(engine, source, tmp_path / "c")
    for label in ("hat", "shoes"):
        shutil.rmtree(source / label)
    with pytest.raises(FashionError, match="allow_shrink"):
        sync(engine, source, tmp_path / "c", dry_run=True)


def test_what_is_skipped_counts_as_nothing_else():
    changes = Changes(added=["a"], changed=["b"], renamed=["c"], other_columns=["d", "e"])
    changes.leave_out({"a", "b", "c", "d"}, ["why"])
    assert str(changes) == "1 with other columns, 1 skipped, 0 unchanged; 0 pictures embedded"


def test_another_number_of_versions_is_noted_though_nothing_else_changes(engine, source, tmp_path):
    for keep, numbers in ((5, [1]), (5, [1]), (2, [2]), (2, [2])):
        with (store := Store(tmp_path / "c", keep=keep)).writer():
            engine.sync(engine.list_folder(source), store)
        assert (Store(tmp_path / "c").keep, store.numbers()) == (keep, numbers)


def test_a_column_that_requests_alone_gave_is_none_of_the_sources(engine, source, tmp_path):
    folder, store = tmp_path / "c", Store(tmp_path / "c")
    sync(engine, source, folder)
    extra = write_pictures(tmp_path / "extra", {".": {"skirt": 1}}) / "skirt/0.png"
    add_items(engine, store, [extra], [{"external_id": "A1", "price": 3}])
    (source / "hat/0.png").unlink()
    sync(engine, source, folder)
    update_items(engine, store, {"hat/1.png": {"price": 5}})
    assert sync(engine, source, folder).other_columns == ["hat/1.png"]  # the source says so, and loses no column
    assert Catalog.open(folder).items["price"].to_pylist() == [None] * 17 + [3]
