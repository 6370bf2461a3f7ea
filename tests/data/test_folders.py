import os
from pathlib import Path

import pytest

from fashion.data.folders import find_pictures
from fashion.errors import FashionError


def test_names_that_are_no_text_are_said(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    with pytest.raises(FashionError, match="name that is not UTF-8"):
        find_pictures(tmp_path)


def test_pictures_are_found_sorted_and_hidden_ones_left_out(tmp_path: Path):
    for name in ("b/2.jpg", "a/1.PNG", ".cache/3.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in find_pictures(tmp_path)] == ["a/1.PNG", "b/2.jpg"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FashionError, match="holds no pictures"):
        find_pictures(tmp_path / "empty")
    with pytest.raises(FashionError, match="no such folder"):
        find_pictures(tmp_path / "nowhere")


def written(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_jpegs_are_read_under_all_their_suffixes(tmp_path):
    names = ["1.jpg", "2.JPEG", "3.jpe", "4.jfif"]
    assert [path.name for path in find_pictures(written(tmp_path, *names))] == names


def test_files_that_are_not_read_are_mentioned_in_one_line(tmp_path, caplog):
    caplog.set_level("INFO")
    written(tmp_path, "a/1.jpg", "a/2.avif", "3.AVIF", "4.heic", "5", ".DS_Store", ".git/6.heic")
    find_pictures(tmp_path)
    assert caplog.messages == [f"{tmp_path}: files of kinds that are not read: 2 .avif, 1 .heic, 1 without a suffix"]
    caplog.clear()
    find_pictures(written(tmp_path / "many", "1.jpg", *(f"1.{kind}" for kind in "abcdefg")))
    assert caplog.messages[0].endswith("read: 1 .a, 1 .b, 1 .c, 1 .d, 1 .e, 2 others")
    caplog.clear()
    find_pictures(written(tmp_path / "plain", "1.jpg"))
    assert not caplog.messages


def test_what_runs_wrote_is_left_out_unless_it_is_named(tmp_path, caplog):
    caplog.set_level("INFO")
    written(tmp_path, "a.jpg", "outputs/search/1/.hydra/config.yaml", "outputs/search/1/results.png")
    written(tmp_path / "outputs/sweep", "multirun.yaml", "recall.png", "0/.hydra/config.yaml", "0/report/curves.png")
    written(tmp_path / "dress", "b.jpg", ".hydra/notes.txt")
    assert find_pictures(tmp_path) == [tmp_path / "a.jpg", tmp_path / "dress/b.jpg"]
    assert f"Left out, as runs or sweeps wrote what is there: {tmp_path}/outputs/search/1 and 1 more" in caplog.text
    run = tmp_path / "outputs/search/1"
    assert find_pictures(run) == [run / "results.png"]


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path):
    for name in ("disk/a.jpg", "disk/deep/b.jpg", "shop/hat/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shop = tmp_path / "shop"
    for link, target in {"dress": "disk", "coat": "disk", "hat/up": "shop", "gone": "nowhere"}.items():
        (shop / link).symlink_to(tmp_path / target)
    (tmp_path / "disk/deep/back").symlink_to(tmp_path / "disk")
    (shop / "catalog/versions").mkdir(parents=True)
    (shop / "catalog/current").symlink_to("versions/000001")
    (shop / "catalog/pictures").mkdir()
    (shop / "catalog/pictures/added.jpg").touch()  # it is an item already
    written(shop / "copied", "versions/000001/manifest.json", "pictures/added.jpg")  # a copy that lost its links
    found = [path.relative_to(shop).as_posix() for path in find_pictures(shop)]
    assert found == ["coat/a.jpg", "coat/deep/b.jpg", "dress/a.jpg", "dress/deep/b.jpg", "hat/c.jpg"]


def test_what_may_not_be_read_is_left_out_with_a_warning(tmp_path: Path, monkeypatch, caplog):
    for name in ("a.jpg", "private/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "private/b.jpg")
    is_file = Path.is_file

    def allowed(path: Path) -> bool:  # for root everything is
        if "private" in os.path.realpath(path):
            raise PermissionError
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", allowed)
    assert find_pictures(tmp_path) == [tmp_path / "a.jpg"]
    assert f"{tmp_path / 'link.jpg'} may not be read; it is left out." in caplog.text
