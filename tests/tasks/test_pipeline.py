"""The whole way in a temporary folder: train, train on, evaluate, export, index, search."""

import json
import re
import shutil
from importlib.metadata import version
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from helpers import GPU, SMALL, command, write_pictures
from PIL import Image

from fashion import VisualSearchEngine
from fashion.baselines import baseline
from fashion.checkpoints import load_network
from fashion.classifier import ClassifierModule
from fashion.encoder import TorchEncoder
from fashion.errors import FashionError
from fashion.report.training import read_curves
from fashion.tasks import training
from fashion.tasks.classify import balanced


@pytest.fixture
def data(pictures) -> tuple[str, ...]:
    return (*SMALL, f"data.source={pictures}")


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_train_evaluate_export_index_and_search(run_here, data, pictures, tmp_path):
    seldom = "trainer.check_val_every_n_epoch=15"
    score = run_here("task=classify", *data, "trainer.max_epochs=30", seldom, "task.module.lr=0.01", out="classify")
    written = metrics(tmp_path / "classify")
    assert score == written["metrics"]["accuracy"]
    assert score > 0.8  # three colours
    assert written["checkpoint"] == "last.ckpt"
    assert {path.name for path in (tmp_path / "classify/checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert list((tmp_path / "classify").glob("events.out.tfevents*"))

    run_here("task=triplet", *data, "trainer.max_epochs=2", "task.pretrained=classify", out="triplet")
    assert metrics(tmp_path / "triplet")["metrics"]["gallery/top1"] > 0.8

    run_here("task=evaluate", f"data.source={pictures}", "data=folder", "encoder=triplet", "split=test", out="evaluate")
    figures = metrics(tmp_path / "evaluate")
    assert figures["pictures"] == 9
    assert {"loo/map", "gallery/mrr", "f1_micro"} <= figures["metrics"].keys()
    assert figures["intervals_95"]["accuracy"][0] <= figures["metrics"]["accuracy"]
    assert (tmp_path / "evaluate/confusion.png").exists()
    assert (tmp_path / "evaluate/report.html").exists()

    run_here("task=export", "encoder=triplet", "bundle=bundle", out="export")
    run_here("task=index", "encoder=bundle", "data=folder", f"data.source={pictures}", "catalog=catalog", out="index")
    run_here("task=search", "catalog=catalog", f"query={pictures}/test", "k=3", out="search")
    results = json.loads((tmp_path / "search/results.json").read_text())
    assert len(results) == 9
    right = sum(hit["label"] == Path(result["query"]).parent.name for result in results for hit in result["hits"])
    assert right > 0.8 * 27
    assert Image.open(tmp_path / "search/results.png").width > 500
    assert (tmp_path / "search/results.html").exists()


@pytest.mark.slow
def test_a_bundle_notes_its_recipe_and_no_place(run_here, run_folder, tmp_path):
    other = write_pictures(tmp_path / "p", {split: {"hat": 3, "poncho": 3} for split in ("train", "validation")})
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes((run_folder / "checkpoints/last.ckpt").read_bytes())
    figures = {"metrics": {"accuracy": 0.5}, "machine": {"cpu": "mine"}, "confusion": [[1, 1], [0, 0]]}
    (tmp_path / "run/metrics.json").write_text(json.dumps(figures))
    config = tmp_path / "run/.hydra/config.yaml"
    config.parent.mkdir()
    config.write_text(
        'seed: 5\ntask: {epochs: 9, ema: "${oc.env:HOME}"}\n'
        "data: {source: /somewhere/else, cache_dir: /tmp/c, batch_size: 32, augment: {flip: 0.5}}\n"
    )
    run_here("task=export", f"encoder={tmp_path / 'run'}", "bundle=noted", "heads=false")
    manifest = json.loads((tmp_path / "noted/manifest.json").read_text())
    assert manifest["metrics"] == {"metrics": {"accuracy": 0.5}}
    assert manifest["run"] == {
        "seed": 5, "task.epochs": 9, "task.ema": "${oc.env:HOME}", "data.batch_size": 32, "data.augment": {"flip": 0.5},
    }  # fmt: skip
    card = (tmp_path / "noted/README.md").read_text()
    assert "seed 5." in card
    assert "somewhere" not in card + (tmp_path / "noted/manifest.json").read_text()
    data = {"kind": "folder", "source": str(other), "image_size": 64}
    config.write_text(json.dumps({"data": data}))
    run_here("task=export", f"encoder={tmp_path / 'run'}", "bundle=others", "heads=false")
    assert json.loads((tmp_path / "others/manifest.json").read_text())["int8"]["kept"] is False
    config.write_text("{: [")
    run_here("task=export", f"encoder={tmp_path / 'run'}", "bundle=unknown", "heads=false")
    assert json.loads((tmp_path / "unknown/manifest.json").read_text())["run"] == {}


def test_a_catalogue_is_synced_edited_and_gone_back_to(run_here, bundle, pictures, caplog):
    index = ("task=index", f"encoder={bundle}", f"pictures={pictures}/train", "catalog=c")
    assert run_here(*index) == 36
    (pictures / "train/hat/0.png").unlink()
    caplog.set_level("INFO")
    caplog.clear()
    assert run_here(*index, "dry_run=true") == 36
    assert "would change: 1 removed, 35 unchanged" in caplog.text
    assert run_here(*index) == 35
    assert run_here("task=items", "catalog=c", f"add={pictures}/test/hat/0.png", "external_id=mine",
                    "+columns.price=30", "+columns.label=hat") == 36  # fmt: skip
    assert run_here("task=items", "catalog=c", "update=mine", "+columns.price=20") == 36
    query = f"query={pictures}/test/hat/0.png"
    run_here("task=search", "catalog=c", query, "filter='price < 25'", out="filtered")
    (result,) = json.loads(Path("filtered/results.json").read_text())
    assert [hit["item"]["external_id"] for hit in result["hits"]] == ["mine"]
    run_here("task=search", "catalog=c", "like=36", "k=2", out="like")
    (result,) = json.loads(Path("like/results.json").read_text())
    assert len(result["hits"]) == 2
    assert run_here("task=items", "catalog=c", "delete=mine") == 35
    assert run_here("task=rollback", "catalog=c") == 4
    with pytest.raises(FashionError, match="task=items does one thing"):
        run_here("task=items", "catalog=c")
    with pytest.raises(FashionError, match="keeps no version 77"):
        run_here("task=rollback", "catalog=c", "version=77")


@pytest.mark.slow
def test_the_same_seed_trains_the_same_model(run_here, data, tmp_path):
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        run_here("task=classify", *data, "trainer.max_epochs=1", f"seed={seed}", out=out)
    a, b, c = (load_network(tmp_path / out / "checkpoints/last.ckpt")[0].state_dict() for out in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_search_is_evaluated_on_classes_that_the_model_does_not_know(run_here, tmp_path, caplog):
    shop = write_pictures(tmp_path / "shop", {"train": {"hat": 6, "poncho": 6}, "validation": {"hat": 3, "poncho": 3}})
    caplog.set_level("INFO")
    run_here("task=evaluate", "data=folder", f"data.source={shop}", "encoder=pretrained", out="strangers")
    assert "does not know poncho" in caplog.text
    written = metrics(tmp_path / "strangers")
    assert "accuracy" not in written["metrics"]
    assert 0 < written["metrics"]["loo/map"] <= 1
    assert written["class_names"][:3] == ["hat", "poncho", "dress"]  # the data's, then the model's others
    confusion = np.array(written["confusion"])
    assert confusion.shape == (11, 11)
    assert confusion.sum(axis=1).tolist() == [3, 3, *[0] * 9]
    assert confusion[:, 1].sum() == 0  # nothing is taken for what the model does not know
    for asked in ("metrics=[accuracy]", "protocols=[filtered]"):
        with pytest.raises(FashionError, match="needs a model that knows poncho"):
            run_here("task=evaluate", "data=folder", f"data.source={shop}", "encoder=pretrained", asked)


def test_many_classes_make_no_long_files_and_lines(run_here, run_folder, tmp_path, caplog):
    rows = ["path,label,split"]
    for number in range(110):
        picture = Image.new("RGB", (32, 32), (2 * number, 200, 90))
        for split in ("train", "validation"):
            picture.save(tmp_path / f"{split}{number}.png")
            rows.append(f"{split}{number}.png,sku{number:05d},{split}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    caplog.set_level("INFO")
    data = ("data=table", f"data.source={tmp_path / 't.csv'}")
    run_here("task=evaluate", *data, f"encoder={run_folder}", "protocols=[gallery]", out="many")
    assert metrics(tmp_path / "many")["confusion"] is None
    assert (tmp_path / "many/metrics.json").stat().st_size < 20_000
    (said,) = [line for line in caplog.messages if "does not know" in line]
    assert said.endswith("sku00000, sku00001, sku00002, sku00003, sku00004 and 105 more: searches alone are evaluated.")
    for refused in (
        ("task=evaluate", f"encoder={run_folder}", "metrics=[accuracy]"),
        ("task=evaluate", f"encoder={run_folder}", "data.classes=[hat]"),
        ("task=compare", f"run={run_folder}", f"run_b={run_folder}"),
    ):
        with pytest.raises(FashionError) as error:
            run_here(*refused, *data)
        assert len(str(error.value)) < 600
    with pytest.raises(FashionError, match="data.classes names a class twice: sku00003[.]"):
        run_here("task=evaluate", *data, f"encoder={run_folder}", "data.classes=[sku00001,sku00003,sku00003]")


def test_a_part_of_the_models_classes_in_another_order_is_named(run_here, tmp_path):
    shop = write_pictures(tmp_path / "shop", {"train": {"hat": 6, "dress": 6}, "validation": {"hat": 3, "dress": 3}})
    run_here("task=evaluate", "data=folder", f"data.source={shop}", "encoder=pretrained", "data.classes=[hat,dress]",
             out="part")  # fmt: skip
    written = metrics(tmp_path / "part")
    engine = VisualSearchEngine()
    named = [engine.classify(path)[0][0] == path.parent.name for path in sorted(shop.glob("validation/*/*.png"))]
    assert written["metrics"]["accuracy"] == np.mean(named)


@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped(run_here, data, tmp_path):
    run_here("task=classify", *data, "trainer.max_epochs=1", out="first")
    run_here("task=classify", *data, "trainer.max_epochs=3", "resume=first", out="second")
    assert metrics(tmp_path / "second")["epochs"] == 3
    steps = [
        torch.load(tmp_path / out / "checkpoints/last.ckpt", weights_only=True)["global_step"]
        for out in ("first", "second")
    ]
    assert steps == [3, 9]
    shutil.copytree(tmp_path / "second", tmp_path / "classify/second")
    run_here("task=classify", *data, "trainer.max_epochs=4", "resume=latest", out="classify/third")
    assert metrics(tmp_path / "classify/third")["epochs"] == 4
    seconds = [metrics(tmp_path / out)["train_seconds"] for out in ("first", "second", "classify/third")]
    assert seconds == sorted(seconds)  # of all epochs, not of the last ones alone
    with pytest.raises(FashionError, match="no run in .*elsewhere or of this task beside it"):  # there are others'
        run_here("task=classify", *data, "trainer.max_epochs=4", "resume=latest", out="elsewhere")


@pytest.mark.slow
def test_a_run_that_goes_on_remembers_its_best_epoch(run_here, data, tmp_path, monkeypatch):
    watched = ("task=classify", *data, "task.early_stopping=9", "trainer.max_epochs=3")
    run_here(*watched, out="first")
    state = torch.load(tmp_path / "first/checkpoints/best.ckpt", weights_only=True)
    monkeypatch.setattr(ClassifierModule, "log_scores", lambda self, split: self.log(f"{split}/acc", -1.0))
    run_here(*watched[:-1], "trainer.max_epochs=4", "trainer.check_val_every_n_epoch=4",
             "resume=first", out="second")  # fmt: skip
    kept = torch.load(tmp_path / "second/checkpoints/best.ckpt", weights_only=True)
    assert kept["epoch"] == state["epoch"]
    assert metrics(tmp_path / "second")["checkpoint"] == "best.ckpt"


@pytest.mark.slow
def test_a_training_in_a_runs_folder_sets_its_checkpoints_aside(run_here, data, tmp_path):
    run_here("task=classify", *data, "trainer.max_epochs=1", out="run")
    before = (tmp_path / "run/checkpoints/last.ckpt").read_bytes()
    run_here("task=classify", *data, "trainer.max_epochs=1", "task.pretrained=run", out="run")
    assert (tmp_path / "run/checkpoints/before/last.ckpt").read_bytes() == before
    assert (tmp_path / "run/checkpoints/last.ckpt").read_bytes() != before


def test_a_split_with_one_picture_a_class_has_no_leave_one_out(run_here, tmp_path):
    root = write_pictures(tmp_path / "p", {"train": {"hat": 3, "dress": 3}, "validation": {"hat": 1, "dress": 1}})
    data = ("data=folder", f"data.source={root}")
    run_here("task=classify", *SMALL, *data[1:], "data.batch_size=3", "model=tiny", "task.epochs=1", out="run")
    run_here("task=evaluate", *data, "encoder=run", out="evaluated")
    for name in ("run", "evaluated"):
        found = metrics(tmp_path / name)
        assert "gallery/top1" in found["intervals_95"]
        assert [key for key in found["metrics"] if key.startswith("loo/")] == ["loo/unanswerable"]
    run_here("task=compare", *data, "run=run", "run_b=run", out="compared")
    assert "NaN" not in (tmp_path / "compared/comparison.json").read_text()


def test_pictures_that_search_each_other_need_no_others(run_here, run_folder, pictures, tmp_path):
    shutil.rmtree(pictures / "train")
    shutil.rmtree(pictures / "validation")
    data = ("data=folder", f"data.source={pictures}", "split=test", "protocols=[leave-one-out]", "baselines=[pixels]")
    run_here("task=evaluate", f"encoder={run_folder}", *data)
    assert json.loads((tmp_path / "out/metrics.json").read_text())["pictures"] == 9


def test_no_picture_finds_itself_or_is_embedded_twice(run_here, run_folder, pictures, tmp_path, monkeypatch):
    embedded = []
    monkeypatch.setattr(
        "fashion.tasks.evaluate.baseline",
        lambda name: lambda shown: embedded.append(len(shown)) or baseline(name)(shown),
    )
    call = TorchEncoder.__call__
    monkeypatch.setattr(TorchEncoder, "__call__", lambda self, shown: embedded.append(len(shown)) or call(self, shown))
    run_here("task=evaluate", "data=folder", f"data.source={pictures}", f"encoder={run_folder}", "split=train",
             "baselines=[random]", out="self")  # fmt: skip
    content = metrics(tmp_path / "self")
    found = content["metrics"]
    assert found["gallery/map"] == found["loo/map"]
    assert content["baselines"]["random"]["gallery/top1"] < 0.8
    assert embedded == [36, 36]  # by the model, and by the baseline


def test_early_stopping_keeps_the_best_epoch(run_here, data, tmp_path):
    run_here(
        "task=classify", *data, "trainer.max_epochs=30", "task.early_stopping=2", "task.module.lr=1e-6", out="stopped"
    )
    written = metrics(tmp_path / "stopped")
    assert written["epochs"] < 30
    assert written["checkpoint"] == "best.ckpt"


@pytest.mark.slow
@pytest.mark.parametrize(
    "choice",
    [
        ("loss.miner=hard",),
        ("loss.miner=all", "task.ema=null"),
        ("loss.miner=random", "task.module.classification=0"),
        ("loss.miner=given", "task.batches.mode=explicit"),
        ("loss._target_=pytorch_metric_learning.losses.MultiSimilarityLoss", "~loss.margin", "~loss.miner"),
    ],
)
def test_triplets_train_with_any_loss(run_here, data, tmp_path, choice, caplog):
    run_here("task=triplet", *data, "trainer.max_epochs=1", *choice, out="triplet")
    assert ("its names mean nothing" in caplog.text) == ("task.module.classification=0" in choice)
    assert "Collapse" not in caplog.text
    (loss,) = (value for _, value in read_curves(tmp_path / "triplet")["train/metric_loss"])
    assert 0 < loss < 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("choice", "weights", "steps"),
    [
        (("task.balance=true", "data.classes=[dress,hat]"), [1.0, 1.0], 2),
        (("task.module.cutmix=0.5", "data.augment=null"), None, 3),
        (("trainer=smoke",), None, 2),
    ],
)
def test_classifier_options_train(run_here, data, tmp_path, choice, weights, steps):
    run_here("task=classify", *data, "trainer.max_epochs=1", *choice, out="classify")
    saved = torch.load(tmp_path / "classify/checkpoints/last.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["class_weights"] == weights
    assert saved["hyper_parameters"]["cutmix"] == (0.5 if "data.augment=null" in choice else 0)
    assert saved["global_step"] == steps
    (loss,) = (value for _, value in read_curves(tmp_path / "classify")["train/loss"])
    assert 0 < loss < 10


@pytest.mark.slow
def test_a_run_may_have_callbacks_and_loggers_of_the_users(run_here, data, tmp_path):
    logger = ("+trainer.logger._target_=pytorch_lightning.loggers.CSVLogger", "+trainer.logger.save_dir=csv")
    impatient = "_target_: pytorch_lightning.callbacks.EarlyStopping, monitor: val/acc, min_delta: 2, patience: 1"
    run_here("task=classify", *data, "task.epochs=9", *logger, f"+trainer.callbacks=[{{{impatient}}}]", out="more")
    assert metrics(tmp_path / "more")["epochs"] == 2
    run_here("task=classify", *data, "task.epochs=9", f"+trainer.callbacks={{mine: {{{impatient}}}}}", out="named")
    assert metrics(tmp_path / "named")["epochs"] == 2
    assert "val/acc" in next((tmp_path / "csv").rglob("metrics.csv")).read_text()
    assert list((tmp_path / "more").glob("events.*"))


def test_gradients_are_clipped_in_mixed_precision(run_here, data, monkeypatch):
    clip = Mock(wraps=torch.nn.utils.clip_grad_norm_)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    mixed = ("trainer.precision=bf16-mixed", "trainer.gradient_clip_val=0.5", "task.module.muon=null")
    run_here("task=classify", *data, "task.epochs=1", *mixed)
    assert [call.args[1] for call in clip.call_args_list] == [0.5] * 3


@pytest.mark.slow
def test_a_student_learns_from_a_teacher_that_sees_more(run_here, data, tmp_path):
    run_here("task=classify", *data, "data.image_size=64", "trainer.max_epochs=1", out="teacher")
    teach = ("task=classify", *data, f"task.teacher={tmp_path / 'teacher'}", "trainer.max_epochs=1")
    run_here(*teach, "data.training_size=64", "task.teacher_bf16=true", out="student")
    assert metrics(tmp_path / "student")["epochs"] == 1
    saved = torch.load(tmp_path / "student/checkpoints/last.ckpt", weights_only=True)
    assert all(name.startswith("network.") for name in saved["state_dict"])
    two = f"[{tmp_path / 'teacher'},{tmp_path / 'teacher'}]"
    run_here(*teach, "data.training_size=64", f"task.teacher={two}", out="taught")
    assert metrics(tmp_path / "taught")["teacher"] == [str(tmp_path / "teacher")] * 2
    with pytest.raises(FashionError, match="set data.training_size=64"):
        run_here(*teach, out="smaller")
    with pytest.raises(FashionError, match="train the teacher on the same classes"):
        run_here(*teach, "data.training_size=64", "data.classes=[hat,shoes]", out="fewer")


def test_collapse_is_named(run_here, data, pictures, caplog):
    for path in (pictures / "train").rglob("*.png"):  # what are all the same have one kind
        shutil.copy(pictures / "test/hat/0.png", path)
    run_here("task=triplet", *data, "trainer.max_epochs=1", "data.augment=null", out="collapsed")
    assert "Collapse: all pictures get nearly the same kind" in caplog.text


def test_another_backbone_cannot_be_warm_started(run_here, data, run_folder):
    with pytest.raises(FashionError, match="holds the backbone 'tiny', another than this run's"):
        run_here("task=triplet", *data, "model=small", f"task.pretrained={run_folder}")


def test_data_of_other_classes_is_refused_by_compare(run_here, run_folder, tmp_path):
    root = write_pictures(tmp_path / "p", {"train": {"skirt": 3, "hat": 3}, "validation": {"skirt": 2, "hat": 2}})
    with pytest.raises(FashionError, match=r"data.classes=\[dress,hat,shoes\]"):
        run_here("task=compare", "data=folder", f"data.source={root}", f"run={run_folder}", f"run_b={run_folder}")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("query=nowhere.jpg",), "nowhere.jpg: no such file"),
        (("query=no*.jpg",), "matches no file"),
        (("query=text.jpg",), "text.jpg is not a picture"),
        (("query=empty",), "empty holds no pictures"),
        (("catalog=nowhere", "query=text.jpg"), "nowhere does not exist; make one with"),
    ],
)
def test_bad_queries_get_one_sentence(run_here, run_folder, pictures, tmp_path, overrides, words):
    run_here("task=index", f"encoder={run_folder}", f"pictures={pictures}/train", "catalog=c")
    (tmp_path / "text.jpg").write_text("<html>")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FashionError, match=words):
        run_here("task=search", "catalog=c", *overrides)


def test_class_weights_are_inverse_and_mean_one():
    weights = balanced([10, 30, 60])
    assert weights[0] == 3 * weights[1]
    assert sum(w * n for w, n in zip(weights, (10, 30, 60), strict=True)) == pytest.approx(100)


def test_the_command_line_explains_itself_and_its_mistakes(tmp_path):
    helped = command("--help", cwd=tmp_path)
    assert helped.returncode == 0
    assert "task=classify" in helped.stdout
    assert "task=classify" in command(cwd=tmp_path).stdout
    misspelt = command("task=classify", "modle=base", cwd=tmp_path)
    assert misspelt.returncode != 0
    assert "modle" in misspelt.stderr
    wrong = command("task=classify", "data=folder", "data.source=nowhere", cwd=tmp_path)
    assert wrong.returncode == 1
    assert wrong.stderr.strip().splitlines()[-1].startswith("error: data.source: nowhere does not exist")
    assert "Traceback" not in wrong.stderr
    summary = command("task=summary", "model=base", cwd=tmp_path)
    assert "319,361" in summary.stdout


def test_search_asks_until_told_to_quit(run_here, run_folder, pictures, tmp_path):
    run_here("task=index", f"encoder={run_folder}", f"pictures={pictures}/train", "catalog=c")
    asked = command("task=search", "catalog=c", cwd=tmp_path, text=f"nothing.jpg\n{pictures}/test/hat/0.png\nquit\n")
    assert asked.returncode == 0, asked.stderr
    assert "nothing.jpg: no such file" in asked.stdout
    assert list(tmp_path.glob("outputs/search/*/001/results.json"))


@pytest.mark.slow
def test_a_multirun_ends_in_a_table_and_survives_a_failing_job(data, tmp_path):
    swept = command("-m", "task=classify", *data, "trainer=smoke", "seed=1,2", "sweep_name=s",
                    "data.batch_size=12,1000", f"cache_dir={tmp_path}/cache", cwd=tmp_path)  # fmt: skip
    assert "4 runs, best accuracy first" in swept.stdout
    assert swept.returncode == 1
    assert "2 of 4 runs failed" in swept.stderr
    rows = json.loads((tmp_path / "outputs/sweeps/s/runs.json").read_text())
    assert ["error" in row for row in rows] == [False] * 2 + [True] * 2
    scores = [row["accuracy"] for row in rows[:2]]
    assert scores == sorted(scores, reverse=True)
    refused = command(
        "-m", "task=classify", *data, "trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=32-true",
        "trainer.strategy=auto", "seed=1", f"cache_dir={tmp_path}/cache", cwd=tmp_path
    )  # fmt: skip
    assert "trainer.strategy=ddp_spawn" in refused.stdout + refused.stderr


def test_tensorboard_reads_our_events(run_here, data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    twice = "+trainer.accumulate_grad_batches=2"  # two batches come before the first step
    run_here("task=classify", *data, "trainer.max_epochs=2", twice, out="classify")
    events = EventAccumulator(str(tmp_path / "classify"))
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "val/loss", "val/acc", "val/f1", "final/accuracy"} <= set(tags["scalars"])
    assert {"train/first_batch", "final/confusion"} <= set(tags["images"])
    assert tags["graph"]
    assert len(events.Images("train/first_batch")) == 1
    hparams = [tag for tag in events.summary_metadata if tag.startswith("_hparams_")]
    assert hparams
    session = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    varied = ("seed", "task.epochs", "task.module.lr", "data.batch_size", "data.augment.rotate", "model.name",
              "task.module._target_", "data._target_")  # fmt: skip
    for key in varied:
        assert key.encode() in session  # what a sweep varies, so that its rows can be told apart
    assert b"_convert_" not in session


# "cpu:0" is the CPU as well, and is told apart from the "cpu" that is meant where no device is named.
ONE = "pytorch_lightning.strategies.SingleDeviceStrategy"


@pytest.mark.parametrize(
    ("trainer", "device"),
    [
        (("trainer=cpu", f"+trainer.strategy={{_target_: {ONE}, device: 'cpu:0'}}"), "cpu:0"),
        pytest.param(("trainer=gpu",), "cuda:0", marks=GPU),
    ],
)
def test_figures_and_looks_are_made_on_the_device_that_trained(run_here, data, monkeypatch, trainer, device):
    raw, fit_looks, named, fitted = TorchEncoder.raw, training.fit_looks_in, [], []

    def naming(self, pictures):
        named.append(str(self.device))
        return raw(self, pictures)

    def fitting(checkpoint, pictures, device):
        fitted.append(str(device))
        fit_looks(checkpoint, pictures, device)

    monkeypatch.setattr(TorchEncoder, "raw", naming)
    monkeypatch.setattr(training, "fit_looks_in", fitting)
    run_here("task=classify", *data, *trainer, "task.epochs=1")
    assert (named, fitted) == ([device] * 2, [device] * 2)


def test_the_last_epoch_is_validated_whatever_its_number(run_here, data, tmp_path):
    run_here("task=classify", *data, "task.epochs=3", "trainer.check_val_every_n_epoch=2", "seed=4", out="three")
    assert {"best.ckpt", "last.ckpt"} <= {one.name for one in (tmp_path / "three/checkpoints").iterdir()}
    steps = {name: [step for step, _ in values] for name, values in read_curves(tmp_path / "three").items()}
    assert len(steps["val/acc"]) == 2
    written = metrics(tmp_path / "three")
    assert (written["epochs"], written["seed"]) == (3, 4)
    for package in ("numpy", "torch", "torchvision", "pytorch-lightning"):
        assert written["versions"][package] == version(package)


def test_evaluation_by_product_by_filter_and_beside_baselines(run_here, run_folder, tmp_path):
    drawn = ("data=synthetic", "data.drawing.products=30", "data.drawing.views=3", "data.classes=[dress,hat,shoes]")
    run_here("task=evaluate", *drawn, f"encoder={run_folder}", "relevance=product_id", "protocols=[leave-one-out]",
             "baselines=[random,pixels,histogram]", out="products")  # fmt: skip
    content = metrics(tmp_path / "products")
    assert content["metrics"]["loo/unanswerable"] == 0
    # Two others of each product are there to be found.
    assert content["metrics"]["loo/recall@5"] == pytest.approx(5 / 2 * content["metrics"]["loo/precision@5"])
    assert set(content["baselines"]) == {"random", "pixels", "histogram"}
    assert "<td>relevance</td><td>product_id</td>" in (tmp_path / "products/report.html").read_text()
    assert content["baselines"]["pixels"]["loo/top1"] > content["baselines"]["random"]["loo/top1"]
    run_here("task=evaluate", *drawn, f"encoder={run_folder}", "protocols=[gallery,filtered]", out="filtered")
    found = metrics(tmp_path / "filtered")["metrics"]
    assert found["filtered/top1"] == pytest.approx(found["accuracy"])  # only items of the named class are found
    report = (tmp_path / "filtered/report.html").read_text()
    for heading in ("Figures", "Per class", "Confusion", "Searches", "Worst queries", "Map"):
        assert f"<h2>{heading}</h2>" in report
    assert "://" not in report.replace("http://www.w3.org", "")  # "http" alone may stand in a picture's base64
    with pytest.raises(FashionError, match="baselines names 'x'"):
        run_here("task=evaluate", *drawn, f"encoder={run_folder}", "baselines=[x]")
    with pytest.raises(FashionError, match="no such column"):
        run_here("task=evaluate", *drawn, f"encoder={run_folder}", "relevance=brand")


def test_the_metrics_asked_for_are_shown_with_their_macro_means(run_here, run_folder, pictures, tmp_path, capsys):
    run_here("task=evaluate", "data=folder", f"data.source={pictures}", f"encoder={run_folder}",
             "protocols=[leave-one-out]", "metrics=[r_precision,hit@1]", "baselines=[random]", out="asked")  # fmt: skip
    search, beside = capsys.readouterr().out.split("Beside what nobody trained")
    content = metrics(tmp_path / "asked")
    assert f"│ {content['metrics']['loo/macro_top1']:.3f} │" in search
    columns = re.findall(r"\w+/?", beside.partition("┡")[0])
    assert columns == ["loo/", "loo/", "top1", "r_precision"]
    assert f"{content['baselines']['random']['loo/r_precision']:.3f}" in beside
    assert "mrr" not in search + beside
    assert "loo/mrr" not in (tmp_path / "asked/report.html").read_text()
    assert content["metrics"].keys() == content["baselines"]["random"].keys() | {
        name for name in content["metrics"] if "/" not in name
    }


def test_an_evaluation_says_which_gallery_was_searched(run_here, run_folder, pictures, tmp_path, capsys):
    roles = {0: "true,", 1: ",true"}
    rows = [f"test/{label}/{at}.png,{label},test,{roles[at]}" for label in ("dress", "hat", "shoes") for at in roles]
    (pictures / "items.csv").write_text("\n".join(["path,label,split,is_query,is_gallery", *rows]))
    data = ("data=table", f"data.source={pictures}/items.csv", "split=test", "protocols=[gallery]")
    run_here("task=evaluate", *data, f"encoder={run_folder}", out="own")
    assert " test gallery ┃" in capsys.readouterr().out
    assert "3 test pictures, searched in the test gallery of 3;" in (tmp_path / "own/report.html").read_text()


def test_a_training_leaves_a_report_with_its_curves(run_here, data, tmp_path):
    run_here("task=triplet", *data, "task.epochs=3", out="triplet")
    drawn = {"train/loss", "val/loss", "val/acc", "val/f1", "val/top1", "val/map"}
    assert drawn <= read_curves(tmp_path / "triplet").keys()
    report = (tmp_path / "triplet/report.html").read_text()
    for heading in ("Curves", "Settings", "Worst queries", "Map"):
        assert f"<h2>{heading}</h2>" in report
    assert "task.module.lr" in report
    assert "://" not in report.replace("http://www.w3.org", "")  # "http" alone may stand in a picture's base64


@pytest.mark.slow
def test_products_can_be_told_apart_within_a_class(run_here, tmp_path):
    drawn = ("data=synthetic", "data.drawing.products=30", "data.drawing.views=4", "data.image_size=32")
    run_here("task=triplet", *drawn, "model=tiny", "task.batches.by=product_id", "task.batches.classes_per_batch=6",
             "task.batches.pictures_per_class=3", "task.epochs=2", "data.batch_size=12", out="products")  # fmt: skip
    assert metrics(tmp_path / "products")["epochs"] == 2
    with pytest.raises(FashionError, match="no such column"):
        run_here("task=triplet", *drawn, "model=tiny", "task.batches.by=brand", "data.batch_size=12")


@pytest.mark.parametrize("task", ["evaluate", "index", "audit"])
def test_settings_that_are_the_models_are_said_to_do_nothing(run_here, run_folder, pictures, caplog, task):
    data = ("data=folder", f"data.source={pictures}", "data.image_size=64")
    run_here(f"task={task}", *data, "data.centre=0.8", f"encoder={run_folder}")
    noticed = [record.getMessage() for record in caplog.records if "does nothing here" in record.getMessage()]
    assert [text.split(" does")[0] for text in noticed] == ["data.centre=0.8"], noticed
