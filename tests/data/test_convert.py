"""Small files in the form of In-shop's and Stanford Online Products' become tables that train and evaluate."""

import csv
import json
import shutil

import numpy as np
import pytest
from helpers import SMALL
from PIL import Image

from fashion.errors import FashionError


def draw(root, path: str, colour: tuple[int, int, int]) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path)).normal(colour, 20, (48, 40, 3)).clip(0, 255).astype(np.uint8)
    Image.fromarray(noise).save(root / path)


@pytest.fixture
def inshop(tmp_path):
    root, lines, boxes = tmp_path / "inshop", [], []
    for number in range(40):
        status = "train" if number < 28 else ("query", "gallery")[number % 2]
        item = f"id_{number // 2:08d}"
        kind, colour = (("Dresses", (200, 30, 30)), ("Tees_Tanks", (30, 30, 200)))[number // 2 % 2]
        path = f"img/WOMEN/{kind}/{item}/0{number}_1_front.jpg"
        draw(root, path, colour)
        lines.append(f"{path}   {item}   {status}")
        boxes.append(f"{path} 1 1 002 003 038 045")
    (root / "list_eval_partition.txt").write_text("\n".join(["40", "image_name item_id evaluation_status", *lines]))
    head = "image_name clothes_type pose_type x_1 y_1 x_2 y_2"
    (root / "list_bbox_inshop.txt").write_text("\n".join(["40", head, *boxes]))
    return root


def rows(path) -> list[dict]:
    return list(csv.DictReader(path.open()))


@pytest.mark.slow
def test_inshop_trains_and_is_evaluated_by_its_own_queries_and_gallery(run_here, inshop, tmp_path):
    assert run_here("task=convert", "format=inshop", f"folder={inshop}") == 40
    table = rows(inshop / "items.csv")
    assert {row["label"] for row in table} == {"women dresses", "women tees tanks"}
    assert sum(row["is_query"] == "True" for row in table) == 6
    assert {row["split"] for row in table} == {"train", "validation", "test"}
    by_product = {}
    for row in table:
        by_product.setdefault(row["product_id"], set()).add(row["split"])
    assert all(len(splits) == 1 for splits in by_product.values())
    data = ("data=table", f"data.source={inshop / 'items.csv'}", "data.image_size=32")
    small = [one for one in SMALL if not one.startswith("data")]
    run_here("task=classify", *small, *data, "data.batch_size=8", "task.epochs=2", out="run")
    run_here(
        "task=evaluate", *data, "encoder=run", "split=test", "protocols=[gallery]", "relevance=product_id", out="e"
    )
    content = json.loads((tmp_path / "e/metrics.json").read_text())
    assert content["pictures"] == 6
    assert content["metrics"]["gallery/unanswerable"] == 0  # each query's product is in the gallery


def test_inshop_as_its_archive_lays_it_out(run_here, inshop, tmp_path):
    """The lists in Eval/ and Anno/, and the pictures, whose paths begin with img/, in Img/."""
    for name, part in (("Eval", "list_eval_partition.txt"), ("Anno", "list_bbox_inshop.txt"), ("Img", "img")):
        (inshop / name).mkdir()
        (inshop / part).rename(inshop / name / part)
    for table in (inshop / "items.csv", tmp_path / "above.csv"):
        run_here("task=convert", f"folder={inshop}", f"table={table}")
        assert all((table.parent / row["path"]).is_file() for row in rows(table))
        assert {row["bbox"] for row in rows(table)} == {"002 003 038 045"}
    shutil.rmtree(inshop / "Img")
    with pytest.raises(FashionError, match=r"img/WOMEN/Dresses/.*0_1_front.jpg is not in .*inshop; unpack"):
        run_here("task=convert", f"folder={inshop}")


def test_sop_is_read(run_here, tmp_path):
    root = tmp_path / "sop"
    root.mkdir()
    head = "image_id class_id super_class_id path"
    train = [f"{n} {n // 4} 1 bicycle_final/{n}_0.JPG" for n in range(1, 60)]
    test = [f"{n} {n // 4} 2 chair_final/{n}_0.JPG" for n in range(60, 66)]
    (root / "Ebay_train.txt").write_text("\n".join([head, *train]))
    (root / "Ebay_test.txt").write_text("\n".join([head, *test]))
    for line in train + test:
        draw(root, line.split()[-1], (200, 30, 30))
    assert run_here("task=convert", "format=sop", f"folder={root}", f"table={root}/t.csv") == 65
    table = rows(root / "t.csv")
    assert table[-1]["label"] == "chair"
    assert {row["split"] for row in table if row["label"] == "chair"} == {"test"}
    assert {row["split"] for row in table if row["label"] == "bicycle"} == {"train", "validation"}
    run_here(
        "task=evaluate", "data=table", f"data.source={root}/t.csv", "split=test", "protocols=[leave-one-out]",
        "relevance=product_id", out="e",
    )  # fmt: skip
    assert json.loads((tmp_path / "e/metrics.json").read_text())["metrics"]["loo/unanswerable"] == 0


def test_other_files_are_refused(run_here, inshop, tmp_path):
    with pytest.raises(FashionError, match="choose from inshop, sop"):
        run_here("task=convert", "format=x", f"folder={inshop}")
    with pytest.raises(FashionError, match=r"holds no Ebay_train\.txt"):
        run_here("task=convert", "format=sop", f"folder={inshop}")
    (inshop / "list_eval_partition.txt").write_text("1\nimage_name item_id evaluation_status\na b\n")
    with pytest.raises(FashionError, match="line 3: 2 words"):
        run_here("task=convert", f"folder={inshop}")
    (inshop / "list_eval_partition.txt").write_text("img/W/D/id/1.jpg id train\n")
    with pytest.raises(FashionError, match="should lie in"):
        run_here("task=convert", f"folder={inshop}", f"table={tmp_path}/elsewhere/t.csv")
