import contextlib
import csv
import errno
import functools
import gzip
import http.server
import io
import shutil
import socket
import tarfile
import threading
import time
import zipfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from helpers import at_once, slowed, write_pictures
from pyarrow import parquet

from fashion.data import archives, download
from fashion.data.folders import find_pictures
from fashion.data.sources import Item, read_source
from fashion.data.splitting import all_judged
from fashion.errors import FashionError


def packed(folder: Path, target: Path) -> Path:
    """An archive in the layout of GitHub's: one folder on top."""
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w") as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, Path("repo-123") / path.relative_to(folder))
    else:
        with tarfile.open(target, "w:gz") as archive:
            archive.add(folder, "repo-123")
    return target


def names(source) -> set[tuple[str, str, str]]:
    return {(item.path, item.label, item.split) for item in source.items}


def test_folder_archive_and_file_url_are_the_same_source(pictures, tmp_path):
    folder = read_source("folder", str(pictures), cache=tmp_path)
    assert folder.class_names == ("dress", "hat", "shoes")
    assert len(folder.split("train")) == 36
    for name in ("a.tar.gz", "a.zip"):
        archive = packed(pictures, tmp_path / name)
        assert names(read_source("folder", str(archive), cache=tmp_path / "c")) == names(folder)
        assert names(read_source("folder", archive.as_uri(), cache=tmp_path / "c")) == names(folder)


def test_a_folder_without_splits_is_split_stably(tmp_path):
    root = write_pictures(tmp_path / "p", {".": {"dress": 60, "hat": 60}})
    source = read_source("folder", str(root), cache=tmp_path, validation_fraction=0.2)
    share = len(source.split("validation")) / 120
    assert 0.1 < share < 0.3
    (root / "dress" / "0.png").unlink()
    assert names(read_source("folder", str(root), cache=tmp_path, validation_fraction=0.2)) < names(source)


def test_an_empty_source_is_not_the_current_folder(tmp_path):
    """As of `data.source=$SHOP`, where SHOP is not set."""
    for kind in ("folder", "table"):
        with pytest.raises(FashionError, match=r"data\.source is not set"):
            read_source(kind, "", cache=tmp_path)


def test_classes_choose_and_order(pictures, tmp_path):
    source = read_source("folder", str(pictures), cache=tmp_path, classes=["shoes", "dress"])
    assert source.class_names == ("shoes", "dress")
    assert {item.label for item in source.items} == {"shoes", "dress"}
    with pytest.raises(FashionError, match="'gloves'"):
        read_source("folder", str(pictures), cache=tmp_path, classes=["gloves"])


def test_an_accent_is_the_same_however_it_is_written(tmp_path):
    """A Mac's folders have the letter and its accent apart."""
    one, apart = "\u00e9t\u00e9 robe", "e\u0301te\u0301 robe"
    root = write_pictures(tmp_path / "p", {".": {"hat": 2, "dress": 2}})
    (root / "dress").rename(root / apart)
    (root / "t.csv").write_text(f"path,label\n{apart}/0.png,{one}\n{apart}/1.png,{apart}\n", encoding="utf-8")
    for kind, source in (("folder", root), ("table", root / "t.csv")):
        for name in (one, apart):
            found = read_source(kind, str(source), cache=tmp_path, classes=[name])
            assert (found.class_names, len(found.items)) == ((one,), 2)
            assert all((root / item.path).is_file() for item in found.items)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables(pictures, tmp_path, kind):
    rows = [
        {"path": "train/dress/0.png", "label": "dress", "split": "train", "product_id": "7", "bbox": "1 2 30 40"},
        {"path": "train/hat/0.png", "label": "hat", "split": "val", "product_id": "8", "bbox": ""},
    ]
    table = pictures / f"items.{kind}"
    if kind == "csv":
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        parquet.write_table(pa.Table.from_pylist(rows), table)
    dress, hat = read_source("table", str(table), cache=tmp_path).items
    assert (dress.box, hat.box) == ((1, 2, 30, 40), None)
    assert (dress.extra["product_id"], hat.split) == ("7", "validation")


def test_each_class_is_trained_and_judged_where_it_can_be(tmp_path):
    root = write_pictures(tmp_path / "p", {".": {"dress": 14, "hat": 2, "shoes": 1}})
    found = read_source("folder", str(root), cache=tmp_path)
    count = Counter((item.label, item.split) for item in found.items)
    assert (count["hat", "train"], count["hat", "validation"], count["shoes", "train"]) == (1, 1, 1)
    assert count["dress", "validation"] >= 1


def test_each_class_of_a_table_is_trained_and_judged_by_whole_groups(tmp_path):
    """`both` stands in two classes, and `lone` is all that its class has."""
    groups = [("hat", f"h{at}") for at in range(2)] + [("dress", f"d{at}") for at in range(2)]
    groups += [("dress", "both"), ("hat", "both"), ("coat", "lone")]
    for column in ("group", "product_id"):
        for salt in range(40):  # whatever their hashes say
            rows = [f"{label}{group}{n}.png,{label},{group}-{salt}" for label, group in groups for n in range(3)]
            (tmp_path / "t.csv").write_text("\n".join([f"path,label,{column}", *rows]))
            items = read_source("table", str(tmp_path / "t.csv"), cache=tmp_path).items
            assert {(item.label, item.split) for item in items} == {
                ("hat", "train"), ("hat", "validation"), ("dress", "train"), ("dress", "validation"), ("coat", "train"),
            }  # fmt: skip
            assert len({(item.group, item.split) for item in items}) == len({item.group for item in items})


def test_a_table_without_splits_is_split_by_groups(tmp_path):
    rows = "".join(f"{number}.png,hat,{number // 4}\n" for number in range(400))
    (tmp_path / "t.csv").write_text(f"path,label,group\n{rows}")
    found = read_source("table", str(tmp_path / "t.csv"), cache=tmp_path)
    assert 30 <= len(found.split("validation")) <= 90
    assert all(len({item.split for item in found.items[at : at + 4]}) == 1 for at in range(0, 400, 4))
    (tmp_path / "u.csv").write_text("path,label,split\na.png,hat,TRAIN\n")
    assert read_source("table", str(tmp_path / "u.csv"), cache=tmp_path).items[0].split == "train"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,split\na.png,train\n", "lacks the column label; it has path, split"),
        ("picture;label\na.png;hat\n", "lacks the column path; it has picture, label"),
        ("path,label,split\n", "holds no rows"),
        ("path,label,split\n../a.png,hat,train\n", "row 1: ../a.png lies outside"),
        ("path,label,split\na/../../a.png,hat,train\n", "row 1: a/../../a.png lies outside"),
        ("path,label,split\n/etc/a.png,hat,train\n", "row 1: /etc/a.png lies outside"),
        ("path,label,split\na.png,hat,trian\n", "'trian'"),
        ("path,label,split\na.png,,train\n", "row 1"),
        ("path,label\n,hat\n", "row 1: path ''"),
    ],
)
def test_malformed_tables_are_refused(tmp_path, text, words):
    (tmp_path / "items.csv").write_text(text)
    with pytest.raises(FashionError, match=words):
        read_source("table", str(tmp_path / "items.csv"), cache=tmp_path)


def test_paths_of_a_table_may_lead_through_links(tmp_path):
    (tmp_path / "disk").mkdir()
    shop = tmp_path / "shop"
    shop.mkdir()
    (shop / "images").symlink_to(tmp_path / "disk")
    (tmp_path / "link").symlink_to(shop)
    names = ["images/a.png", "images/../b.png", f"{shop}/images/c.png", f"{tmp_path}/link/d.png"]
    (shop / "t.csv").write_text("path,label\n" + "".join(f"{name},hat\n" for name in names))
    for table in (shop / "t.csv", tmp_path / "link" / "t.csv"):
        found = [item.path for item in read_source("table", str(table), cache=tmp_path).items]
        assert found == [*names[:2], "images/c.png", "d.png"]


def test_missing_sources_are_named(tmp_path):
    with pytest.raises(FashionError, match=r"nowhere does not exist"):
        read_source("folder", str(tmp_path / "nowhere"), cache=tmp_path)
    with pytest.raises(FashionError, match="no such table"):
        read_source("table", str(tmp_path / "no.csv"), cache=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FashionError, match="holds no pictures"):
        read_source("folder", str(tmp_path / "empty"), cache=tmp_path)


@pytest.mark.parametrize("name", ["a.tar.gz", "a.zip"])
def test_a_corrupt_archive_is_refused_and_leaves_nothing(pictures, tmp_path, name):
    archive = packed(pictures, tmp_path / name)
    archive.write_bytes(archive.read_bytes()[:-2000])
    with pytest.raises(FashionError, match=f"{name} is damaged"):
        read_source("folder", str(archive), cache=tmp_path / "c")
    assert not list((tmp_path / "c" / "extracted").iterdir())


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.xz", "tar.bz2", "zip"])
def test_an_archive_with_a_hole_is_refused(pictures, tmp_path, ending):
    """A damaged header looks like the archive's end to tarfile, and pictures after it would be missing silently."""
    archive = tmp_path / f"a.{ending}"
    if ending == "zip":
        packed(pictures, archive)
    else:
        with tarfile.open(archive, f"w:{ending.partition('.')[2]}") as tar:
            tar.add(pictures, "repo-123")
    content = archive.read_bytes()
    with tarfile.open(archive) if ending == "tar" else contextlib.nullcontext() as tar:
        at = len(content) // 2 if tar is None else tar.getmembers()[30].offset
    archive.write_bytes(content[:at] + bytes(50) + content[at + 50 :])
    with pytest.raises(FashionError, match=r"is damaged"):
        read_source("folder", str(archive), cache=tmp_path / "c")
    if ending == "tar":
        archive.write_bytes(content[:at])  # cut off where a member would begin
        with pytest.raises(FashionError, match="breaks off"):
            read_source("folder", str(archive), cache=tmp_path / "c")


def test_archives_of_untidy_tools_are_read(pictures, tmp_path):
    """Without the empty blocks at the end, or with something after it: the check sum says that all is there."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        tar.add(pictures, "repo-123")
        end = tar.offset
    whole = plain.getvalue()
    for name, content in {"cut": gzip.compress(whole[:end]), "more": gzip.compress(whole) + b"x" * 9}.items():
        archive = tmp_path / f"{name}.tar.gz"
        archive.write_bytes(content)
        assert len(read_source("folder", str(archive), cache=tmp_path / name).items) == 57


def test_what_macos_packs_beside_a_folder_is_no_class(pictures, tmp_path):
    shutil.make_archive(str(tmp_path / "mac"), "zip", tmp_path, "pictures")
    with zipfile.ZipFile(tmp_path / "mac.zip", "a") as zipped:
        zipped.writestr("__MACOSX/pictures/._train", b"notes")
        zipped.writestr(".DS_Store", b"notes")
    assert read_source("folder", str(tmp_path / "mac.zip"), cache=tmp_path / "c").class_names == (
        "dress",
        "hat",
        "shoes",
    )


def test_a_full_disk_is_blamed_on_the_disk(server, pictures, tmp_path, monkeypatch):
    served, _, address = server
    packed(pictures, served / "a.tar.gz")

    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", full)
        with pytest.raises(FashionError, match=r"could not be written \(No space left.*set cache_dir to a larger disk"):
            read_source("folder", str(served / "a.tar.gz"), cache=tmp_path / "c")
    monkeypatch.setattr(download, "_copy", full)
    with pytest.raises(FashionError, match=r"could not be written \(No space left.*set cache_dir to a larger disk"):
        read_source("folder", f"{address}/a.tar.gz", cache=tmp_path / "d")


def test_an_emptied_folder_is_unpacked_again(pictures, tmp_path):
    archive = packed(pictures, tmp_path / "a.tar.gz")
    source = read_source("folder", str(archive), cache=tmp_path / "c")
    shutil.rmtree(source.root)
    assert read_source("folder", str(archive), cache=tmp_path / "c") == source


def test_a_damaged_parquet_table_is_refused(tmp_path):
    path = tmp_path / "items.parquet"
    parquet.write_table(pa.table({"path": [f"{at}.jpg" for at in range(999)], "label": ["hat"] * 999}), path)
    content = bytearray(path.read_bytes())
    content[60:200] = bytes(140)
    path.write_bytes(content)
    with pytest.raises(FashionError, match="not a Parquet file"):
        read_source("table", str(path), cache=tmp_path)


def evil(kind: str, path: Path) -> Path:
    """An archive that tries to leave its folder."""
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo({"parent": "../out.txt", "absolute": "/tmp/out.txt"}.get(kind, "inside"))
        if kind in ("symlink", "hardlink"):
            member.type = tarfile.SYMTYPE if kind == "symlink" else tarfile.LNKTYPE
            member.linkname = "/etc/passwd"
        elif kind == "device":
            member.type = tarfile.CHRTYPE
        content = b"" if kind in ("symlink", "hardlink", "device") else b"x"
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", ["parent", "absolute", "symlink", "hardlink", "device"])
def test_archives_cannot_reach_outside(tmp_path, kind):
    with pytest.raises(FashionError, match="not unpacked"):
        archives.extract(evil(kind, tmp_path / "evil.tar.gz"), tmp_path / "c")
    assert not (tmp_path / "out.txt").exists()
    assert not list((tmp_path / "c").iterdir())


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tars_huge_names_are_neither_read_nor_quoted(tmp_path, form):
    for name in ("a" * 2_000_000, "/" + "a" * 500_000):
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz", format=form) as archive:
            archive.addfile(tarfile.TarInfo("first"))
            archive.addfile(tarfile.TarInfo(name))
        words = "outside its folder" if name.startswith("/") else r"header of 2,0\d\d,\d\d\d bytes"
        with pytest.raises(FashionError, match=words) as caught:
            archives.extract(tmp_path / "a.tar.gz", tmp_path / "c")
        assert len(str(caught.value)) < 1000


def test_a_header_of_negative_length_is_not_read_to_the_archives_end(tmp_path):
    member = tarfile.TarInfo("long")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, -512
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(FashionError, match="header of -512 bytes"):
        archives.extract(tmp_path / "a.tar", tmp_path / "c")


def test_archives_that_grow_too_large_are_refused(pictures, tmp_path, monkeypatch):
    archive = packed(pictures, tmp_path / "a.tar.gz")
    monkeypatch.setattr(archives, "MAX_FILES", 10)
    with pytest.raises(FashionError, match="10 files"):
        archives.extract(archive, tmp_path / "c")


def test_rows_that_name_no_picture_of_ours_say_what_to_do(tmp_path):
    for row, words in (("https://shop.example/a.jpg,hat", r"row 1: https://.* is an address; download"),
                       (",hat", r"row 1: path '', label 'hat'; each must be given\.$")):  # fmt: skip
        (tmp_path / "a.csv").write_text(f"path,label\n{row}\n")
        with pytest.raises(FashionError, match=words):
            read_source("table", str(tmp_path / "a.csv"), cache=tmp_path)
    with pytest.raises(FashionError, match=r"a\.csv is a file, .* with data=table data\.source="):
        find_pictures(tmp_path / "a.csv")


class Ranged(http.server.SimpleHTTPRequestHandler):
    """A file server that knows Range and If-Range, and can break off after some bytes, or wait before them."""

    limit: int | None = None
    wait_s = 0.0
    version: str | None = None
    asked: list[str | None]

    def do_GET(self):
        data = (Path(self.directory) / self.path.lstrip("/")).read_bytes()
        wanted = self.headers.get("Range")
        type(self).asked.append(wanted)
        time.sleep(self.wait_s)
        if self.headers.get("If-Range") not in (None, self.version):
            wanted = None
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if self.version:
            self.send_header("ETag", self.version)
        self.end_headers()
        self.wfile.write(data[start:][: self.limit])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    handler = type("Handler", (Ranged,), {"asked": []})
    served = tmp_path / "served"
    served.mkdir()
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(served))
    ) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        yield served, handler, f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()


def test_a_download_that_breaks_off_is_continued(server, pictures, tmp_path):
    served, handler, address = server
    packed(pictures, served / "a.tar.gz")
    handler.limit = 1000
    with pytest.raises(FashionError, match=r"broke off after 1,000 of|could not be downloaded"):
        read_source("folder", f"{address}/a.tar.gz", cache=tmp_path / "c")
    handler.limit = None
    source = read_source("folder", f"{address}/a.tar.gz", cache=tmp_path / "c")
    assert len(source.items) == 57
    assert handler.asked == [None, "bytes=1000-"]
    shutil.rmtree(served)
    assert read_source("folder", f"{address}/a.tar.gz", cache=tmp_path / "c") == source  # no second download


@pytest.mark.parametrize("kind", ["tar", "gztar", "xztar", "bztar", "zip"])
def test_a_download_is_what_its_content_says(server, pictures, tmp_path, kind):
    """As of addresses that end in a number, or in the name of another kind."""
    served, _, address = server
    made = shutil.make_archive(str(tmp_path / "made"), kind, pictures)
    for name in ("12345", "a.tar" if kind == "zip" else "a.zip"):
        shutil.copy(made, served / name)
        assert len(read_source("folder", f"{address}/{name}", cache=tmp_path / name).items) == 57


def test_a_tar_may_begin_with_the_sign_of_a_zip_and_other_files_are_refused(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "shop/PK\x03\x04")
    made = shutil.make_archive(str(tmp_path / "made"), "tar", tmp_path / "shop", "PK\x03\x04")
    assert len(read_source("folder", made, cache=tmp_path / "c").items) == 57
    for name in ("items.csv.gz", "table.xlsx"):
        (tmp_path / name).write_bytes(b"PK\x03\x04" if name == "table.xlsx" else b"\x1f\x8b")
        with pytest.raises(FashionError, match="is neither a folder nor an archive"):
            read_source("folder", str(tmp_path / name), cache=tmp_path / "c")


def test_a_download_that_is_no_archive_is_refused(server, tmp_path):
    served, _, address = server
    (served / "12345").write_text("<!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(FashionError, match=r"12345 is neither a folder nor an archive"):
        read_source("folder", f"{address}/12345", cache=tmp_path / "c")


@pytest.mark.parametrize("changed", [False, True])
def test_a_download_is_continued_only_while_the_servers_file_is_the_same(server, tmp_path, changed):
    served, handler, address = server
    old, new = b"a" * 5000, b"b" * 6000
    (served / "a.tar").write_bytes(old)
    handler.limit, handler.version = 1000, '"1"'
    with pytest.raises(FashionError, match=r"broke off after 1,000 of|could not be downloaded"):
        download.download(f"{address}/a.tar", tmp_path / "c")
    handler.limit = None
    if changed:
        (served / "a.tar").write_bytes(new)
        handler.version = '"2"'
    path = download.download(f"{address}/a.tar", tmp_path / "c")
    assert path.read_bytes() == (new if changed else old)
    assert handler.asked == [None, "bytes=1000-"]


def test_two_jobs_that_need_the_same_file_download_it_once(server, tmp_path):
    served, handler, address = server
    content = bytes(range(256)) * 3000
    (served / "a.tar").write_bytes(content)
    handler.wait_s = 0.3
    paths = at_once(lambda: download.download(f"{address}/a.tar", tmp_path / "c"))
    assert {path.read_bytes() for path in paths} == {content}
    assert handler.asked == [None]


def test_two_jobs_that_need_the_same_archive_unpack_it_once(pictures, tmp_path, monkeypatch):
    archive = packed(pictures, tmp_path / "a.tar.gz")
    done = slowed(monkeypatch, archives, "_unpack")
    assert len(set(at_once(lambda: archives.extract(archive, tmp_path / "c")))) == 1
    assert len(done) == 1


def test_what_answers_no_http_is_a_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            connection, _ = listening.accept()
            connection.recv(4000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n99\r\nbroken off")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/a.tar.gz"
        with pytest.raises(FashionError, match="could not be downloaded"):
            read_source("folder", address, cache=tmp_path)


def test_no_network_says_the_way_out(tmp_path):
    with pytest.raises(FashionError, match=r"could not be downloaded.*data.source.*data=synthetic"):
        read_source("folder", "http://127.0.0.1:9/a.tar.gz", cache=tmp_path)


def test_folds_of_a_folder_without_splits_are_about_equal(tmp_path):
    root = write_pictures(tmp_path / "p", {".": {"dress": 100, "hat": 100}}, size=4)
    for fraction in (0.15, 0.25):
        held = [
            len(
                read_source("folder", str(root), cache=tmp_path, validation_fraction=fraction, fold=f"{part}/4").split(
                    "validation"
                )
            )
            for part in (1, 2, 3, 4)
        ]
        assert min(held) > 25
        assert max(held) < 65


def test_folds_keep_a_group_together(tmp_path):
    root = write_pictures(tmp_path / "p", {".": {"dress": 30, "hat": 30}}, size=4)
    lines = [f"{label}/{n}.png,{label},train,{n % 10}" for label in ("dress", "hat") for n in range(30)]
    (root / "items.csv").write_text("\n".join(["path,label,split,group", *lines]))
    found = read_source("table", str(root / "items.csv"), cache=tmp_path, fold="1/3")
    held, kept = ({item.extra["group"] for item in found.split(split)} for split in ("validation", "train"))
    assert held
    assert kept
    assert not held & kept


@pytest.mark.parametrize("column", ["group", "product_id"])
def test_folds_and_splits_keep_numbered_groups_together_zero_too(tmp_path, column):
    rows = [{"path": f"{at}.jpg", "label": at % 2, "split": "train", column: at // 20} for at in range(400)]
    for name, columns in (("with.parquet", rows[0]), ("without.parquet", ("path", "label", column))):
        table = pa.Table.from_pylist([{key: row[key] for key in columns} for row in rows])
        parquet.write_table(table, tmp_path / name)
    assert read_source("table", str(tmp_path / "with.parquet"), cache=tmp_path).class_names == ("0", "1")
    for name, fold in (("with.parquet", "1/4"), ("without.parquet", None)):
        splits: dict[int, set[str]] = {}
        for item in read_source("table", str(tmp_path / name), cache=tmp_path, fold=fold).items:
            splits.setdefault(item.extra[column], set()).add(item.split)
        assert all(len(found) == 1 for found in splits.values())
        assert set().union(*splits.values()) == {"train", "validation"}


def test_split_folders_may_be_capitalised(tmp_path):
    root = write_pictures(tmp_path / "p", {"Train": {"hat": 2, "dress": 2}, "VAL": {"hat": 1}})
    source = read_source("folder", str(root), cache=tmp_path)
    assert source.class_names == ("dress", "hat")
    assert len(source.split("validation")) == 1


def test_two_folders_of_one_split_are_refused(tmp_path):
    root = write_pictures(tmp_path / "p", {"train": {"hat": 2}, "val": {"hat": 1}, "Validation": {"hat": 1}})
    with pytest.raises(FashionError, match="holds both Validation and val, which are one split"):
        read_source("folder", str(root), cache=tmp_path)


def test_training_is_a_split_beside_splits_and_a_class_beside_classes(tmp_path):
    root = write_pictures(tmp_path / "p", {"training": {"hat": 2, "dress": 2}, "testing": {"hat": 1}})
    source = read_source("folder", str(root), cache=tmp_path)
    assert (source.class_names, len(source.split("train")), len(source.split("test"))) == (("dress", "hat"), 4, 1)
    (root / "__MACOSX").mkdir()
    assert len(read_source("folder", str(root), cache=tmp_path).split("train")) == 4
    shutil.rmtree(root / "testing")
    shutil.move(root / "__MACOSX", root / ".thumbnails")
    assert read_source("folder", str(root), cache=tmp_path).class_names == ("dress", "hat")
    root = write_pictures(tmp_path / "q", {".": {"hat": 2, "dress": 2}})
    (root / "dress").rename(root / "training")
    assert read_source("folder", str(root), cache=tmp_path).class_names == ("hat", "training")


def test_folds_part_the_training_pictures(pictures, tmp_path):
    whole = read_source("folder", str(pictures), cache=tmp_path)
    parts = [read_source("folder", str(pictures), cache=tmp_path, fold=f"{part}/3") for part in (1, 2, 3)]
    held = [{item.path for item in part.split("validation")} for part in parts]
    assert all(held)
    assert sorted(path for one in held for path in one) == sorted(item.path for item in whole.split("train"))
    for part, out in zip(parts, held, strict=True):
        assert {item.path for item in part.split("train")} == {item.path for item in whole.split("train")} - out
        assert not part.split("test")


def test_no_class_loses_its_last_training_picture_to_the_validation_of_another():
    """Groups of two classes go to validation for one of them, and are missing in the training of the other."""
    for groups in (
        {"both": "hat coat", "lone": "hat"},
        {"first": "hat dress", "hats": "hat", "second": "coat dress", "coats": "coat"},
    ):
        for salt in range(60):  # whatever their hashes say
            items = [
                Item(f"{group}{label}.png", label, "train", {"group": f"{group}{salt}"})
                for group, labels in groups.items()
                for label in labels.split()
            ]
            judged = all_judged(items)
            assert {item.label for item in judged if item.split == "train"} == {item.label for item in items}
            assert {item.split for item in judged} == {"train", "validation"}
