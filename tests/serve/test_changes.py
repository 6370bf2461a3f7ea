"""Changes over HTTP: each item has its status, what fails leaves nothing behind, and new versions are taken up."""

import asyncio
import json
import shutil
from unittest.mock import Mock

import faiss
import httpx
import pytest
from helpers import until, write_pictures
from uploads import KEY, jpeg, saved, text

from fashion import VisualSearchEngine
from fashion.benchmark.server import Server
from fashion.client import Client
from fashion.errors import FashionError, OtherModelError, OutageError
from fashion.search.catalog import Catalog
from fashion.search.items import delete_items, update_items
from fashion.search.milvus import MilvusIndex
from fashion.search.store import Store
from fashion.serve import describing
from fashion.serve.changes import changed, deleted
from fashion.serve.errors import ApiError
from fashion.serve.service import Service
from fashion.serve.settings import Settings
from fashion.tasks.serve import make_service


def item(name: str, colour: str = "hat", **columns) -> dict:
    return {"external_id": name, "image": text(jpeg(colour)), "columns": columns}


def add(server, *items: dict) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/items", json={"items": list(items)}, headers=KEY)


def stored(server) -> int:
    return len(list((server.catalog / "pictures").glob("*")))


def test_columns_that_do_not_fit_are_refused_and_leave_no_picture(keyed_server):
    assert add(keyed_server, item("a", price=3.5)).status_code == 200
    for columns, words in (
        ({"price": "cheap"}, "in the column 'price' (number); use a value of its type."),
        ({"id": 5}, "the catalogue notes by itself"),
        ({"bbox": "0 0 5 5"}, "give the picture that is in it"),
        ({"external_id": "c"}, "another external_id, 'c'"),
    ):
        bad, good = add(keyed_server, item("b", **columns), item("a", price=3.5)).json()["items"]
        assert (bad["external_id"], bad["status"], good["status"]) == ("b", "refused", "replaced")
        assert words in bad["message"]
        assert good["id"] is not None
    (copied,) = add(keyed_server, item("a", **Client(keyed_server.url).item("a")["payload"])).json()["items"]
    assert copied["status"] == "replaced"  # the payload of an item names it
    kept = stored(keyed_server)
    first, second = add(keyed_server, item("b", cut="M"), item("c", cut=5)).json()["items"]  # of two types
    assert (first["status"], second["status"]) == ("added", "refused")
    assert stored(keyed_server) == kept + 1
    one, other = add(keyed_server, item("big", n=2**63), item("b", n=2**63 - 1)).json()["items"]
    assert (one["external_id"], one["status"]) == ("big", "refused")
    assert "64 bits" in one["message"]
    assert other["status"] == "replaced"
    assert stored(keyed_server) == kept + 2


def test_whatever_fails_leaves_no_picture(served_folder, monkeypatch):
    from fashion.serve import changes
    from fashion.serve.schemas import NewItem

    service = make_service(served_folder, None, Settings())

    def broken(*arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(changes, "add_items", broken)
    with pytest.raises(RuntimeError):
        changes.added(service.engine, service, [NewItem(**item("a"))])
    assert not list((served_folder / "pictures").iterdir())


def test_what_makes_searches_faster_is_made_before_the_first_one(served_folder, monkeypatch):
    from fashion.search import numbered

    monkeypatch.setattr(numbered, "MANY", 1)
    service = make_service(served_folder, None, Settings())
    service.use(service.catalog)
    assert service.catalog.index._held.rough is not None


def test_a_folder_that_cannot_be_written_is_the_servers_fault(keyed_server):
    (keyed_server.catalog / "pictures").write_text("in the way")
    answer = add(keyed_server, item("a"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "outage")
    assert str(keyed_server.catalog) not in answer.text
    assert "Retry-After" in answer.headers


@pytest.mark.parametrize("name", ["", "\ud800"])
def test_names_that_no_column_can_have(keyed_server, name):
    body = json.dumps({"items": [{"external_id": "hat/0.png", "columns": {name: 1}}]})
    answer = httpx.patch(
        f"{keyed_server.url}/v1/items", content=body, headers=KEY | {"Content-Type": "application/json"}
    )
    (status,) = answer.json()["items"]
    assert status["status"] == "refused"
    assert "no name that can be written" in status["message"]


def test_numbers_that_are_none_are_refused(keyed_server):
    body = """{"items": [{"external_id": "hat/0.png", "columns": {"price": 1e999}},
                         {"external_id": "hat/1.png", "columns": {"product_id": NaN}},
                         {"external_id": "hat/2.png", "columns": {"price": 1e99}}]}"""
    headers = KEY | {"Content-Type": "application/json"}
    statuses = httpx.patch(f"{keyed_server.url}/v1/items", content=body, headers=headers).json()["items"]
    assert [one["status"] for one in statuses] == ["refused", "refused", "changed"]
    assert "The column 'price' is inf, which is no number" in statuses[0]["message"]
    assert "The column 'product_id' is nan, which is no number" in statuses[1]["message"]
    (added,) = Client(keyed_server.url, "open-sesame").add({"a": jpeg()}, {"a": {"price": float("-inf")}})["items"]
    assert added["status"] == "refused"
    assert stored(keyed_server) == 0


def test_many_items_are_deleted_in_several_requests(keyed_server, monkeypatch):
    from fashion import client as module

    monkeypatch.setattr(module, "LONGEST_QUERY", 60)
    client = Client(keyed_server.url, "open-sesame")
    before = client.index()["version"]
    answer = client.delete(*(f"{label}/{at}.png" for label in ("hat", "dress") for at in range(3)), "nobody")
    assert [one["status"] for one in answer["items"]] == ["deleted"] * 6 + ["unknown"]
    assert client.index()["items"] == 12
    assert answer["catalog_version"] == client.index()["version"] > before + 1


def test_many_items_are_added_and_changed_in_several_requests(keyed_server, monkeypatch):
    from fashion import client as module

    client = Client(keyed_server.url, "open-sesame")
    large = saved("PNG", (200, 200), compress_level=0)  # 120 KB: two of them are more than this server reads at once
    monkeypatch.setattr(module, "LONGEST_BODY", 180_000)
    before = client.index()["version"]
    answer = client.add({**{f"large{at}": large for at in range(2)}, **{f"small{at}": jpeg() for at in range(40)}})
    assert [one["status"] for one in answer["items"]] == ["added"] * 42
    assert len({one["id"] for one in answer["items"]}) == 42
    assert answer["catalog_version"] == client.index()["version"] == before + 3
    answer = client.update({**{f"nobody{at}": {"price": 1} for at in range(1000)}, "small39": {"price": 2}})
    assert [one["status"] for one in answer["items"]] == ["unknown"] * 1000 + ["changed"]


def test_each_name_to_delete_has_a_status_in_the_order_sent(keyed_server):
    names = ["zz", "hat/0.png", "zz", "hat/0.png", "hat/1.png"]
    answer = httpx.delete(f"{keyed_server.url}/v1/items", params={"external_id": names}, headers=KEY).json()
    assert [one["external_id"] for one in answer["items"]] == names
    assert [one["status"] for one in answer["items"]] == ["unknown", "deleted", "unknown", "deleted", "deleted"]
    assert Client(keyed_server.url).index()["items"] == 16


def test_changes_are_not_read_from_the_address(keyed_server):
    changes = {"POST": item("a"), "PATCH": {"external_id": "hat/0.png", "columns": {"price": 1}}}
    for method, change in changes.items():
        url = f"{keyed_server.url}/v1/items?price=2"
        answer = httpx.request(method, url, json={"items": [change]}, headers=KEY)
        assert answer.status_code == 422
        assert "price: send it in the request's body" in answer.json()["error"]["message"]
    assert Client(keyed_server.url).index()["version"] == 1


def test_columns_are_changed_without_a_picture(keyed_server):
    client = Client(keyed_server.url, "open-sesame")
    before = client.index()["version"]
    answer = client.update({"hat/0.png": {"price": 30}, "nobody": {"price": 1}})
    assert [one["status"] for one in answer["items"]] == ["changed", "unknown"]
    assert answer["catalog_version"] == before + 1
    (hit,) = client.search(jpeg(), filter="price = 30")["hits"]
    assert hit["payload"]["external_id"] == "hat/0.png"
    numbered = client.update({"nobody": {"size": 1}, "hat/0.png": {"size": "L", "product_id": 123}})["items"]
    assert [one["status"] for one in numbered] == ["unknown", "changed"]  # who is unknown decides no type
    assert client.search(jpeg(), k=1, filter="size = 'L'")["hits"][0]["payload"]["product_id"] == "123"
    assert client.add({"new": jpeg()}, {"new": {"product_id": 5}})["items"][0]["status"] == "added"
    changes = {"hat/0.png": {"path": "/etc/passwd"}, "hat/1.png": {"price": "cheap"}, "hat/2.png": {"price": 5}}
    statuses = client.update(changes)["items"]
    assert [one["status"] for one in statuses] == ["refused", "refused", "changed"]
    assert "path of 'hat/0.png' cannot be set" in statuses[0]["message"]
    assert "'cheap'" in statuses[1]["message"]
    with pytest.raises(FashionError, match="401"):
        Client(keyed_server.url).update({"hat/0.png": {"price": 30}})


def test_another_writer_is_told_of_without_where_and_who(keyed_server):
    body = {"items": [item("a")]}
    with Store(keyed_server.catalog).writer():
        answers = [
            httpx.post(f"{keyed_server.url}/v1/items", json=body, headers=KEY),
            httpx.delete(f"{keyed_server.url}/v1/items?external_id=hat/0.png", headers=KEY),
        ]
    for response in answers:
        assert (response.status_code, response.json()["error"]["code"]) == (503, "catalog_busy")
        assert int(response.headers["retry-after"]) >= 1
        assert str(keyed_server.catalog) not in response.text
    assert stored(keyed_server) == 0


def test_a_catalogue_of_another_model_is_said_once_and_shown(served_folder):
    service = make_service(served_folder, None, Settings())
    old = service.catalog.version
    stranger = Catalog.open(served_folder)
    stranger.fingerprint = "another"
    stranger.write(served_folder)
    with pytest.raises(FashionError, match="another"):
        service.reload()
    assert not service.reload()  # it is not read again every second
    assert (service.catalog.version, service.unused_version) == (old, old + 1)
    with Store(served_folder).writer():
        Store(served_folder).use(old)
    assert not service.reload()
    assert service.unused_version is None


def deletion(service: Service, *names: str) -> list[str]:
    answer = asyncio.run(changed(service, "here", lambda engine: deleted(engine, service, names)))
    return [one.status for one in answer.items]


def test_a_change_after_a_rollback_need_not_wait_for_the_watch(served_folder):
    service = make_service(served_folder, None, Settings())
    stranger = Catalog.open(served_folder)
    stranger.fingerprint = "another"
    stranger.write(served_folder)
    with pytest.raises(OtherModelError):
        deletion(service, "hat/0.png")
    with pytest.raises(ApiError, match="newer version 2"):
        deletion(service, "hat/0.png")
    with Store(served_folder).writer():
        Store(served_folder).use(1)
    assert deletion(service, "hat/0.png") == ["deleted"]


def test_a_change_sees_what_others_wrote_and_reads_the_catalogue_no_more_than_it_must(
    served_folder, bundle, monkeypatch
):
    service = make_service(served_folder, None, Settings())
    opened = Mock(side_effect=Catalog.open)
    monkeypatch.setattr(Catalog, "open", opened)
    assert deletion(service, "hat/9.png") == ["unknown"]
    assert opened.call_count == 0
    assert deletion(service, "hat/0.png", "hat/9.png") == ["deleted", "unknown"]
    assert opened.call_count == 1
    delete_items(VisualSearchEngine(bundle, served_folder), service.store, ["hat/1.png"])
    assert deletion(service, "hat/1.png") == ["unknown"]
    assert service.catalog.version == 3


def test_a_version_that_is_still_being_copied_is_taken_up_when_it_is_whole(served_folder, tmp_path):
    service = make_service(served_folder, None, Settings())
    Catalog.open(served_folder).write(served_folder)
    version = Store(served_folder).current()
    assert version is not None
    whole = version.rename(tmp_path / "whole")
    for names, words in (
        ((), "is no catalogue"),
        (("items.parquet", "embeddings.npy"), "is no catalogue"),
        (("manifest.json",), "index.faiss is missing"),
    ):
        version.mkdir(exist_ok=True)
        for name in names:
            shutil.copy2(whole / name, version)
        with pytest.raises(FashionError, match=words):
            service.reload()
        assert service.unused_version == 2
        assert not service.reload()
    shutil.copy2(whole / "index.faiss", version)
    assert service.reload()
    assert (service.catalog.version, service.unused_version) == (2, None)


def test_another_catalogue_of_the_same_version_number_is_taken_up(served_folder, bundle, tmp_path):
    service = make_service(served_folder, None, Settings())
    engine, fresh = VisualSearchEngine(bundle), Store(tmp_path / "next")
    with fresh.writer():
        engine.sync(engine.list_folder(write_pictures(tmp_path / "skirts", {".": {"skirt": 4}})), fresh)
    served_folder.rename(tmp_path / "old")
    fresh.folder.rename(served_folder)
    for name in ("", "manifest.json"):  # as an image whose files all have one time
        shutil.copystat(tmp_path / "old/versions/000001" / name, served_folder / "versions/000001" / name)
    assert service.reload()
    assert (service.catalog.version, len(service.catalog)) == (1, 4)
    assert not service.reload()
    served_folder.rename(tmp_path / "next")
    shutil.copytree(tmp_path / "old", served_folder, symlinks=True)
    (served_folder / "versions/000001/items.parquet").write_bytes(b"half")
    with pytest.raises(FashionError, match=r"items.parquet is missing, truncated or altered"):
        service.reload()
    assert not service.reload()
    assert (service.unused_version, len(service.catalog)) == (1, 4)
    shutil.rmtree(served_folder)
    (tmp_path / "next").rename(served_folder)
    assert not service.reload()
    assert service.unused_version is None


def test_a_version_that_an_outage_kept_from_being_taken_up_is_tried_again(served_folder, monkeypatch):
    service = make_service(served_folder, None, Settings())
    Catalog.open(served_folder).write(served_folder)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Catalog, "open", Mock(side_effect=OutageError("Milvus does not answer")))
        with pytest.raises(OutageError):
            service.reload()
    assert service.unused_version is None
    assert service.reload()


def test_what_is_wrong_with_the_catalogue_is_not_the_requests_fault(served_folder):
    """Nor does the answer say where things lie."""
    with Server(served_folder, "server.api_key=open-sesame", "server.reload_s=60") as server:

        def refusal(status: int) -> str:
            body = {"items": [{"external_id": "hat/0.png", "columns": {"price": 1}}]}
            asked = [("PATCH", {"json": body}), ("POST", {"json": {"items": [item("a")]}})]
            asked.append(("DELETE", {"params": {"external_id": "hat/0.png"}}))
            answers = [httpx.request(how, f"{server.url}/v1/items", headers=KEY, **sent) for how, sent in asked]
            assert [answer.status_code for answer in answers] == [status] * 3
            assert not [answer for answer in answers if "/" in answer.text or ".parquet" in answer.text]
            return answers[0].json()["error"]["code"]

        table = served_folder / "current" / "items.parquet"
        content = table.read_bytes()
        table.write_bytes(content[:-1])
        assert refusal(503) == "outage"
        table.write_bytes(content)
        stranger = Catalog.open(served_folder)
        stranger.fingerprint = "another"
        stranger.write(served_folder)
        assert refusal(409) == "newer_version"
        assert not list((served_folder / "pictures").iterdir())


def test_the_most_frequent_labels_are_named_and_the_others_counted(served_folder, bundle, monkeypatch):
    monkeypatch.setattr(describing, "LABELS", 2)
    engine, store = VisualSearchEngine(bundle, served_folder), Store(served_folder)
    delete_items(engine, store, ["hat/0.png"])
    update_items(engine, store, {"dress/0.png": {"label": ""}, "dress/1.png": {"label": None}})
    service = make_service(served_folder, None, Settings())
    service.use(service.catalog)
    found = service.description
    assert (found.labels, found.distinct_labels, found.unlabelled) == ({"hat": 5, "shoes": 6}, 3, 2)


def test_where_a_milvus_lies_is_not_told(served_folder):
    service = make_service(served_folder, None, Settings())
    service.catalog.index = MilvusIndex(uri="http://root:secret@milvus.example:19530")
    found = describing.described(service.catalog, service.engine.encoder, Settings())
    assert found.index["index_type"] == "FLAT"
    assert "milvus.example" not in found.model_dump_json()


def test_a_reload_waits_for_the_change_under_way(served_folder):
    service = make_service(served_folder, None, Settings(reload_s=0.01))

    async def changing() -> None:
        async with service.running():
            async with service.writing:
                Catalog.open(served_folder).write(served_folder)
                await asyncio.sleep(0.2)
                assert service.catalog.version == 1
            async with asyncio.timeout(60):
                while service.catalog.version == 1:
                    await asyncio.sleep(0.01)
            assert service.catalog.version == 2

    asyncio.run(changing())


def test_readyz_and_the_index_tell_of_a_version_that_is_not_used(keyed_server):
    stranger = Catalog.open(keyed_server.catalog)
    stranger.fingerprint = "another"
    stranger.write(keyed_server.catalog)
    until(lambda: httpx.get(f"{keyed_server.url}/readyz").json()["unused_version"])
    ready = httpx.get(f"{keyed_server.url}/readyz").json()
    assert (ready["catalog_version"], ready["unused_version"]) == (1, 2)
    assert httpx.get(f"{keyed_server.url}/v1/index").json()["unused_version"] == 2
    assert add(keyed_server, item("a")).json()["error"]["code"] == "newer_version"


def test_a_mapped_index_stays_mapped(served_folder, bundle, monkeypatch):
    flags: list[int] = []
    read = faiss.read_index
    service = make_service(served_folder, None, Settings(), mmap=True)
    delete_items(VisualSearchEngine(bundle, served_folder), service.store, ["hat/0.png"])

    def noted(path: str, flag: int = 0) -> faiss.Index:
        flags.append(flag)
        return read(path, flag)

    monkeypatch.setattr(faiss, "read_index", noted)
    assert service.reload()
    service.take(service.catalog)
    assert flags == [faiss.IO_FLAG_MMAP_IFC] * 2


def test_the_key_is_written_nowhere(keyed_server):
    """It was given on the command line."""
    written = [path for path in keyed_server.catalog.parent.rglob("*") if path.is_file()]
    assert not [path for path in written if b"open-sesame" in path.read_bytes()]


def test_who_hangs_up_after_a_refusal_hears_it_first(keyed_server):
    """urllib closes its connections: an answer before its request was read would be lost in the reset."""
    large = bytes(3_000_000)
    for client in (Client(keyed_server.url), Client(keyed_server.url, "open-sesame")):
        with pytest.raises(FashionError, match="answered 413: The request is larger than 0.2 MB"):
            client.search(large)
        assert "answered 413" in client.add({"a": large})["items"][0]["message"]


def test_a_new_picture_leaves_the_columns(keyed_server):
    client = Client(keyed_server.url, "open-sesame")
    client.add({"a": jpeg("hat"), "b": jpeg("hat")}, {"a": {"price": 3, "label": "hat"}})
    before = client.item("a")
    changed = client.update({"b": {"price": 4}}, {"a": jpeg("dress"), "b": b"no picture", "nobody": jpeg()})["items"]
    assert [(one["external_id"], one["status"]) for one in changed] == [
        ("b", "refused"), ("a", "changed"), ("nobody", "unknown")
    ]  # fmt: skip
    after = client.item("a")
    assert (after["id"], after["label"], after["payload"]) == (before["id"], "hat", before["payload"])
    assert after["image_url"] != before["image_url"]
    assert client.search(jpeg("dress"), k=1)["hits"][0]["id"] == after["id"]
    assert "price" not in client.item("b")["payload"]
    assert stored(keyed_server) == 3  # with a's former one, for rollback
    client.add({"a": jpeg("dress")})
    assert client.item("a")["payload"] == {"external_id": "a"}  # a replacement is whole
    empty = httpx.patch(f"{keyed_server.url}/v1/items", json={"items": [{"external_id": "a"}]}, headers=KEY)
    assert (empty.status_code, "columns, an image" in empty.text) == (422, True)
    many = [{"external_id": "a", "image": "x"}] * 33
    assert httpx.patch(f"{keyed_server.url}/v1/items", json={"items": many}, headers=KEY).status_code == 422


def test_an_item_refused_for_its_picture_gives_a_new_column_no_type(keyed_server):
    client = Client(keyed_server.url, "open-sesame")
    columns = {"hat/0.png": {"fresh": "t"}, "hat/1.png": {"fresh": 5}, "hat/2.png": {"fresh": "u"}}
    pictures = {"hat/0.png": b"no picture", "hat/1.png": jpeg(), "hat/2.png": jpeg()}
    statuses = client.update(columns, pictures)["items"]
    assert [one["status"] for one in statuses] == ["refused", "changed", "refused"]
    assert "not a picture" in statuses[0]["message"]
    assert "'u' in the column 'fresh' (number)" in statuses[2]["message"]
    assert client.item("hat/1.png")["payload"]["fresh"] == 5
    assert stored(keyed_server) == 1  # of what is refused none stays


def test_pictures_that_have_moved_are_missed(bundle, run_here, tmp_path, caplog):
    async def start(service: Service) -> None:
        async with service.running():
            pass

    shop = write_pictures(tmp_path / "shop", {".": {"dress": 8, "hat": 8}})
    run_here("task=index", f"encoder={bundle}", f"pictures={shop}", "catalog=c")
    for _ in range(6):
        next(shop.glob("*/*.png")).unlink()  # a few
    asyncio.run(start(make_service("c", None, Settings())))
    assert "missing" not in caplog.text
    shop.rename(tmp_path / "moved")
    service = make_service("c", None, Settings())
    asyncio.run(start(service))
    assert "12 of 12 pictures that were looked for are missing" in caplog.text
    assert f"new place in it: python run.py task=index pictures={shop} catalog=c" in caplog.text
    run_here("task=index", "pictures=moved", "catalog=c")
    assert json.loads((tmp_path / "out/metrics.json").read_text())["metrics"]["embedded"] == 0
    caplog.clear()
    assert service.reload()
    assert "missing" not in caplog.text


def test_a_current_version_that_vanishes_has_no_number(served_folder):
    service = make_service(served_folder, None, Settings())
    aside = (served_folder / "current").rename(served_folder / "aside")
    with pytest.raises(FashionError, match="has lost the link that says which version"):
        service.reload()
    assert service.unused_version is None
    aside.rename(served_folder / "current")
    assert not service.reload()
