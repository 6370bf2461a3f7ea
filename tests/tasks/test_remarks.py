"""What a training says of its pictures and its end."""

import json
import logging
import shutil

import pytest
from helpers import SMALL, write_pictures


@pytest.fixture
def data(pictures, caplog) -> tuple[str, ...]:
    caplog.set_level(logging.INFO)
    return (*SMALL, f"data.source={pictures}")


@pytest.mark.slow
def test_a_training_that_ends_early_says_why(run_here, data, caplog):
    run_here("task=classify", *data, "task.epochs=2", out="whole")
    assert "Stopped after" not in caplog.text
    run_here("task=classify", *data, "task.epochs=9", "+trainer.max_steps=4", out="steps")
    assert "Stopped after 2 of 9 epochs (trainer.max_steps)." in caplog.text
    caplog.clear()
    run_here("task=classify", *data, "task.epochs=5000", "+trainer.max_time='00:00:00:01'", out="time")
    assert "of 5000 epochs (trainer.max_time)." in caplog.text
    caplog.clear()
    still = ("task.early_stopping=1", "task.module.lr=1e-9", "task.ema=null")
    run_here("task=classify", *data, "task.epochs=900", *still, out="early")
    (said,) = [record for record in caplog.records if "Stopped after" in record.getMessage()]
    assert "of 900 epochs: 1 validations without a better val/acc." in said.getMessage()
    assert said.levelname == "INFO"


def test_a_training_may_stop_early_in_its_first_epoch(run_here, data, caplog):
    still = ("task.early_stopping=1", "task.module.lr=1e-9", "task.ema=null", "+trainer.val_check_interval=0.34")
    run_here("task=classify", *data, "task.epochs=2", *still)
    assert "Stopped after 1 of 2 epochs: 1 validations without a better val/acc." in caplog.text


def test_classes_on_one_side_only_are_named(run_here, tmp_path, caplog):
    counts = {"train": {"dress": 12, "hat": 12}, "validation": {"hat": 3, "shoes": 3}}
    root = write_pictures(tmp_path / "p", counts)
    run_here("task=classify", *SMALL, f"data.source={root}", "task.epochs=1")
    assert "Of shoes there is no training picture." in caplog.text
    assert "Of dress there is no validation picture." in caplog.text


@pytest.mark.slow
def test_pictures_in_both_training_and_validation_are_mentioned(
    run_here, data, pictures, tmp_path, caplog, monkeypatch
):
    run_here("task=classify", *data, "task.epochs=1", out="clean")
    assert "task=audit shows them" not in caplog.text
    for name in ("0.png", "1.png"):
        shutil.copy(pictures / "train/hat" / name, pictures / "validation/hat" / name)
    run_here("task=classify", *data, "task.epochs=1", out="leaking")
    said = "Pictures are in both training and validation (pairs that are the same or nearly so: 2, groups: 0)"
    assert said in caplog.text
    assert said in (tmp_path / "leaking/report.html").read_text()
    monkeypatch.setattr("fashion.tasks.training.AUDITED", 47)
    run_here("task=classify", *data, "trainer=smoke", out="many")
    assert "in both training and validation (copies: 2, groups: 0)" in caplog.text
    audited = json.loads((tmp_path / "many/metrics.json").read_text())["data_audit"]
    assert audited == {"pictures": 48, "across_splits": 2, "leaked_groups": 0}


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (("task.batches.mode=explicit", "loss.miner=given"), []),
        (("task.batches.mode=explicit",), ["task.batches.mode=explicit draws triplets, and loss.miner=semihard mines"]),
        (
            ("task.batches.mode=explicit", "loss.miner=given", "task.batches.pictures_per_class=4"),
            ["task.batches.pictures_per_class does nothing with task.batches.mode=explicit"],
        ),
        (("data.batch_size=30",), ["data.batch_size does nothing with task.batches.mode=mined"]),
    ],
)
def test_settings_that_do_nothing_for_triplets_are_said(run_here, pictures, caplog, choice, said):
    data = [one for one in SMALL if "batch_size" not in one]
    run_here("task=triplet", *data, f"data.source={pictures}", "trainer=smoke", *choice)
    words = [record.getMessage() for record in caplog.records if record.name.endswith((".triplet", ".options"))]
    assert [text[: len(start)] for text, start in zip(words, said, strict=True)] == said
