"""What was run, which is best, and whether the difference is real."""

import csv
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import SMALL
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from fashion.data.sources import read_source
from fashion.encoder import load_encoder
from fashion.errors import FashionError
from fashion.report.runs import columns_of, over_seeds, read_runs
from fashion.report.sweep import RunsTable
from fashion.tasks.run_data import data_settings, found_from_here, with_data_of


def write_run(folder: Path, settings: str, accuracy: float | None) -> None:
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra/config.yaml").write_text(f"task: {{name: classify}}\n{settings}\n")
    if accuracy is not None:
        (folder / "metrics.json").write_text(json.dumps({"metrics": {"accuracy": accuracy}, "train_seconds": 3}))


@pytest.fixture
def outputs(tmp_path) -> Path:
    write_run(tmp_path / "runs/a", "seed: 1\nmodel: {name: base}", 0.80)
    write_run(tmp_path / "runs/b", "seed: 2\nmodel: {name: base}", 0.84)
    write_run(tmp_path / "runs/sweep/0", "seed: 1\nmodel: {name: tiny}", 0.70)
    write_run(tmp_path / "runs/c", "seed: 1\nmodel: {name: large}", None)
    (tmp_path / "runs/c/error.txt").write_text("the disk is full")
    write_run(tmp_path / "runs/d", "seed: 3\nmodel: {name: large}", None)
    return tmp_path / "runs"


def test_runs_are_grouped_over_seeds(outputs):
    rows = read_runs(outputs)
    assert len(rows) == 5
    assert next(row.get("error") for row in rows if "error" in row) == "the disk is full"
    base, tiny = sorted(over_seeds(rows), key=lambda row: -row["accuracy"])
    assert (base["accuracy"], base["seeds"], base["run"]) == (pytest.approx(0.82), 2, "b")
    assert base["accuracy sd"] == pytest.approx(0.04 / 2**0.5)
    assert "accuracy sd" not in tiny
    assert columns_of([base, tiny])[:3] == ["run", "model.name", "seeds"]


def test_runs_of_two_losses_are_not_averaged_into_one_row(run_here, tmp_path):
    figures = {"TripletLoss": (0.70, 0.72), "CentreLoss": (0.50, 0.52)}
    for loss, values in figures.items():
        for seed, value in enumerate(values):
            settings = f"seed: {seed}\nloss: {{_target_: mine.{loss}, _convert_: all}}"
            write_run(tmp_path / f"runs/{loss}{seed}", settings, value)
    write_run(tmp_path / "runs/before", "seed: 1\nmodel: {name: base}", 0.6)  # of a task that had no loss
    rows = {row.get("loss._target_"): row for row in over_seeds(read_runs(tmp_path / "runs"))}
    assert [rows[f"mine.{loss}"]["accuracy"] for loss in figures] == [pytest.approx(0.71), pytest.approx(0.51)]
    assert rows[None]["seeds"] == 1
    assert run_here("task=runs", "folder=runs", "filter='loss._target_ = \\'mine.CentreLoss\\''") == 1
    assert run_here("task=runs", "folder=runs") == 3
    table = list(csv.DictReader((tmp_path / "out/runs.csv").open()))
    assert [row["loss._target_"] for row in table] == ["mine.TripletLoss", "", "mine.CentreLoss"]
    assert "loss._convert_" not in table[0]


def test_the_best_run_is_the_best_by_what_is_sorted_and_a_seed_counts_once():
    rows = [
        {"run": "a", "seed": 1, "accuracy": 0.90, "gallery/map": 0.70},
        {"run": "b", "seed": 2, "accuracy": 0.80, "gallery/map": 0.71},
        {"run": "c", "seed": 2, "accuracy": 0.82, "gallery/map": 0.71},
    ]
    assert over_seeds(rows, "accuracy")[0]["run"] == "a"
    assert over_seeds(rows, "gallery/map")[0]["run"] == "b"
    (row,) = over_seeds(rows, "seed")
    assert row["run"] == "a"  # no figure: by the task's own
    assert over_seeds([row | {"task.name": "triplet"} for row in rows], "seed")[0]["run"] == "b"
    assert row["accuracy"] == pytest.approx((0.90 + 0.81) / 2)
    (twice,) = over_seeds(rows[1:])
    assert (twice["seeds"], "accuracy sd" in twice) == (1, False)


def test_a_layout_is_shown_only_where_the_models_name_does_not_tell_it():
    rows = [
        {"run": name, "model.name": name, "model.blocks": f"[{name}]", "accuracy": 0.5} for name in ("tiny", "base")
    ]
    assert columns_of(rows) == ["run", "model.name", "accuracy"]
    rows.append(rows[1] | {"run": "changed", "model.blocks": "[another]"})
    assert columns_of(rows) == ["run", "model.name", "model.blocks", "accuracy"]


def test_the_table_is_filtered_sorted_and_written(run_here, outputs, tmp_path, capsys):
    assert run_here("task=runs", "folder=runs", out="table") == 4  # base, tiny, and two that failed
    printed = capsys.readouterr().out
    assert "0.820 ± 0.028" in printed
    assert printed.index("base") < printed.index("tiny")
    assert "the disk is full" in printed
    rows = list(csv.DictReader((tmp_path / "table/runs.csv").open()))
    assert rows[0]["model.name"] == "base"
    assert (tmp_path / "table/runs.html").exists()
    where = "filter='\"model.name\" = ''base'' and accuracy > 0.81'".replace("''", "\\'")
    assert run_here("task=runs", "folder=runs", where, "seeds=false") == 1
    assert run_here("task=runs", "folder=runs", "seeds=false", "sort=seed") == 5
    with pytest.raises(FashionError, match="sort is 'seed', .* add seeds=false"):
        run_here("task=runs", "folder=runs", "sort=seed")
    with pytest.raises(FashionError, match="sort is 'x'"):
        run_here("task=runs", "folder=runs", "sort=x")
    with pytest.raises(FashionError, match="holds no such run"):
        run_here("task=runs", "folder=nowhere")


def test_settings_are_sorted_ascending_and_figures_best_first(run_here, tmp_path, capsys):
    for name, rate, accuracy in (("a", 0.01, 0.8), ("b", 0.002, 0.7), ("c", 0.1, 0.9)):
        write_run(tmp_path / f"runs/{name}", f"module: {{lr: {rate}}}", accuracy)
    for sort, title, order in (
        ("module.lr", "classify: 3 rows, by module.lr", "bac"),
        ("accuracy", "classify: 3 rows, best accuracy first", "cab"),
        ("train_seconds", "classify: 3 rows, best train_seconds first", "abc"),
    ):
        run_here("task=runs", "folder=runs", f"sort={sort}", out="table")
        assert title in capsys.readouterr().out
        assert [row["run"] for row in csv.DictReader((tmp_path / "table/runs.csv").open())] == [*order]
    with pytest.raises(FashionError, match="sort is 'lr', which no run has; choose from module.lr."):
        run_here("task=runs", "folder=runs", "sort=lr")


def test_triplet_runs_are_ordered_by_their_searches_as_their_sweeps_are(run_here, tmp_path, capsys):
    searches = {("a", 1): 0.70, ("a", 2): 0.72, ("b", 1): 0.80, ("b", 2): 0.82}
    for (model, seed), value in searches.items():  # without classification, accuracy is of logits that nobody taught
        folder = tmp_path / f"runs/{model}{seed}"
        write_run(folder, f"seed: {seed}\nmodel: {{name: {model}}}", None)
        (folder / ".hydra/config.yaml").write_text(f"task: {{name: triplet}}\nseed: {seed}\nmodel: {{name: {model}}}")
        (folder / "metrics.json").write_text(json.dumps({"metrics": {"accuracy": 1 - value, "gallery/map": value}}))
    assert run_here("task=runs", "folder=runs") == 2
    assert "triplet: 2 rows, best gallery/map first" in capsys.readouterr().out
    assert [row["run"] for row in csv.DictReader((tmp_path / "out/runs.csv").open())] == ["b2", "a2"]


def test_a_sweep_without_accuracy_is_ordered_by_what_there_is(tmp_path, capsys):
    for job, value in enumerate((0.6, 0.8, 0.7)):  # as evaluations on classes that the model does not know
        (tmp_path / f"{job}/.hydra").mkdir(parents=True)
        (tmp_path / f"{job}/.hydra/overrides.yaml").write_text(json.dumps([f"encoder=model{job}"]))
        (tmp_path / f"{job}/metrics.json").write_text(json.dumps({"metrics": {"gallery/map": value}}))
    RunsTable().on_multirun_end(
        OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}, "task": {"name": "evaluate"}})
    )
    assert "best gallery/map" in capsys.readouterr().out
    assert [row["run"] for row in json.loads((tmp_path / "runs.json").read_text())] == ["1", "2", "0"]


def test_each_task_has_a_table_of_its_own_settings(run_here, outputs, tmp_path, capsys):
    (outputs / "t/.hydra").mkdir(parents=True)
    (outputs / "t/.hydra/config.yaml").write_text(
        "task: {name: triplet, margin: 1}\nmodel: {name: base, _convert_: all}"
    )
    (outputs / "t/metrics.json").write_text(json.dumps({"metrics": {"accuracy": 0.9}}))
    for number in range(12):
        write_run(outputs / f"typo{number:02d}", "seed: 1", None)
    run_here("task=runs", "folder=runs")
    printed = capsys.readouterr().out
    assert "triplet: 1 rows" in printed
    assert "classify: 2 rows" in printed
    assert "margin" not in printed
    assert "_convert_" not in printed
    assert "14 runs failed or were cut off, the last 10" in printed
    with pytest.raises(FashionError, match="did you mean model.name"):
        run_here("task=runs", "folder=runs", "filter='model = 1'")


def test_runs_without_accuracy_are_listed_unless_a_sort_is_named(run_here, tmp_path, capsys):
    write_run(tmp_path / "failed/a", "seed: 1", None)
    assert run_here("task=runs", "folder=failed") == 1
    assert "cut off, or still running" in capsys.readouterr().out.replace("\n", " ")
    shutil.copytree(tmp_path / "failed", tmp_path / "runs")
    for name, recall in (("flat", 0.9), ("ivf", 0.95)):
        write_run(tmp_path / f"runs/{name}", f"index: {{kind: {name}}}", None)
        (tmp_path / f"runs/{name}/.hydra/config.yaml").write_text(f"task: {{name: index}}\nindex: {{kind: {name}}}")
        figures = {"metrics": {"search_ms": 1, "recall@10": recall}}
        (tmp_path / f"runs/{name}/metrics.json").write_text(json.dumps(figures))
    write_run(tmp_path / "runs/diverged", "seed: 2", float("nan"))
    assert run_here("task=runs", "folder=runs") == 4
    printed = capsys.readouterr().out
    assert "index: 2 rows, best recall@10 first" in printed
    assert printed.index("│ ivf") < printed.index("│ flat")
    assert "classify: 1 rows, best train_seconds" in printed
    with pytest.raises(FashionError, match="sort is 'accuracy', which no run has"):
        run_here("task=runs", "folder=runs", "sort=accuracy")


def test_broken_runs_hide_no_good_ones(run_here, outputs, tmp_path, capsys):
    for name, text in {"nan": '{"metrics": {"accuracy": NaN}}', "cut": '{"metrics": {"accur', "list": "[]"}.items():
        write_run(outputs / name, "seed: 9", None)
        (outputs / name / "metrics.json").write_text(text)
    write_run(outputs / "bad", "seed: 9", 0.5)
    (outputs / "bad/.hydra/config.yaml").write_text("{: [")
    rows = {row["run"]: row for row in read_runs(outputs)}
    assert "no figure" in rows["nan"]["error"]
    assert all("error" in rows[name] for name in ("cut", "list", "bad"))
    run_here("task=runs", "folder=runs", out="one")
    run_here("task=runs", "folder=runs", out="two")
    assert (tmp_path / "one/runs.csv").read_text() == (tmp_path / "two/runs.csv").read_text()
    assert "0.820 ± 0.028" in capsys.readouterr().out


def test_settings_that_refer_to_others_have_their_values(run_here, tmp_path, monkeypatch):
    monkeypatch.setenv("HUSH", "secret")
    settings = """
epochs: 6
seed: 3
loop: ${loop}
trainer: {max_epochs: '${model.epochs}', host: '${oc.env:HUSH}', again: '${trainer.host}', lost: '${no.where}'}
model: {epochs: '${epochs}', seed: '${seed}'}
"""
    write_run(tmp_path / "runs/a", settings, 0.9)
    (row,) = read_runs(tmp_path / "runs")
    assert row["trainer.max_epochs"] == 6
    assert row["trainer.host"] == row["trainer.again"] == "${oc.env:HUSH}"
    assert (row["loop"], row["trainer.lost"], row["model.seed"]) == ("${loop}", "${no.where}", "${seed}")
    assert run_here("task=runs", "folder=runs", "filter='trainer.max_epochs = 6'") == 1


def test_a_run_that_failed_after_its_figures_counts_as_failed(tmp_path):
    write_run(tmp_path / "a", "seed: 1", 0.9)
    (tmp_path / "a/error.txt").write_text("The disk is full.")
    assert read_runs(tmp_path)[0]["error"] == "The disk is full."


def test_a_single_run_leaves_its_error_until_it_goes_well(run_here, pictures, run_folder, tmp_path, capsys):
    data = ("data=folder", f"data.source={pictures}")
    good = ("task=evaluate", *data, f"encoder={run_folder}")
    bad = ("task=evaluate", *data, "encoder=nowhere")
    written = "task: {name: evaluate}\nseed: 1"
    (tmp_path / "runs/a/.hydra").mkdir(parents=True)
    (tmp_path / "runs/a/.hydra/config.yaml").write_text(written)
    with pytest.raises(FashionError, match="nowhere"):
        run_here(*bad, out="runs/a")
    run_here("task=runs", "folder=runs")
    printed = capsys.readouterr().out
    assert "nowhere" in printed
    assert "cut off, or still running" not in printed
    run_here(*good, out="runs/a")
    assert "error" not in read_runs(tmp_path / "runs")[0]
    with pytest.raises(FashionError, match="nowhere"):
        run_here(*bad, out="runs/a")
    assert "accuracy" in read_runs(tmp_path / "runs")[0]  # its figures stand, whatever was asked for afterwards


def test_tasks_without_figures_are_no_failed_runs(tmp_path):
    for name in ("search", "index"):
        (tmp_path / f"runs/{name}/.hydra").mkdir(parents=True)
        (tmp_path / f"runs/{name}/.hydra/config.yaml").write_text(f"task: {{name: {name}}}")
        (tmp_path / f"runs/{name}/error.txt").write_text("The disk is full.")
    assert [row["run"] for row in read_runs(tmp_path / "runs")] == ["index"]


@pytest.mark.slow
def test_two_models_are_compared_on_the_same_pictures(run_here, pictures, run_folder, tmp_path, caplog):
    data = (*SMALL[1:2], f"data.source={pictures}")
    run_here("task=classify", *SMALL, "data.image_size=64", f"data.source={pictures}", "task.epochs=12",
             "task.module.lr=0.01", out="trained")  # fmt: skip
    caplog.set_level("INFO")
    difference = run_here("task=compare", *data, f"run={run_folder}", "run_b=trained", out="compared")
    content = json.loads((tmp_path / "compared/comparison.json").read_text())
    row = content["paired_bootstrap"]["accuracy"]
    assert difference == row["difference"] == pytest.approx(row["b"] - row["a"])
    assert row["low"] <= difference <= row["high"]
    assert "McNemar" in caplog.text
    assert (tmp_path / "compared/report.html").exists()
    same = run_here("task=compare", *data, "run=trained", "run_b=trained", out="same")
    assert same == 0
    assert "may be chance" in caplog.text


@pytest.mark.slow
def test_a_run_is_evaluated_on_its_own_data_unless_others_are_named(
    run_here, pictures, run_folder, tmp_path, caplog, monkeypatch
):
    caplog.set_level("INFO")
    run = tmp_path / "mine"
    shutil.copytree(run_folder, run)
    (run / ".hydra").mkdir()
    config = {
        "data": {"_target_": "os.system", "kind": "folder", "source": str(pictures), "augment": {"_target_": "x"}}
    }
    (run / ".hydra/config.yaml").write_text(json.dumps(config))
    assert run_here("task=compare", f"run={run}", f"run_b={run_folder}", out="compared") == 0
    assert f"(data.kind=folder data.source={pictures})" in caplog.text
    run_here("task=evaluate", f"encoder={run}", out="evaluated")
    written = json.loads((tmp_path / "evaluated/metrics.json").read_text())
    assert written["pictures"] == 12
    for content in (written, json.loads((tmp_path / "compared/comparison.json").read_text())):
        assert content["data"]["source"] == str(pictures)
        assert content["data"]["digests"] is None  # the default data's are not meant
    run_here("task=audit", f"encoder={run}", out="audited")
    assert json.loads((tmp_path / "audited/audit.json").read_text())["summary"]["pictures"] == 57
    (tmp_path / "evaluated/.hydra").mkdir()
    default = "task: {name: evaluate}\ndata: {kind: table, source: elsewhere, digests: {train: x}, batch_size: 2}"
    (tmp_path / "evaluated/.hydra/config.yaml").write_text(default)
    (row,) = read_runs(tmp_path / "evaluated")
    assert (row["data.kind"], row["data.source"], row["data.batch_size"]) == ("folder", str(pictures), 2)
    assert "data.digests.train" not in row
    only = ("data.classes=[hat,shoes]", "data.on_bad_image=skip")  # of the run's own pictures
    run_here("task=evaluate", f"encoder={run}", *only, out="some")
    written = json.loads((tmp_path / "some/metrics.json").read_text())
    assert (written["pictures"], written["data"]["on_bad_image"]) == (8, "skip")
    caplog.clear()
    named = ("data=folder", f"data.source={pictures}")
    run_here("task=evaluate", f"encoder={run}", *named, "split=test", out="named")
    assert "Data: those of the run" not in caplog.text
    monkeypatch.setenv("SHOP", str(pictures))
    run_here("task=evaluate", f"encoder={run}", "data=folder", "data.source=${oc.env:SHOP}", out="named")
    assert json.loads((tmp_path / "named/metrics.json").read_text())["data"]["source"] == "${oc.env:SHOP}"
    # Nothing that a run folder names is run, nor does it get at the environment.
    for drawing in ({"_target_": "os.system"}, {"name": "https://elsewhere/${oc.env:HOME}"}):
        config["data"]["drawing"] = drawing
        (run / ".hydra/config.yaml").write_text(json.dumps(config))
        assert data_settings(load_encoder(run)) is None


@pytest.mark.slow
def test_no_run_is_compared_on_pictures_that_it_was_trained_on(run_here, run_folder, pictures, tmp_path, caplog):
    caplog.set_level("INFO")
    settings = {"halves": {"fold": "1/2"}, "other": {"fold": "2/2"}, "thirds": {"fold": "1/3"}, "same": {"fold": "1/2"}}
    for name, others in settings.items():
        shutil.copytree(run_folder, tmp_path / name)
        (tmp_path / name / ".hydra").mkdir()
        data = {"kind": "folder", "source": str(pictures), **others}
        (tmp_path / name / ".hydra/config.yaml").write_text(json.dumps({"data": data}))
    (tmp_path / "same/.hydra/config.yaml").write_text("data: {kind: folder, source: gone, fold: 2/2}")

    def compared(run, run_b, *more):
        caplog.clear()
        run_here("task=compare", f"run={run}", f"run_b={run_b}", *more, out="compared")
        told = (tmp_path / "compared/report.html").read_text()
        return int(re.search(r"on (\d+) \w+ pictures", told)[1])

    of = {fold: read_source("folder", str(pictures), cache=tmp_path, fold=fold) for fold in ("1/2", "1/3")}
    halves, thirds = ({item.path for item in of[fold].split("validation")} for fold in of)
    assert compared("halves", "halves") == len(halves)
    assert "left out" not in caplog.text
    assert compared("halves", "same") == len(halves)  # whose data nobody can read
    assert compared("halves", "thirds") == len(halves & thirds) < len(halves)
    count = len(halves - thirds)
    said = f"{count} of {len(halves)} pictures are left out: run_b was trained on {count} of them (data.fold=1/3)."
    assert said in caplog.messages
    assert compared("halves", "other", "split=train") == 36 - len(halves)
    with pytest.raises(FashionError, match=r"run_b was trained on \d+ of them \(data.fold=2/2\); compare runs of the"):
        compared("halves", "other")


@pytest.mark.slow
def test_a_runs_data_are_found_from_another_folder(run_here, run_folder, pictures, tmp_path, monkeypatch):
    run = shutil.copytree(run_folder, tmp_path / "mine")
    (run / ".hydra").mkdir()
    (run / ".hydra/config.yaml").write_text(json.dumps({"data": {"kind": "folder", "source": "pictures"}}))
    (run / ".hydra/hydra.yaml").write_text(json.dumps({"hydra": {"runtime": {"cwd": str(tmp_path)}}}))
    (tmp_path / "elsewhere").mkdir()
    for folder, source in ((tmp_path / "elsewhere", str(pictures)), (tmp_path, "pictures")):
        monkeypatch.chdir(folder)
        run_here("task=evaluate", f"encoder={run}", out="evaluated")
        written = json.loads((tmp_path / "evaluated/metrics.json").read_text())
        assert (written["pictures"], written["data"]["source"]) == (12, source)
    monkeypatch.chdir(tmp_path / "elsewhere")
    run_here("task=export", f"encoder={run}", "heads=false", out="exported")
    assert json.loads((run / "bundle/manifest.json").read_text())["agreement"]["pictures_of"] == "validation"


def test_what_a_foreign_run_notes_of_its_folder_reads_no_environment(run_here, run_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "secret")
    run = shutil.copytree(run_folder, tmp_path / "mine")
    (run / ".hydra").mkdir()
    (run / ".hydra/hydra.yaml").write_text(json.dumps({"hydra": {"runtime": {"cwd": f"{tmp_path}/${{oc.env:TOKEN}}"}}}))
    (tmp_path / "secret/pictures").mkdir(parents=True)
    assert found_from_here("pictures", run) == "pictures"


def test_parts_of_a_drawing_that_are_named_stay(run_here, run_folder, tmp_path):
    run = shutil.copytree(run_folder, tmp_path / "mine")
    (run / ".hydra").mkdir()
    own = {"kind": "synthetic", "source": str(tmp_path / "drawn"), "drawing": {"products": 40, "views": 2, "seed": 3}}
    (run / ".hydra/config.yaml").write_text(json.dumps({"data": own}))
    run_here("task=evaluate", f"encoder={run}", "+data.drawing.products=60", "protocols=[leave-one-out]", out="e")
    noted = json.loads((tmp_path / "e/metrics.json").read_text())["data"]["drawing"]
    assert noted == {"products": 60, "views": 2, "seed": 3}


def test_of_the_same_source_it_is_said_what_else_the_run_had(run_folder, tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO")
    run = shutil.copytree(run_folder, tmp_path / "mine")
    (run / ".hydra").mkdir()
    own = {"kind": "folder", "source": "shop", "classes": ["hat", "shoes"], "fold": "1/3"}
    (run / ".hydra/config.yaml").write_text(json.dumps({"data": own}))
    hydra = SimpleNamespace(overrides=SimpleNamespace(task=[]), runtime=SimpleNamespace(choices={"data": "clothing"}))
    monkeypatch.setattr(HydraConfig, "get", lambda: hydra)
    cfg = OmegaConf.create({"data": own | {"classes": None, "fold": "1/3"}})
    assert with_data_of(load_encoder(run), cfg) is cfg
    hydra.runtime.choices["data"] = "folder"  # by an experiment
    assert with_data_of(load_encoder(run), OmegaConf.create({"data": {"kind": "folder", "source": "other"}})).data == {
        "kind": "folder", "source": "other",
    }  # fmt: skip
    assert (
        caplog.messages[-1]
        == "The run was trained with data.classes=['hat', 'shoes']; name it to evaluate on the same."
    )
