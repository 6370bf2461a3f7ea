"""Pictures of one photographer are not independent: intervals and tests go by whole groups."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import write_checkpoint

from fashion.bootstrap import bootstrap_intervals
from fashion.data.arrays import PictureArray
from fashion.data.datamodules import ImageDataModule
from fashion.data.sources import Item
from fashion.encoder import load_encoder
from fashion.evaluation import evaluate, groups_of
from fashion.tasks.compare import verdict


def table(pictures: Path, photographers: int) -> Path:
    """A table of the pictures, each split's by so many photographers; 0: it does not say by whom."""
    rows = []
    for at, path in enumerate(sorted(pictures.glob("*/*/*.png"))):
        split, label, name = path.relative_to(pictures).parts
        by = f"{split}{at * photographers // 57}" if photographers else ""
        rows.append(f"{split}/{label}/{name},{label},{split},{by},{int(path.stem) % 2}")
    file = pictures / f"by{photographers}.csv"
    file.write_text("\n".join(["path,label,split,group,pattern", *rows]))
    return file


def test_intervals_of_an_evaluation_are_over_groups(pictures, run_folder, tmp_path):
    found = {}
    for photographers in (0, 12):
        data = ImageDataModule("table", str(table(pictures, photographers)), image_size=64, cache_dir=str(tmp_path))
        queries, gallery = data.array("validation"), data.array("train")
        found[photographers] = evaluate(load_encoder(run_folder), queries, gallery, relevance="pattern")
    result, groups = found[12], groups_of(queries)
    right = (result.predicted == queries.labels).astype(float)
    expected = bootstrap_intervals({"accuracy": right}, groups=groups)
    for prefix, protocol in (("gallery", "gallery"), ("loo", "leave-one-out")):
        values = {f"{prefix}/{name}": each for name, each in result.retrievals[protocol].per_query().items()}
        expected |= bootstrap_intervals(values, groups=groups)
    assert result.intervals == expected
    assert result.intervals["accuracy"] != found[0].intervals["accuracy"]
    assert result.intervals["gallery/map"] != found[0].intervals["gallery/map"]


def test_pictures_of_one_product_are_a_group_where_they_have_no_other():
    def groups(*extras):
        items = tuple(Item(f"{at}.jpg", "hat", "validation", extra) for at, extra in enumerate(extras))
        found = groups_of(PictureArray(np.zeros((len(items), 3, 1, 1), np.uint8), np.zeros(0, int), items, (), ""))
        return None if found is None else found.tolist()

    assert groups({"product_id": "a"}, {"product_id": "a"}, {"product_id": ""}) == ["a", "a", "2.jpg"]
    assert groups({"group": "x", "product_id": "a"}, {"product_id": "a"}, {"group": "x"}) == ["x", "a", "x"]
    assert groups({"product_id": "a"}, {"product_id": "b"}, {}) is None  # each is alone


def test_one_group_gives_no_interval(run_here, pictures, run_folder, tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    data = ("data=table", f"data.source={table(pictures, 1)}")
    run_here("task=evaluate", *data, f"encoder={run_folder}", out="evaluated")
    content = json.loads((tmp_path / "evaluated/metrics.json").read_text())
    assert content["intervals_95"] == {}
    assert f"{content['metrics']['gallery/map']:.3f}" in capsys.readouterr().out
    assert "bootstrap" not in (tmp_path / "evaluated/report.html").read_text()
    run_here("task=compare", *data, f"run={run_folder}", f"run_b={run_folder}", out="compared")
    content = json.loads((tmp_path / "compared/comparison.json").read_text())
    assert content["paired_bootstrap"]["accuracy"].keys() == {"a", "b", "difference"}
    assert "cannot be tested" in caplog.text


@pytest.mark.parametrize("values", [[0.5], []])
def test_nothing_is_drawn_from_one_value_or_none(values):
    assert bootstrap_intervals({"accuracy": np.array(values)}) == {}


def test_a_test_that_knows_no_groups_says_nothing_where_there_are_some(
    run_here, pictures, run_folder, caplog, tmp_path
):
    caplog.set_level("INFO")
    other = write_checkpoint(tmp_path / "other/checkpoints/last.ckpt", seed=1).parents[1]
    for photographers in (12, 0):
        data = ("data=table", f"data.source={table(pictures, photographers)}")
        caplog.clear()
        run_here("task=compare", *data, f"run={run_folder}", f"run_b={other}", out="compared")
        content = json.loads((tmp_path / "compared/comparison.json").read_text())
        ps = [content["paired_bootstrap"]["accuracy"]["p"]]
        ps += [] if photographers else [content["mcnemar"]["p"]]
        assert verdict(ps) in caplog.messages
        assert ("McNemar: p" in caplog.text) is (photographers == 0)
        assert (content["mcnemar"] is None) is (photographers > 0)


def test_the_verdict_is_of_the_tests_that_there_are():
    assert "differently well, at the 5% level" in verdict([0.01])
    assert "may be chance" in verdict([0.3])
    assert "hint" in verdict([0.01, 0.3])
    assert "cannot be tested" in verdict([])


def test_a_query_without_an_answer_leaves_each_other_its_group(pictures, run_folder, tmp_path):
    data = ImageDataModule("table", str(table(pictures, 12)), image_size=64, cache_dir=str(tmp_path))
    queries = data.array("validation")
    first, *others = queries.items
    queries = replace(queries, items=(replace(first, extra=first.extra | {"pattern": "of its own"}), *others))
    result = evaluate(load_encoder(run_folder), queries, data.array("train"), relevance="pattern")
    searches, groups = result.retrievals["gallery"], groups_of(queries)
    assert np.flatnonzero(searches.relevant == 0).tolist() == [0]
    assert groups is not None
    values = {f"gallery/{name}": each for name, each in searches.per_query().items()}
    expected = bootstrap_intervals(values, groups=groups[1:])
    assert {name: result.intervals[name] for name in expected} == expected
