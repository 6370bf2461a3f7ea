"""What task=index and task=embed take of a source, and what they say of the rest."""

import hashlib
import json
import re
import shlex
import tarfile
from pathlib import Path

import pytest
from helpers import ROOT, write_pictures
from omegaconf import OmegaConf

from fashion import VisualSearchEngine
from fashion.errors import FashionError
from fashion.search.catalog import Catalog
from fashion.search.items import update_items
from fashion.search.remaking import made_anew
from fashion.search.store import Store
from fashion.tasks.listed import _place


@pytest.fixture
def shop(tmp_path):
    """20 pictures of each of two classes, and a table that names them without splits."""
    root = write_pictures(tmp_path / "shop", {".": {"dress": 20, "hat": 20}})
    rows = (f"{label}/{at}.png,{label}" for label in ("dress", "hat") for at in range(20))
    (root / "items.csv").write_text("\n".join(["path,label", *rows]))
    return root


@pytest.mark.parametrize(("kind", "name"), [("folder", "."), ("table", "items.csv")])
def test_all_of_a_source_without_splits_is_taken(run_here, bundle, shop, kind, name, caplog):
    caplog.set_level("INFO")
    given = (f"encoder={bundle}", f"data={kind}", f"data.source={shop / name}")
    assert run_here("task=index", *given, "catalog=c") == 40
    assert "split" not in Catalog.open("c").items.column_names
    assert run_here("task=embed", *given, "embeddings=parts") == 40
    assert "other splits" not in caplog.text
    assert "does nothing here" not in caplog.text
    run_here("task=index", *given, "catalog=c", "data.validation_fraction=0.5")
    assert f"data.validation_fraction does nothing here: {shop} is not divided." in caplog.text
    assert run_here("task=index", *given, "catalog=t", "split=train") < 40  # as training divides them


def test_pictures_in_other_splits_are_mentioned(run_here, bundle, pictures, caplog):
    caplog.set_level("INFO")
    index = ("task=index", f"encoder={bundle}", "data=folder", f"data.source={pictures}", "catalog=c")
    assert run_here(*index) == 36
    assert "21 of 57 pictures are in other splits than train; split=all takes them." in caplog.text
    assert run_here(*index, "split=all") == 57
    assert set(Catalog.open("c").items["split"].to_pylist()) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("columns", "cells", "labels"),
    [("path,price", ("1", "2"), [None, None]), ("path,label", ("", "red hat"), [None, "red hat"])],
)
def test_a_table_that_is_searched_needs_no_labels(run_here, bundle, shop, columns, cells, labels):
    table = shop / "items.csv"
    table.write_text("\n".join([columns, *(f"hat/{at}.png,{cell}" for at, cell in enumerate(cells))]))
    given = (f"encoder={bundle}", "data=table", f"data.source={table}")
    assert run_here("task=index", *given, "catalog=c") == 2
    run_here("task=embed", *given, "embeddings=parts")
    assert run_here("task=index", f"encoder={bundle}", "embeddings=parts", "catalog=joined") == 2
    for name in ("c", "joined"):
        assert Catalog.open(name).items["label"].to_pylist() == labels
    run_here("task=search", "catalog=c", f"query={shop}/hat/0.png", 'filter="label is null"')
    with pytest.raises(FashionError, match=r"lacks the column label|row 1: path 'hat/0.png', label ''"):
        run_here("task=evaluate", *given)


def test_a_table_that_is_searched_needs_paths(run_here, bundle, shop):
    (shop / "items.csv").write_text("picture;price\nhat/0.png;3\n")
    with pytest.raises(FashionError, match="lacks the column path; it has picture, price, and a table needs path and"):
        run_here("task=index", f"encoder={bundle}", "data=table", f"data.source={shop}/items.csv", "catalog=c")


def test_a_catalogue_of_ones_own_pictures_is_not_filled_with_the_default_data(run_here, bundle, shop):
    run_here("task=index", f"encoder={bundle}", f"pictures={shop}", "catalog=c")
    for options in ((), ("rebuild=true", "allow_shrink=true"), ("index=hnsw",)):
        with pytest.raises(FashionError, match=f"c is a catalogue already, .* give pictures={shop}\\."):
            run_here("task=index", "catalog=c", *options)
    assert run_here("task=index", "data=folder", f"data.source={shop}", "catalog=c") == 40
    for manifest in Path("c/versions").glob("*/manifest.json"):
        manifest.write_text("{")
    with pytest.raises(FashionError, match=r"is damaged .* rebuild=true pictures=FOLDER catalog=c \(or with the data="):
        Catalog.open("c")


@pytest.mark.parametrize(
    ("source", "ignored"),
    [
        ("pictures=shop", ["data=folder", "data.source=other"]),
        ("pictures=shop", ["data.classes=[hat]"]),
        ("pictures=shop", ["split=all"]),
        ("embeddings=parts", ["data=folder", "data.source=shop"]),
        ("embeddings=parts", ["pictures=shop"]),
        ("embeddings=parts", ["check_content=true"]),
    ],
)
def test_two_sources_at_once_are_refused(run_here, bundle, shop, source, ignored):
    name = source.partition("=")[0]
    keys = ", ".join(f"{override.partition('=')[0]}=…" for override in ignored)
    said = f"^{keys} would be ignored beside {name}=…; leave out {keys}, or leave out {name}=…\\.$"
    run_here("task=embed", f"encoder={bundle}", "pictures=shop", "embeddings=parts")
    with pytest.raises(FashionError, match=said):
        run_here("task=index", f"encoder={bundle}", source, *ignored, "catalog=c")
    assert not Path("c").exists()
    if name == "pictures":
        with pytest.raises(FashionError, match=said):
            run_here("task=embed", f"encoder={bundle}", source, *ignored)


@pytest.mark.parametrize("override", ["pictures=", "embeddings=''", "encoder=", "catalog="])
def test_an_option_without_a_value_is_refused(run_here, shop, override):
    """As of `pictures=$SHOP`, where SHOP is not set: the default data would be taken."""
    with pytest.raises(FashionError, match=f"^{override.partition('=')[0]} is empty; give it a value, or leave it out"):
        run_here("task=index", override)


def test_embeddings_are_not_written_into_a_catalogue(run_here, bundle, shop):
    run_here("task=index", f"encoder={bundle}", "pictures=shop", "catalog=c")
    with pytest.raises(FashionError, match="c is a catalogue; name another folder for the embeddings"):
        run_here("task=embed", f"encoder={bundle}", "pictures=shop", "embeddings=c")
    assert Path("c/manifest.json").is_symlink()


def command_in(said: str) -> list[str]:
    """The overrides of the rebuilding command that a message names, as a shell hands them to Hydra."""
    return shlex.split(re.search(r"task=index rebuild=true .*", said)[0].removesuffix("."))


@pytest.fixture
def table(shop):
    """The table, with a price for each picture and a name that its owner gave; the last picture is not in it."""
    rows = [f"{label}/{at}.png,{label},{label[0]}{at},{at + 5}" for label in ("dress", "hat") for at in range(20)]
    (shop / "items.csv").write_text("\n".join(["path,label,external_id,price", *rows[:-1]]))
    return shop / "items.csv"


def test_the_rebuilding_command_in_a_message_keeps_names_and_columns(run_here, bundle, table, tmp_path):
    """Also after a change by task=items, of a table that was named from elsewhere."""
    source = ("data=table", "data.source=shop/items.csv", "split=all")
    run_here("task=index", f"encoder={bundle}", *source, "catalog=c")
    run_here("task=items", "catalog=c", f"add={table.parent}/hat/19.png", "external_id=A1")
    before = Catalog.open("c").items.select(["id", "external_id", "price"]).to_pylist()
    with pytest.raises(FashionError) as caught:
        run_here("task=index", "encoder=pretrained", *source, "catalog=c")
    for name in ("index.faiss", None):
        words = command_in(str(caught.value))
        assert words[-4:-1] == ["data=table", f"data.source={table}", "split=all"]
        assert run_here(*words) == 40
        assert Catalog.open("c").items.select(["id", "external_id", "price"]).to_pylist() == before
        if name:
            Path("c", name).resolve().unlink()
            with pytest.raises(FashionError, match="or make it anew with") as caught:
                run_here("task=search", "catalog=c", "like=1")


@pytest.mark.parametrize(
    "source",
    [
        ["pictures='my shop'"],
        ["data=folder", "data.source='my shop'", "data.classes=[hat,dress]", "split=train"],
        ["data=folder", "data.source='my shop'", "data.fold=1/3"],
        ["data=synthetic", "data.drawing.products=30", "data.drawing.views=1", "data.drawing.size=16"],
    ],
)
def test_a_rebuilding_command_names_the_same_items(run_here, bundle, shop, tmp_path, source):
    shop.rename("my shop")
    run_here("task=index", f"encoder={bundle}", *source, "catalog=c")
    before = Catalog.open("c").items
    words = shlex.split(made_anew("c"))
    assert [f"='{tmp_path}/" in word for word in words if "my shop" in word] == [True] * ("my shop" in str(source))
    assert run_here(*words) == len(before)
    assert Catalog.open("c").items.equals(before)


def test_names_and_columns_are_not_lost_without_a_word(run_here, bundle, table):
    shop = table.parent
    source = ("data=table", f"data.source={table}")
    run_here("task=index", f"encoder={bundle}", *source, "catalog=c")
    said = (
        r"39 of the catalogue's 39 external ids \(such as 'd0'\) are not in the source; the source has no "
        rf"column price \(39 values\) \(the catalogue was made from data=table data.source={table} split=all\); .*"
        "add allow_shrink=true"
    )
    for options in ((), ("rebuild=true",), ("dry_run=true",)):
        with pytest.raises(FashionError, match=said):
            run_here("task=index", f"pictures={shop}", "catalog=c", *options)
    assert Catalog.open("c").version == 1
    table.write_text(table.read_text().replace(",price", ",cost").replace("d0,", "D0,"))  # one name may change
    with pytest.raises(FashionError, match=r"^the source has no column price \(39 values\)"):
        run_here("task=index", *source, "catalog=c")
    assert run_here("task=index", *source, "catalog=c", "allow_shrink=true") == 39
    assert Catalog.open("c").items["external_id"][0].as_py() == "D0"
    assert run_here("task=index", f"pictures={shop}", "catalog=c", "allow_shrink=true") == 40


def test_a_search_prints_the_paths_of_items_that_are_named_otherwise(run_here, bundle, table, capsys):
    run_here("task=index", f"encoder={bundle}", "data=table", f"data.source={table}", "catalog=c")
    run_here("task=search", "catalog=c", f"query={table.parent}/hat/7.png", "k=2")
    lines = [line.replace("┃", "│") for line in capsys.readouterr().out.splitlines() if line[0] in "┃│"]
    titles, first = ([cell.strip() for cell in line.strip("│").split("│")] for line in lines[:2])
    assert titles == ["rank", "score", "label", "item", "path"]
    assert first[3:] == ["h7", "hat/7.png"]


def test_columns_of_few_items_are_kept_where_the_source_gave_them(run_here, bundle, table):
    source = ("task=index", f"encoder={bundle}", "data=table", f"data.source={table}", "catalog=c")
    rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{rows[0]},sale", f"{rows[1]},3", *(f"{row}," for row in rows[2:])]))
    run_here(*source)
    names = Catalog.open("c").items["external_id"].to_pylist()
    update_items(VisualSearchEngine("c"), Store("c"), {name: {"note": "hello"} for name in names[:30]})
    table.write_text("\n".join(rows))
    with pytest.raises(FashionError, match=r"^the source has no column sale \(1 values\) \(the cat"):
        run_here(*source)
    table.write_text("\n".join([f"{rows[0]},sale", *(f"{row}," for row in rows[1:])]))
    run_here(*source, "dry_run=true")  # the sale has ended
    table.write_text("\n".join([f"{rows[0]},sale", *(f"{row},3" for row in rows[1:])]))
    run_here(*source)  # what an update set is the source's to undo
    assert "note" not in Catalog.open("c").items.column_names


def test_a_column_that_the_source_dropped_goes_unless_added_items_have_it(run_here, bundle, table):
    source = ("task=index", f"encoder={bundle}", "data=table", f"data.source={table}", "catalog=c")
    run_here(*source)
    run_here("task=items", "catalog=c", f"add={table.parent}/hat/19.png", "external_id=A1", "+columns.note=hello")
    rows = table.read_text().splitlines()
    table.write_text("\n".join(row.rpartition(",")[0] for row in rows))
    run_here(*source, "allow_shrink=true")
    items = Catalog.open("c").items
    assert "price" not in items.column_names
    assert items["note"].to_pylist() == [None] * 39 + ["hello"]
    run_here(*source)
    assert Catalog.open("c").version == 3
    run_here("task=items", "catalog=c", "update=A1", "+columns.price=3")
    table.write_text("\n".join(rows))
    run_here(*source)
    table.write_text("\n".join(row.rpartition(",")[0] for row in rows))
    run_here(*source, "allow_shrink=true")
    assert Catalog.open("c").items["price"].to_pylist() == [None] * 39 + [3]


def test_a_catalogue_of_before_is_made_anew_by_a_guess(run_here, bundle, shop):
    run_here("task=index", f"encoder={bundle}", f"pictures={shop}", "catalog=c")
    path = Path("c/manifest.json").resolve()
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps({name: manifest[name] for name in manifest if name not in ("made_from", "given")}))
    with pytest.raises(FashionError, match=f"rebuild=true encoder=.* pictures={shop} catalog=.*c \\(or with the data="):
        run_here("task=index", "encoder=pretrained", f"pictures={shop}", "catalog=c")
    run_here("task=index", f"pictures={shop}", "catalog=c")
    assert made_anew("c") == f"task=index rebuild=true pictures={shop} catalog=c"


@pytest.mark.parametrize("noted", ["pictures=x", ["a"], {"pictures;rm": "x"}])
def test_what_a_manifest_from_elsewhere_notes_is_no_command(run_here, bundle, table, noted):
    run_here("task=index", f"encoder={bundle}", "data=table", f"data.source={table}", "catalog=c")
    path = Path("c/manifest.json").resolve()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"made_from": noted}))
    assert made_anew("c").endswith("(or with the data=… or embeddings=… that it was made with)")
    with pytest.raises(FashionError, match=r"price \(39 values\); if that is meant"):
        run_here("task=index", f"pictures={table.parent}", "catalog=c")


def test_no_password_of_an_address_is_noted():
    assert _place("https://me:secret@shop.example/all.tar.gz?key=secret") == "https://shop.example/all.tar.gz"


def test_messages_name_the_pictures_that_a_catalogue_was_made_of(run_here, bundle, shop):
    run_here("task=index", f"encoder={bundle}", f"pictures={shop}", "catalog=c")
    with pytest.raises(FashionError, match=f"rebuild=true encoder=.* pictures={shop} catalog=.*c$"):
        run_here("task=index", "encoder=pretrained", f"pictures={shop}", "catalog=c")
    Path("c/index.faiss").resolve().unlink()
    with pytest.raises(FashionError, match=f"make it anew with task=index rebuild=true pictures={shop} catalog=c\\."):
        run_here("task=search", "catalog=c", f"query={shop}/hat/0.png")
    with pytest.raises(FashionError, match="task=index pictures=FOLDER catalog=nowhere"):
        run_here("task=search", "catalog=nowhere", f"query={shop}/hat/0.png")


def test_the_default_data_stay_the_default_of_a_catalogue_of_them(run_here, bundle, pictures, tmp_path):
    url = str(OmegaConf.load(ROOT / "conf/data/clothing.yaml").source)
    key = hashlib.sha256(url.encode()).hexdigest()[:12]
    (tmp_path / "cache/downloads").mkdir(parents=True)
    with tarfile.open(tmp_path / f"cache/downloads/{key}-{url.rpartition('/')[2]}", "w:gz") as archive:
        archive.add(pictures, "as-downloaded")
    for kind in ("flat", "hnsw"):  # as a sweep over the index does
        assert run_here("task=index", f"encoder={bundle}", "catalog=c", f"index={kind}") == 36


def test_columns_are_said_with_their_types_and_why_numbers_are_text(run_here, bundle, shop, caplog):
    caplog.set_level("INFO")
    rows = ["10,9,2026-01-31,true,7", "12,9.5,2026-02-01,false,x", '"12,50",,,,y']

    def write() -> None:
        lines = [f"hat/{at}.png,{row}" for at, row in enumerate(rows)]
        (shop / "items.csv").write_text("\n".join(["path,price,cost,since,sale,size", *lines]))

    write()
    run_here("task=index", f"encoder={bundle}", "data=table", f"data.source={shop}/items.csv", "catalog=c")
    said = (
        "price (text, because 'hat/2.png' has '12,50'), cost (number), since (date), sale (true or false), size (text)"
    )
    assert f"Columns to filter by: {said}" in caplog.messages
    with pytest.raises(FashionError, match=r"the column 'price' \(text\) with 20; use a value of its type\."):
        run_here("task=search", "catalog=c", f"query={shop}/hat/0.png", "filter='price < 20'")
    with pytest.raises(FashionError, match=r"'since' \(date\) with '31.1.2026'; use .*, such as '2026-01-31'"):
        run_here("task=search", "catalog=c", f"query={shop}/hat/0.png", "filter=\"since < '31.1.2026'\"")
    rows[2] = "12,,1.2.2026,ja,y"
    write()
    caplog.clear()
    run_here("task=index", "catalog=c", "data=table", f"data.source={shop}/items.csv")
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [
        "The column 'since' (date) is text now, because 'hat/2.png' has '1.2.2026'; filters of its former type are "
        "refused.",
        "The column 'sale' (true or false) is text now, because 'hat/2.png' has 'ja'; filters of its former type are "
        "refused.",
    ]
