"""Faults that were put into a dataset are found, and nothing else."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import write_pictures
from PIL import Image, ImageDraw, ImageEnhance

from fashion.data.audit import audit, copied
from fashion.data.datamodules import ImageDataModule
from fashion.data.garments import SHAPES
from fashion.data.synthetic import _cloth, product


@pytest.fixture
def drawn(tmp_path, run_here):
    """Synthetic garments as a plain folder."""
    from fashion.data.synthetic import write_dataset

    return write_dataset(tmp_path / "drawn", products=30, views=3, size=96)


def findings(tmp_path, out: str) -> dict:
    return json.loads((tmp_path / out / "audit.json").read_text())


def test_a_clean_dataset_is_clean(run_here, drawn, tmp_path):
    assert run_here("task=audit", "data=synthetic", f"data.source={drawn}", "data.drawing.products=30",
                    "data.drawing.views=3", out="clean") == 0  # fmt: skip
    summary = findings(tmp_path, "clean")["summary"]
    assert {name: summary[name] for name in ("unreadable", "flat", "duplicates", "near_duplicates")} == {
        "unreadable": 0, "flat": 0, "duplicates": 0, "near_duplicates": 0,
    }  # fmt: skip
    assert summary["pictures"] == 90


def test_damage_duplicates_and_leaks_are_found(run_here, drawn, tmp_path):
    (drawn / "dataset.json").unlink()
    (drawn / "items.csv").unlink()
    first, second, third = sorted((drawn / "train/dress").glob("*.jpg"))[:3]
    shutil.copy(first, drawn / "validation/dress/copy.jpg")
    relit = ImageEnhance.Brightness(Image.open(second)).enhance(1.15).resize((140, 140))
    relit.save(drawn / "train/dress/relit.jpg", quality=70)
    third.write_bytes(third.read_bytes()[:200])
    Image.new("RGB", (80, 80), (90, 90, 90)).save(drawn / "train/hat/flat.png")
    pairs = run_here("task=audit", "data=folder", f"data.source={drawn}", out="found")
    found = findings(tmp_path, "found")
    assert pairs == 1
    ((one, split, _, other, other_split, _, _),) = found["duplicates"]
    assert {one, other} == {f"train/dress/{first.name}", "validation/dress/copy.jpg"}
    assert {split, other_split} == {"train", "validation"}
    assert [{row[0], row[3]} for row in found["near_duplicates"]] == [
        {f"train/dress/{second.name}", "train/dress/relit.jpg"}
    ]
    assert [path for path, _ in found["unreadable"]] == [f"train/dress/{third.name}"]
    assert found["flat"] == ["train/hat/flat.png"]
    page = (tmp_path / "found/audit.html").read_text()
    for heading in ("Summary", "Classes", "Unreadable", "Duplicates", "Near-duplicates"):
        assert f"<h2>{heading}</h2>" in page


def test_products_on_white_are_near_duplicates_of_themselves_only(tmp_path):
    """Most of such a picture is flat: noise where it was saved again, and equal in all products."""
    size = 300
    for number in range(40):
        item = product(number, seed=3)
        mask = Image.new("L", (size, size))
        for shape in SHAPES[item.label](item.cut)[0]:
            points = [(size / 2 + x * size * 0.3, size / 2 + y * size * 0.3) for x, y in shape]
            ImageDraw.Draw(mask).polygon(points, fill=255)
        picture = Image.new("RGB", (size, size), "white")
        picture.paste(_cloth(item, size, np.random.default_rng(number)), mask=mask)
        for split, name, side in (("train", "own", size), ("validation", "again", 180)):
            path = tmp_path / "p" / split / item.label / f"{number}-{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.resize((side, side)).save(path, quality=85)
    images = ImageDataModule("folder", str(tmp_path / "p"), cache_dir=str(tmp_path / "c"))
    found = audit({split: images.array(split) for split in ("train", "validation")}, images.class_names)
    numbers = [frozenset(Path(path).name.partition("-")[0] for path in pair[::3][:2]) for pair in found.near_duplicates]
    assert sum(len(one) == 1 for one in numbers) == 40
    assert len({one for one in numbers if len(one) == 2}) <= 3  # 14 by the bits of the whole picture


def test_groups_on_both_sides_and_shifted_classes(run_here, pictures, tmp_path):
    rows = ["path,label,split,group"]
    for split in ("train", "validation"):
        for path in sorted((pictures / split).glob("*/*.png")):
            if split == "validation" and path.parent.name == "hat":
                continue
            group = "anna" if path.name == "0.png" else f"{split}-{path.name}"
            rows.append(f"{path.relative_to(pictures)},{path.parent.name},{split},{group}")
    (pictures / "t.csv").write_text("\n".join(rows))
    run_here("task=audit", "data=table", f"data.source={pictures / 't.csv'}", out="table")
    found = findings(tmp_path, "table")
    assert found["leaked_groups"] == ["anna"]
    assert found["shift"]["validation"] == pytest.approx(1 / 3, abs=1e-3)
    assert found["balance"]["validation"] == {"dress": 4, "hat": 0, "shoes": 4}


def test_labels_that_the_model_disagrees_with_are_shown(tmp_path):
    from fashion.data.audit import audit

    root = write_pictures(tmp_path / "p", {"train": {"dress": 4, "hat": 4}})
    array = ImageDataModule("folder", str(root), cache_dir=str(tmp_path / "c"), image_size=32).array("train")

    class Sure:
        """Names the first picture, a dress, a hat."""

        class_names = ("dress", "hat")

        def __call__(self, pictures):
            probabilities = np.eye(2, dtype=np.float32)[array.labels] * 0.98 + 0.01
            probabilities[0] = (0.03, 0.97)
            return np.random.default_rng(0).normal(size=(len(pictures), 64)).astype(np.float32), probabilities

    ((path, split, label, says, probability),) = audit({"train": array}, ("dress", "hat"), Sure()).suspicious
    assert (path, split, label, says) == (array.items[0].path, "train", "dress", "hat")
    assert probability == pytest.approx(0.97)


def test_one_picture_under_two_labels_is_told(run_here, pictures, tmp_path):
    paths = sorted(pictures.glob("train/*/*.png"))
    rows = [f"{path.relative_to(pictures)},{path.parent.name},train" for path in paths]
    rows.append("train/hat/0.png,dress,train")
    (pictures / "t.csv").write_text("\n".join(["path,label,split", *rows]))
    run_here("task=audit", "data=table", f"data.source={pictures / 't.csv'}", out="two")
    found = findings(tmp_path, "two")
    assert found["duplicates"] == [["train/hat/0.png", "train", "hat", "train/hat/0.png", "train", "dress", 1.0]]
    assert found["summary"]["duplicates_with_different_labels"] == 1
    page = " ".join((tmp_path / "two/audit.html").read_text().split())
    assert "duplicates with different labels" in page
    assert "<td>hat</td><td>train/hat/0.png</td>" in page.replace("> <", "><")


def test_every_training_notes_its_datas_audit(run_here, pictures, tmp_path):
    from helpers import SMALL

    run_here("task=classify", *SMALL, f"data.source={pictures}", "trainer=smoke", out="run")
    noted = json.loads((tmp_path / "run/metrics.json").read_text())["data_audit"]
    assert noted["pictures"] == 48
    assert noted["across_splits"] == 0


def test_copies_of_one_picture_are_pairs_with_the_first_only(tmp_path):
    root = write_pictures(tmp_path / "p", {"train": {"dress": 2, "hat": 2}})
    for number in range(40):
        shutil.copy(root / "train/dress/0.png", root / f"train/dress/copy{number}.png")
        Image.new("RGB", (40, 40), (90, 90, 90)).save(root / f"train/hat/blank{number}.png")
    images = ImageDataModule("folder", str(root), cache_dir=str(tmp_path / "c"), image_size=32)
    found = audit({"train": images.array("train")}, images.class_names)
    assert (len(found.duplicates), len(found.near_duplicates), len(found.flat)) == (40, 0, 40)


def test_there_may_be_nothing_to_see(tmp_path):
    for label in ("dress", "hat"):
        (tmp_path / "p/train" / label).mkdir(parents=True)
        Image.new("RGB", (40, 40), "grey").save(tmp_path / "p/train" / label / "blank.png")
    images = ImageDataModule("folder", str(tmp_path / "p"), cache_dir=str(tmp_path / "c"), image_size=32)
    found = audit({"train": images.array("train")}, images.class_names)
    assert (len(found.flat), found.duplicates, found.near_duplicates) == (2, [], [])


def test_a_flat_part_of_a_picture_hides_no_other_part(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(np.concatenate([noise, np.full_like(noise, 90)], axis=1)).save(tmp_path / "wide.png")
    Image.fromarray(noise).save(tmp_path / "other.png")
    rows = [
        "path,label,split,bbox",
        "wide.png,hat,train,0 0 40 40",
        "wide.png,hat,train,40 0 80 40",
        "other.png,hat,test,",
    ]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    images = ImageDataModule("table", str(tmp_path / "t.csv"), cache_dir=str(tmp_path / "c"), image_size=32)
    found = audit({split: images.array(split, 32, 1.0) for split in ("train", "test")}, images.class_names).summary()
    assert (found["flat"], found["duplicates"], found["across_splits"]) == (1, 1, 1)


def test_copies_in_another_split_are_counted_at_any_size(pictures, tmp_path):
    for number in range(2):
        shutil.copy(pictures / f"train/hat/{number}.png", pictures / f"validation/dress/copy{number}.png")
    for folder in ("train/hat", "validation/hat"):
        Image.new("RGB", (40, 40), (90, 90, 90)).save(pictures / folder / "blank.png")
    shutil.copy(pictures / "train/hat/0.png", pictures / "train/hat/again.png")
    images = ImageDataModule("folder", str(pictures), cache_dir=str(tmp_path / "c"), image_size=32)
    splits = {split: images.array(split) for split in ("train", "validation")}
    found = audit(splits, images.class_names).summary()
    assert copied(splits) == {"pictures": 53, "across_splits": 2, "leaked_groups": 0}
    assert {key: found[key] for key in copied(splits)} == copied(splits)
