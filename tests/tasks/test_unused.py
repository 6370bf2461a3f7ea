"""Settings that do nothing beside others: said in one line, or refused."""

import json
from pathlib import Path

import pytest
from helpers import SMALL, command

from fashion.errors import FashionError


def said(caplog) -> list[str]:
    """The warnings of settings that do nothing; only as much of each as names them."""
    texts = [record.getMessage() for record in caplog.records if record.name == "fashion.tasks.options"]
    return [text.split(" does nothing")[0] for text in texts]


@pytest.mark.parametrize(("epochs", "noticed"), [(1, []), (7, ["task.epochs"])])
def test_epochs_beside_the_trainers(run_here, pictures, caplog, epochs, noticed):
    run_here("task=classify", *SMALL, f"data.source={pictures}", "trainer=smoke", f"task.epochs={epochs}")
    assert said(caplog) == noticed


@pytest.mark.slow
@pytest.mark.parametrize(("own", "noticed"), [((), ["model.name=resnet50"]), (("model.stem=9",), [])])
def test_a_network_of_another_name(run_here, pictures, caplog, own, noticed):
    data = (*SMALL, f"data.source={pictures}")
    run_here("task=classify", *data, "trainer=smoke", "model.name=resnet50", *own)
    run_here("task=summary", "model=tiny", "model.name=resnet50", *own)
    assert said(caplog) == 2 * noticed


@pytest.mark.slow
def test_a_run_that_goes_on_needs_no_weights_to_start_from(run_here, pictures, tmp_path):
    data = (*SMALL, f"data.source={pictures}", "trainer=smoke")
    run_here("task=classify", *data, out="run")
    run_here("task=classify", *data, "trainer.max_epochs=2", "task.pretrained=gone", "resume=run", out="again")
    with pytest.raises(FashionError, match="gone does not exist"):
        run_here("task=classify", *data, "task.pretrained=gone", out="other")


def test_settings_of_trainings_where_nothing_is_trained(run_here, run_folder, pictures, caplog):
    data = ("data=folder", f"data.source={pictures}", "data.batch_size=9", "data.augment.flip=0.1")
    for task in (("evaluate", f"encoder={run_folder}"), ("compare", f"run={run_folder}", f"run_b={run_folder}"),
                 ("audit",)):  # fmt: skip
        caplog.clear()
        run_here(f"task={task[0]}", *task[1:], *data)
        assert said(caplog) == ["data.augment.flip", "data.batch_size"]


def test_settings_of_an_evaluation_beside_its_protocols(run_here, run_folder, pictures, caplog):
    data = ("task=evaluate", f"encoder={run_folder}", "data=folder", f"data.source={pictures}", "match_precision=0.8")
    run_here(*data, "protocols=[filtered,gallery]", "baselines=[random]")
    assert said(caplog) == []
    run_here(*data, "protocols=[filtered]", "baselines=[random]")
    assert said(caplog) == ["match_precision", "baselines"]


@pytest.mark.slow
def test_a_share_for_validation_beside_splits_of_the_source(run_here, run_folder, pictures, bundle, caplog):
    """It is said of what was typed, not of what a run had."""
    data = (*SMALL, f"data.source={pictures}")
    typed = "data.validation_fraction=0.3"
    run_here("task=classify", *data, "trainer=smoke", typed, out="run")
    for task in (("task=evaluate", "encoder=run"), ("task=index", f"encoder={bundle}", "catalog=c"), ("task=audit",)):
        assert said(caplog) == ["data.validation_fraction"]
        caplog.clear()
        run_here(*task, "data=folder", f"data.source={pictures}", typed)
    caplog.clear()
    Path("run/.hydra").mkdir()
    own = {"kind": "folder", "source": str(pictures), "validation_fraction": 0.3}
    Path("run/.hydra/config.yaml").write_text(json.dumps({"data": own}))
    run_here("task=evaluate", "encoder=run")
    assert said(caplog) == []


def test_a_share_for_validation_of_pictures_without_splits(run_here, run_folder, pictures, caplog):
    """What it leaves to train on is what a fold divides."""
    data = ("data=folder", f"data.source={pictures}/train", "data.fold=1/2", "data.validation_fraction=0.5")
    run_here("task=evaluate", f"encoder={run_folder}", *data)
    assert said(caplog) == []


def test_settings_that_say_nothing_of_indexing(run_here, bundle, pictures, caplog):
    run_here("task=index", f"pictures={pictures}/test", f"encoder={bundle}", "catalog=c", "data.on_bad_image=skip",
             "data.batch_size=9")  # fmt: skip
    assert said(caplog) == ["data.batch_size", "data.on_bad_image"]


def test_settings_of_teachers_without_one(run_here, pictures, caplog):
    run_here("task=classify", *SMALL, f"data.source={pictures}", "trainer=smoke", "task.module.teaching=0.5")
    assert said(caplog) == ["task.module.teaching"]


def test_settings_of_other_benchmarks(run_here, caplog):
    run_here("task=benchmark", "suite=evaluation", "items=1000", "queries=10", "image_size=64", "rounds=3")
    assert said(caplog) == ["image_size", "rounds"]


@pytest.mark.slow
def test_settings_of_another_export(run_here, bundle, run_folder, pictures, caplog):
    run_here("task=index", f"pictures={pictures}/test", f"encoder={bundle}", "catalog=c")
    run_here("task=export", "catalog=c", "bundle=b", "note=mine")
    assert said(caplog) == ["bundle", "note"]
    caplog.clear()
    run_here("task=export", f"encoder={run_folder}", "bundle=b", "embeddings=e", "check=false", "heads=false")
    assert said(caplog) == ["embeddings"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sweep_name=mine",), "sweep_name is of many runs; add -m"),
        (("hydra/launcher=joblib",), "hydra/launcher is of many runs; add -m"),
        (("-m", "hydra.run.dir=mine"), "hydra.run.dir is the folder of one run"),
        (("-m", "sweep_name=", "seed=1"), "sweep_name is empty"),
        (("hydra.run.dir=~/mine",), "hydra.run.dir is ~/mine, and Hydra knows no ~"),
    ],
)
def test_what_is_of_one_run_and_of_many(tmp_path, arguments, words):
    done = command("task=summary", "model=tiny", *arguments, cwd=tmp_path)
    assert (done.returncode, words in done.stderr) == (1, True)
