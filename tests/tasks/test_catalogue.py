"""task=index and task=items, as the command line calls them."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import write_pictures

from fashion import VisualSearchEngine
from fashion.errors import FashionError
from fashion.files import sha256
from fashion.search.catalog import Catalog
from fashion.serve.pictures import store_picture


@pytest.fixture
def index(bundle, tmp_path) -> tuple[str, ...]:
    shop = write_pictures(tmp_path / "shop", {".": {"dress": 4, "hat": 4}})
    return "task=index", f"encoder={bundle}", f"pictures={shop}", "catalog=c"


@pytest.mark.parametrize("kind", ["hnsw", "auto"])
def test_a_catalogue_keeps_its_index_unless_another_is_named(run_here, index, tmp_path, kind, caplog):
    caplog.set_level("INFO")
    run_here(*index, f"index={kind}")
    run_here(*index)
    assert f"The index stays {kind}" in caplog.text
    assert Catalog.open("c").version == 1  # nothing changed, so nothing was written
    (tmp_path / "shop/hat/0.png").unlink()
    run_here(*index)
    assert Catalog.open("c").asked["kind"] == kind
    run_here("task=items", "catalog=c", "delete=hat/1.png")
    assert Catalog.open("c").asked["kind"] == kind
    run_here(*index, "index=flat")
    assert Catalog.open("c").asked == {"kind": "flat"}
    assert "index" in json.loads(Path("out/metrics.json").read_text())


def test_a_catalogue_keeps_its_model_unless_another_is_named(run_here, index, tmp_path):
    run_here(*index)
    (tmp_path / "shop/hat/0.png").unlink()
    pictures = index[2]
    assert run_here("task=index", pictures, "catalog=c") == 7
    assert run_here("task=index", pictures, "catalog=c", "rebuild=true") == 7
    assert Catalog.open("c").model == Path(index[1].removeprefix("encoder="))
    with pytest.raises(FashionError, match="leave encoder out, or make the catalogue anew"):
        run_here("task=index", pictures, "catalog=c", "encoder=pretrained")


def test_the_source_is_the_truth_for_its_items(run_here, index, tmp_path, caplog):
    caplog.set_level("INFO")
    run_here(*index)
    run_here("task=items", "catalog=c", f"add={tmp_path}/shop/hat/0.png", "external_id=123")
    assert "the next task=index undoes this" not in caplog.text
    for change in (("update=hat/0.png", "+columns.price=3"), ("delete=hat/1.png",)):
        caplog.clear()
        run_here("task=items", "catalog=c", *change)
        assert "the next task=index undoes this" in caplog.text
    run_here(*index)
    items = {item["external_id"]: item for item in Catalog.open("c").items.to_pylist()}
    assert "hat/1.png" in items
    assert items["hat/0.png"].get("price") is None
    assert run_here("task=items", "catalog=c", "delete=123") == 8


def test_folders_are_labels_and_a_filter_that_nothing_passes_is_said(run_here, bundle, tmp_path, caplog):
    caplog.set_level("INFO")
    shop = write_pictures(tmp_path / "my shop", {".": {"skirt": 3, "hat": 2}})  # skirt: no class of the model
    run_here("task=index", f"encoder={bundle}", f"pictures='{shop}'", "catalog='my catalog'")
    assert Catalog.open("my catalog").items["label"].to_pylist() == ["hat"] * 2 + ["skirt"] * 3
    assert "task=search \"catalog='my catalog'\" query=PICTURE" in caplog.text
    picture = f"query='{shop}/hat/0.png'"
    run_here("task=search", "catalog='my catalog'", picture, "filter='label = \\'robe\\''")
    assert "No item passes the filter label = 'robe'" in caplog.text
    with pytest.raises(FashionError, match="query=PICTURE or like=ITEM, not both"):
        run_here("task=search", "catalog='my catalog'", picture, "like=1")
    with pytest.raises(FashionError, match="not both"):
        run_here("task=export", "catalog='my catalog'", f"encoder={bundle}")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("task=items", "catalog=c", "update=hat/0.png", "external_id=A1", "+columns.price=3"),
            "names an item that is",
        ),
        (
            ("task=items", "catalog=c", "delete=hat/0.png", "external_id=A1"),
            "external_id=… names an item that is added",
        ),
        (
            ("task=items", "catalog=c", "delete=hat/0.png", "+columns.price=3"),
            r"no columns; leave out columns\.price\.",
        ),
        (
            ("task=items", "catalog=c", "add=shop/hat/0.png", "+columns.external_id=A1"),
            r"columns\.external_id would be",
        ),
        (("task=search", "catalog=c", "like=1", "together=true"), "together=true is for the pictures of a query"),
        (
            ("task=search", "server=http://127.0.0.1:9", "query=x.png", "catalog=c"),
            "^catalog=… would be ignored beside server=…",
        ),
        (
            ("task=search", "server=http://127.0.0.1:9", "query=x.png", "mmap=true", "encoder=pretrained"),
            r"^encoder=…, mmap=… would be ignored beside server=…; leave out encoder=…, mmap=…, or",
        ),
    ],
)
def test_options_that_would_be_ignored_are_refused(run_here, index, options, words):
    run_here(*index)
    with pytest.raises(FashionError, match=words):
        run_here(*options)
    assert Catalog.open("c").version == 1


def test_an_item_that_is_added_again_is_replaced(run_here, index, tmp_path, caplog):
    caplog.set_level("INFO")
    run_here(*index)
    for words in ("Added: A1 (id 8)", "Replaced: A1 (id 8)"):
        run_here("task=items", "catalog=c", f"add={tmp_path}/shop/hat/0.png", "external_id=A1")
        assert words in caplog.text


def test_a_picture_that_is_added_among_the_sources_becomes_its_item(run_here, index, tmp_path):
    run_here(*index)
    shop = write_pictures(tmp_path / "shop", {".": {"skirt": 2}})
    disk = write_pictures(tmp_path / "disk", {".": {"poncho": 1}})
    (shop / "linked").symlink_to(disk / "poncho")
    run_here("task=items", "catalog=c", "add=[shop/skirt/0.png,shop/linked/0.png]")
    run_here("task=items", "catalog=c", f"add={shop}/../shop/skirt/1.png")
    run_here("task=items", "catalog=c", "add=disk/poncho/0.png")
    before = dict(zip(*Catalog.open("c").items.select(["external_id", "id"]).to_pydict().values(), strict=True))
    added = ["skirt/0.png", "linked/0.png", "skirt/1.png", f"{disk}/poncho/0.png"]
    assert [before[name] for name in added] == [8, 9, 10, 11]
    assert run_here(*index) == 12
    items = {item["external_id"]: item for item in Catalog.open("c").items.to_pylist()}
    assert {name: item["id"] for name, item in items.items()} == before
    assert [items[name]["origin"] for name in added] == ["source", "source", "source", "added"]
    assert items["skirt/0.png"]["label"] == "skirt"
    with pytest.raises(FashionError, match="skirt/0.png is an item of the source already; update=skirt/0.png sets its"):
        run_here("task=items", "catalog=c", "add=shop/skirt/0.png")


def test_a_new_column_is_mentioned_as_it_may_be_misspelt(run_here, index, caplog):
    run_here(*index)
    for column, words in (
        ("price=25", "'price' is a new column of the catalogue."),
        ("prize=26", "'prize' is a new column of the catalogue; did you mean price?"),
        ("price=27", None),
    ):
        caplog.clear()
        run_here("task=items", "catalog=c", "update=hat/0.png", f"+columns.{column}")
        assert [one.getMessage() for one in caplog.records if one.levelname == "WARNING"] == ([words] if words else [])


def test_values_that_were_meant_otherwise_say_how_they_are_written(run_here, index):
    run_here(*index)
    update = ("task=items", "catalog=c", "update=hat/0.png")
    with pytest.raises(
        FashionError, match=r"""'label' is text; put the value into two quotes: \+columns\.label="'…'"."""
    ):
        run_here(*update, "+columns.label=501")
    with pytest.raises(FashionError, match=r'"\+columns=\{model\.name: …\}"'):
        run_here(*update, "+columns.model.name=x")
    run_here(*update, "+columns.label='501'")
    run_here(*update, "+columns={model.name: x}")
    run_here(*update, "+columns.product_id=7")
    item = Catalog.open("c").item(Catalog.open("c").number("hat/0.png"))
    assert (item["label"], item["model.name"], item["product_id"]) == ("501", "x", "7")


def test_a_pattern_that_matches_nothing_is_called_what_it_is(run_here, index):
    run_here(*index)
    with pytest.raises(FashionError, match=r"add=nothing\*\.jpg matches no file"):
        run_here("task=items", "catalog=c", "add=nothing*.jpg")


@pytest.mark.parametrize("query", ["~nobody-of-that-name/x.jpg", "x" * 300])
def test_what_can_be_no_path_is_said(run_here, index, query):
    run_here(*index)
    with pytest.raises(FashionError, match="is no path"):
        run_here("task=search", "catalog=c", f"query='{query}'")


def damage(name: str) -> None:
    path = Path("c", name).resolve()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FashionError, match=f"{name} is missing, truncated or altered"):
        Catalog.open("c")


@pytest.mark.parametrize("name", ["index.faiss", "embeddings.npy"])
def test_items_survive_the_loss_of_what_is_made_from_them(run_here, index, tmp_path, name):
    run_here(*index)
    run_here("task=items", "catalog=c", f"add={tmp_path}/shop/hat/0.png", "external_id=A1")
    damage(name)
    assert run_here(*index, "rebuild=true") == 9
    assert Catalog.open("c").ids.tolist() == list(range(9))
    assert VisualSearchEngine("c").search(tmp_path / "shop/hat/0.png", k=2)[0].hits[1].id == 8


@pytest.mark.parametrize("name", ["items.parquet", "manifest.json"])
def test_a_rebuild_takes_over_the_items_of_the_last_intact_version(run_here, index, tmp_path, name, caplog):
    run_here(*index)
    run_here("task=items", "catalog=c", f"add={tmp_path}/shop/hat/0.png", "external_id=A1")
    run_here("task=items", "catalog=c", f"add={tmp_path}/shop/hat/0.png", "external_id=A2")
    path = Path("c", name).resolve()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FashionError, match=r"; go back to version 2 with task=rollback version=2 .*, or make it anew"):
        Catalog.open("c")
    assert run_here("task=index", index[2], "catalog=c", "rebuild=true") == 9
    assert "Ids and added items are taken from version 2" in caplog.text
    rebuilt = Catalog.open("c")
    assert (rebuilt.ids.tolist(), rebuilt.number("A1"), rebuilt.next_id) == (list(range(9)), 8, 10)
    assert rebuilt.model == Path(index[1].removeprefix("encoder="))


def test_older_versions_are_read_once_for_messages(run_here, index, monkeypatch):
    run_here(*index)
    run_here("task=items", "catalog=c", "delete=hat/0.png")
    damage("items.parquet")
    read: list[Path] = []
    monkeypatch.setattr("fashion.search.manifest.sha256", lambda path: read.append(path) or sha256(path))
    with pytest.raises(FashionError, match="go back to version 1"):
        Catalog.open("c")
    older = Path("c/versions/000001").resolve()
    assert older not in {path.parent.resolve() for path in read}
    (older / "embeddings.npy").write_bytes(b"")
    with pytest.raises(FashionError, match="altered; make it anew"):
        Catalog.open("c")


def test_what_cannot_be_read_is_made_anew_without_using_ids_again(run_here, index, caplog):
    run_here(*index)
    damage("items.parquet")
    assert run_here(*index, "rebuild=true") == 8
    assert "Items that were added to it by task=items are lost" in caplog.text
    assert Catalog.open("c").ids.min() == 8


def test_a_lost_version_is_gone_back_from(run_here, index):
    run_here(*index)
    with pytest.raises(FashionError, match=r"c keeps no version before 1; make it anew with .* rebuild=true"):
        run_here("task=rollback", "catalog=c")
    for name in ("hat/0.png", "hat/1.png"):
        run_here("task=items", "catalog=c", f"delete={name}")
    shutil.copytree("c/versions/000003", "c/versions/000003.bak")
    for options, version in ((["version=1"], 1), ([], 2)):
        run_here("task=rollback", "catalog=c", "version=3")
        lost = Path("c/versions/000003").rename("c/aside")
        with pytest.raises(FashionError, match="lacks its current version, .* task=rollback"):
            Catalog.open("c")
        assert run_here("task=rollback", "catalog=c", *options) == version
        assert len(Catalog.open("c")) == {1: 8, 2: 7}[version]
        lost.rename("c/versions/000003")
    shutil.rmtree("c/versions")
    with pytest.raises(FashionError, match="c keeps no version before 2; make it anew"):
        run_here("task=rollback", "catalog=c")


def test_a_copy_that_lost_its_links_is_a_catalogue_still(run_here, index, tmp_path):
    run_here(*index)
    run_here("task=items", "catalog=c", f"add={tmp_path}/shop/hat/0.png", "external_id=A1")
    for path in Path("c").rglob("*"):
        if path.is_symlink():
            path.unlink()  # as rsync -r leaves it
    for options in (index, (index[0], *index[2:])):
        with pytest.raises(FashionError, match="lost the link .*; go back to version 2 with task=rollback version=2"):
            run_here(*options)
    shutil.copytree("c", "other")
    for options in ([], ["version=2"]):
        shutil.rmtree("c")
        shutil.copytree("other", "c")
        assert run_here("task=rollback", "catalog=c", *options) == 2
        assert Catalog.open("c").number("A1") == 8
    Path("other/versions/000002/items.parquet").unlink()
    with pytest.raises(FashionError, match=r"Version 2 of other is damaged; name another one \(kept: 1; after"):
        run_here("task=rollback", "catalog=other", "version=2")
    with pytest.raises(FashionError, match="lost the link .*; go back to version 1 with"):
        Catalog.open("other")
    shutil.copytree("c/versions", "again/versions")
    assert run_here(*index[:3], "catalog=again", "rebuild=true") == 9
    assert (Catalog.open("again").number("A1"), Catalog.open("again").version) == (8, 3)


def test_one_does_not_go_back_to_a_damaged_version(run_here, index, caplog):
    run_here(*index)
    for name in ("hat/0.png", "hat/1.png"):
        run_here("task=items", "catalog=c", f"delete={name}")
    Path("c/versions/000002/embeddings.npy").write_bytes(b"")
    with pytest.raises(FashionError, match="Version 2 of c is damaged; it stays at 3"):
        run_here("task=rollback", "catalog=c", "version=2")
    assert run_here("task=rollback", "catalog=c") == 1
    assert "Version 2 is damaged; it is passed over" in caplog.text
    run_here("task=rollback", "catalog=c", "version=3")
    Path("c/versions/000001/items.parquet").unlink()
    with pytest.raises(FashionError, match="c keeps no other version that is intact; it stays at 3"):
        run_here("task=rollback", "catalog=c")
    assert len(Catalog.open("c")) == 6
    Path("c/versions/000003/items.parquet").unlink()
    with pytest.raises(FashionError, match="c keeps no other version that is intact; make it anew with task=index"):
        run_here("task=rollback", "catalog=c")


def test_a_model_that_moved_is_noted_and_never_another_taken_for_it(run_here, index, bundle, tmp_path):
    shutil.copytree(bundle, "model")
    run_here("task=index", "encoder=model", index[2], "catalog=c")
    Path("model").rename("moved")
    for options in ((), ("rebuild=true",)):
        with pytest.raises(FashionError, match="model .*/model is not there any more; say where it is now: encoder="):
            run_here("task=index", index[2], "catalog=c", *options)
    run_here("task=index", "encoder=moved", index[2], "catalog=c")
    assert Catalog.open("c").model == tmp_path / "moved"
    run_here("task=index", "encoder=moved", index[2], "catalog=c")
    assert Catalog.open("c").version == 2


def test_a_catalogue_among_its_pictures_is_none_of_them(run_here, index, tmp_path):
    index = (*index[:3], f"catalog={tmp_path}/shop/c")
    run_here(*index)
    picture = store_picture((tmp_path / "shop/hat/0.png").read_bytes(), tmp_path / "shop/c/pictures")
    run_here("task=items", index[3], f"add={picture}", "external_id=A1")
    assert run_here(*index) == 9
    assert run_here("task=index", index[1], f"pictures={picture.parent}", "catalog=of_them") == 1


def test_ids_are_not_used_again_without_any_manifest(run_here, index):
    run_here(*index, "keep=1")
    Path("c/pictures").mkdir()
    Path("c/pictures/stored.jpg").write_bytes(b"of an added item")
    run_here("task=items", "catalog=c", "delete=hat/3.png")
    assert Catalog.open("c").next_id == 8
    for manifest in Path("c/versions").glob("*/manifest.json"):
        manifest.write_text("{")
    run_here(*index, "rebuild=true")
    assert Catalog.open("c").ids.tolist() == list(range(8, 16))
    assert Path("c/.pictures-lost/stored.jpg").exists()


def test_a_search_shows_what_its_filter_and_group_name(run_here, index, tmp_path, capsys):
    run_here(*index)
    for name, price in (("hat/0.png", 9.5), ("hat/1.png", 99)):
        run_here("task=items", "catalog=c", f"update={name}", f"+columns.price={price}", "+columns.product_id=P7")
    query = f"query={tmp_path}/shop/hat/0.png"
    run_here("task=search", "catalog=c", query, "filter=\"price < 50 and label = 'hat'\"", "group_by=product_id")
    printed = capsys.readouterr().out
    titles, cells = (
        [cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")]
        for line in printed.splitlines()
        if "label" in line or "9.5" in line
    )
    assert titles == ["rank", "score", "label", "price", "product_id", "item"]
    assert cells[2:] == ["hat", "9.5", "P7", "hat/0.png"]
    assert ">price</th>" in (tmp_path / "out/results.html").read_text()
