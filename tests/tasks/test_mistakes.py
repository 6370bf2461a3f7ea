"""Mistakes that people make when they train: one sentence each, before time is lost, and nothing overwritten."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT, SMALL, command, interruptible, write_pictures

from fashion.checkpoints import load_network
from fashion.data.sources import read_source
from fashion.errors import FashionError
from fashion.report.training import read_curves
from fashion.tasks.folder import make


@pytest.fixture
def data(pictures: Path, tmp_path: Path) -> tuple[str, ...]:
    return (*SMALL, f"data.source={pictures}", f"cache_dir={tmp_path / 'cache'}")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("task.module.lr=-1", "task.module.lr is -1: Input should be greater than 0"),
        ("task.module.lr=abc", "task.module.lr is 'abc'"),
        ("task.module.warmup=2", "task.module.warmup is 2"),
        ("task.module.label_smoothing=2", "task.module.label_smoothing is 2"),
        ("task.module.look=3", "task.module.look is 3"),
        ("data.num_workers=-1", "data.num_workers is -1"),
        ("data.batch_size=0", "data.batch_size is 0; it should be 2 at least"),
        ("data.validation_fraction=0", "data.validation_fraction is 0"),
        ("data.batch_size=abc", "data.batch_size is 'abc': Input should be a valid integer"),
        ("data.augment.colour=abc", "data.augment.colour is 'abc': Input should be a valid number"),
        ("data.augment=none", "data.augment is 'none': Input should be a valid"),
        ("+data.sizes=3", "data.sizes is 3: Unexpected keyword argument"),
        ("data.classes=dress", r"data.classes=\[dress,…\]"),
        ("model.stem=abc", "model.stem is 'abc': Input should be a valid integer"),
        ("model.stem=0", "model.stem is 0; it should be 1 at least"),
        ("trainer.check_val_every_n_epoch=0", "trainer.check_val_every_n_epoch is 0"),
        ("trainer.accelerator=tpu", "trainer is refused"),
        ("trainer.max_epochs=many", "trainer.max_epochs is 'many': Input should be a valid integer"),
        ("trainer.precision=17", "trainer.precision is 17: Input should be .*; or Input should be 'transformer"),
        ("trainer.max_epochs=0", "trainer.max_epochs is 0; it should be a whole number from 1"),
        ("trainer.max_epochs=null", "trainer.max_epochs is null; .* give it or max_steps"),
        ("trainer.precision=bf16-true", "keeps no moving average.*task.ema=null"),
        ("+trainer.default_root_dir=here", "trainer.default_root_dir is not to be set: hydra.run.dir"),
        ("+trainer.overfit_batches=2", "trainer.overfit_batches is not to be set: .*train on a folder of few pictures"),
        ("+trainer.fast_dev_run=true", "trainer.fast_dev_run is not to be set: trainer=smoke"),
        ("+trainer.logger=false", "trainer.logger is False; name what is to come beside ours"),
        ("+trainer.callbacks=[mine]", r"trainer.callbacks is \['mine'\]; name what is to come beside ours"),
        ("+trainer.max_time=00:10:00", "trainer.max_time is '00:10:00'; it should be days, hours, minutes and seconds"),
        ("task.name=mine", "task.name is 'mine', which is no task"),
        ("+trainer.limit_val_batches=0.01", "trainer is refused: You requested to check 0.01 of the `val_dataloader`"),
        ("+trainer.limit_train_batches=0", "Not one epoch was trained"),
        ("+trainer.val_check_interval=5000", "trainer is refused: `val_check_interval` .* must be less than or equal"),
        ("task.module.muon=abc", "task.module.muon is 'abc'"),
        ("task.module.muon=-1", "task.module.muon is -1"),
        ("seed=4294967296", "seed is 4294967296: Input should be less than 4294967296"),
        ("sweep_name='${nowhere}'", "The configuration is incomplete: .*nowhere"),
        ("task.early_stopping=2", "task.early_stopping looks at validations, and none but the last comes within 2"),
    ],
)
def test_settings_that_cannot_be_are_named(run_here, data, override, words):
    with pytest.raises(FashionError, match=words):
        run_here("task=classify", *data, "task.epochs=2", "trainer.check_val_every_n_epoch=3", override)


@pytest.mark.slow
def test_a_refused_command_leaves_the_settings_of_a_finished_run(tmp_path):
    (tmp_path / "run/.hydra").mkdir(parents=True)
    (tmp_path / "run/.hydra/config.yaml").write_text("seed: 7")
    (tmp_path / "run/metrics.json").write_text("{}")
    done = command("task=classify", "data=folder", "data.source=/nowhere", "hydra.run.dir=run", cwd=tmp_path)
    assert (done.returncode, "/nowhere" in done.stderr) == (1, True)
    assert (tmp_path / "run/.hydra/config.yaml").read_text() == "seed: 7"
    assert not (tmp_path / "run/.hydra-before").exists()


def test_early_stopping_needs_validations(run_here, data):
    with pytest.raises(FashionError, match="looks at validations, and trainer.limit_val_batches=0 leaves none"):
        run_here("task=classify", *data, "task.early_stopping=1", "+trainer.limit_val_batches=0")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("loss.margin=abc", "loss.margin is 'abc': Input should be a valid number"),
        (
            "loss._target_=fashion.losses.Nope",
            "loss is refused: Error loading 'fashion.losses.Nope': .*No module named",
        ),
        ("task.batches.pictures_per_class=2.5", "task.batches.pictures_per_class is 2.5"),
        ("task.batches.mode=mind", "task.batches.mode is 'mind': Input should be 'mined' or 'explicit'"),
    ],
)
def test_settings_of_triplets_that_cannot_be_are_named(run_here, data, override, words):
    with pytest.raises(FashionError, match=words):
        run_here("task=triplet", *data, "task.epochs=1", override)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.drawing.products=abc", "data.drawing.products is 'abc'"),
        ("+data.drawing.colour=3", "data.drawing.colour is 3: Unexpected"),
        ("data.drawing.seed=-1", "a seed of 0 at least"),
    ],
)
def test_drawings_that_cannot_be_are_named(run_here, tmp_path, override, words):
    with pytest.raises(FashionError, match=words):
        run_here("task=audit", "data=synthetic", f"data.source={tmp_path / 'drawn'}", override)


def test_what_nothing_can_be_found_for_is_noticed_before_the_training(run_here, tmp_path):
    root = write_pictures(tmp_path / "p", {"train": {"dress": 12, "hat": 12}, "validation": {"shoes": 3}})
    with pytest.raises(FashionError, match=r"No class of the validation pictures \(shoes\) has a training picture"):
        run_here("task=triplet", *SMALL, f"data.source={root}", "task.epochs=1")
    assert not (tmp_path / "out/checkpoints").exists()


def test_each_process_needs_a_batch(run_here, data, monkeypatch):
    monkeypatch.setattr("fashion.data.datamodules.rank_and_world_size", lambda: (0, 2))
    with pytest.raises(FashionError, match="data.batch_size is 20 for each of 2 processes, and there are 36"):
        run_here("task=classify", *data, "task.epochs=1", "data.batch_size=20")


def test_a_teacher_that_was_not_trained_is_named(run_here, data):
    with pytest.raises(FashionError, match="outputs/teacher-1 does not exist; .*experiment=teacher seed=1"):
        run_here("experiment=best", *data, "data.training_size=null", "task.epochs=1")


def test_what_is_asked_for_wrongly_is_noticed_before_the_evaluation(run_here):
    for override, words in (
        ("metrics=[acuracy]", "metrics names 'acuracy'"),
        ("baselines=[pixel]", "names 'pixel'"),
        ("metrics=[loo/map]", "names 'loo/map', which needs leave-one-out among protocols"),
        ("metrics=[leave-one-out/map]", "before the / stands one of gallery, loo, filtered"),
    ):
        with pytest.raises(FashionError, match=words):
            run_here("task=evaluate", "encoder=nowhere", "protocols=[gallery]", override)


def test_figures_that_have_no_value_are_noticed_and_the_others_kept(run_here, run_folder, tmp_path, caplog):
    drawn = ("data=synthetic", "data.drawing.products=30", "data.drawing.views=3", "data.classes=[dress,hat,shoes]")
    products = ("task=evaluate", *drawn, f"encoder={run_folder}", "relevance=product_id")  # none is in two splits
    with pytest.raises(FashionError, match="metrics names 'map', which has no value here"):
        run_here(*products, "protocols=[gallery]", "metrics=[map]")
    said = "No query has a picture of its product_id in the training gallery"
    assert f"{said}; try 'protocols=[leave-one-out]'." in caplog.text
    assert json.loads((tmp_path / "out/metrics.json").read_text())["metrics"]["gallery/unanswerable"] > 0
    caplog.clear()
    run_here(*products, "metrics=[map]")
    assert f"{said}." in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch_size", "warmup", "steps"),
    [(12, 0, 3), (18, 0.5, 2)],  # a warm-up of one step is none
)
def test_without_warm_up_the_rate_falls_from_the_first_step(run_here, data, batch_size, warmup, steps):
    settings = ("task.module.lr=0.01", f"task.module.warmup={warmup}", f"data.batch_size={batch_size}")
    run_here("task=classify", *data, "task.epochs=1", *settings, "trainer.log_every_n_steps=1")
    rates = [rate for _, rate in read_curves(Path("out"))["lr-Muon/mixing"]]
    along_a_cosine = [0.01 * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(1, steps + 1)]
    assert rates == pytest.approx(along_a_cosine, abs=1e-6)


def test_no_validation_pictures_are_noticed_before_the_training(run_here, tmp_path):
    root = write_pictures(tmp_path / "p", {"train": {"dress": 12, "hat": 12}})
    with pytest.raises(FashionError, match="has no validation pictures"):
        run_here("task=classify", *SMALL, f"data.source={root}", "task.epochs=1")
    assert not (tmp_path / "out/checkpoints").exists()


@pytest.mark.parametrize("task", ["classify", "triplet"])
def test_a_training_that_diverges_says_so(run_here, data, task):
    with pytest.raises(FashionError, match="diverged in epoch 1: .* lower task.module.lr"):
        run_here(f"task={task}", *data, "task.epochs=2", "task.module.lr=1e30")


@pytest.mark.slow
def test_a_run_goes_on_with_its_like_only(run_here, data, tmp_path):
    run_here("task=classify", *data, "task.epochs=1", out="first")
    for arguments, words in (
        (("task=classify", "task.epochs=1"), "has 1 epochs done already; raise task.epochs"),
        (("task=classify", "task.epochs=2", "model.stem=16"), "a run of another model"),
        (("task=classify", "task.epochs=2", "data.classes=[hat,dress,shoes]"), "a run of another data.classes"),
        (("task=triplet", "task.epochs=2"), "a run of another task"),
        (("task=classify", "task.epochs=2", "task.module.lr=0.1"), r"task.module.lr=0.012, not 0.1; .*task.pretrained"),
        (("task=classify", "task.epochs=2", "task.module.muon=null"), "task.module.muon=2.0, not null"),
        (("task=classify", "task.epochs=2", "task.ema=null"), "with task.ema=0.995, not null; .*add task.ema=0.995"),
        (("task=classify", "task.epochs=2", "task.ema=0.9"), "with task.ema=0.995, not 0.9"),
    ):
        with pytest.raises(FashionError, match=words):
            run_here(arguments[0], *data, *arguments[1:], f"resume={tmp_path / 'first'}", out="second")


@pytest.mark.slow
def test_a_folder_holds_one_run(run_here, data, tmp_path):
    for _ in range(2):
        run_here("task=classify", *data, "task.epochs=1", out="same")
    first, *others = sorted((tmp_path / "same").glob("events.*"))
    assert len(others) == 1  # the figures of the end have a file of their own
    assert first.stat().st_mtime > time.time() - 600
    with pytest.raises(FashionError, match="trainer is refused"):
        run_here("task=classify", *data, "task.epochs=1", "trainer.accelerator=tpu", out="same")
    assert (tmp_path / "same/checkpoints/last.ckpt").exists()  # a run that cannot start takes nothing away


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_go_on_and_can_be_searched(data, tmp_path):
    arguments = ("task=classify", *data, "task.epochs=5000", f"hydra.run.dir={tmp_path / 'run'}")
    process = interruptible(*arguments, cwd=tmp_path)
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    try:
        for _ in range(1800):
            if checkpoint.exists():
                break
            time.sleep(0.1)
        else:
            pytest.fail("no checkpoint was written in three minutes")
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=180)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert f"interrupted; it goes on with resume={tmp_path / 'run'}." in errors
    lengths = load_network(checkpoint)[0].axes.weight.norm(dim=1)
    assert lengths.max() / lengths.min() > 1.5  # fitted to the pictures: at random all are about as long


def test_help_explains_the_tasks_keys(tmp_path):
    printed = command("task=search", "--help", cwd=tmp_path).stdout
    assert "# only the best item of each value of this column" in printed
    assert "group_by: null" in printed
    assert command("task=serve", "--help", cwd=tmp_path).returncode == 0  # its file has ${…} in it


def test_a_sweep_without_m_and_a_value_to_quote_are_explained(tmp_path):
    done = command("task=classify", "data=synthetic", "sweep=size", f"hydra.run.dir={tmp_path}", cwd=tmp_path)
    assert (done.returncode, "error: sweep=size is many runs; add -m." in done.stderr) == (1, True)
    done = command("task=search", "filter=label = 'robe'", cwd=tmp_path)
    assert done.returncode == 1
    assert "quoted twice, once for the shell" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hush" not in command("task=serve", "server.api_key=hush (hush)", cwd=tmp_path).stderr


@pytest.mark.parametrize(("flags", "key"), [((), "hydra.run.dir"), (("-m",), "hydra.sweep.dir")])
def test_a_run_folder_that_cannot_be_made_is_a_sentence(tmp_path, flags, key):
    (tmp_path / "file").write_text("not a folder")
    done = command(*flags, "task=summary", f"{key}={tmp_path / 'file/run'}", cwd=tmp_path)
    assert done.returncode == 1
    assert f"choose another folder: {key}=" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_home_folder_is_no_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"hydra.run.dir is ~/runs, .*give the whole path"):
        make("~/runs", "hydra.run.dir")
    assert not list(tmp_path.iterdir())


def test_a_run_folder_that_is_read_only_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # as root, who runs tests in containers, may write all
    with pytest.raises(SystemExit, match="Permission denied.*hydra.run.dir"):
        make(str(tmp_path), "hydra.run.dir")


@pytest.mark.slow
def test_a_run_does_not_go_on_at_another_pace(run_here, data, tmp_path):
    run_here("task=classify", *data, "task.epochs=1", out="first")
    resume = ("task=classify", *data, "task.epochs=2", f"resume={tmp_path / 'first'}")
    with pytest.raises(FashionError, match="took 3 steps an epoch, and this one would take 2; give data.batch_size"):
        run_here(*resume, "data.batch_size=18", out="second")
    run_here(*resume, out="third")
    every = "trainer.check_val_every_n_epoch=2"  # its checkpoint is made before Lightning counts the epoch as done
    run_here("task=classify", *data, "task.epochs=4", every, out="long")
    best = f"resume={tmp_path / 'long/checkpoints/best.ckpt'}"
    run_here("task=classify", *data, "task.epochs=5", every, best, out="fourth")
    with pytest.raises(FashionError, match="steps an epoch"):
        run_here("task=classify", *data, "task.epochs=5", every, best, "data.batch_size=18", out="fifth")


def test_triplets_need_no_whole_batch_of_the_classifiers(run_here, data):
    few = ("data.batch_size=64", "task.epochs=1", "task.batches.pictures_per_class=2")
    run_here("task=triplet", *data, *few)
    with pytest.raises(FashionError, match="data.batch_size is 64, and there are 36 training pictures"):
        run_here("task=classify", *data, *few[:2])


def test_one_validation_picture_is_enough_for_a_report(run_here, pictures, tmp_path):
    for path in (pictures / "validation").glob("*/*.png"):
        if path.parent.name != "hat" or path.stem != "0":
            path.unlink()
    run_here("task=classify", *SMALL, f"data.source={pictures}", "task.epochs=1", out="one")
    assert (tmp_path / "one/report.html").exists()


def test_names_may_be_numbers(run_here, tmp_path):
    root = write_pictures(tmp_path / "2024", {"train": {"dress": 12, "hat": 12}, "val": {"dress": 2, "hat": 2}})
    for split in ("train", "val"):
        for number, name in enumerate(("dress", "hat")):
            (root / split / name).rename(root / split / str(number))
    run_here("task=classify", *SMALL, "data.source=2024", "data.classes=[1,0]", "task.epochs=1", out="3")
    run_here("task=index", "data=folder", "data.source=2024", "data.classes=[1,0]", "encoder=3", "catalog=4", out="5")
    run_here("task=search", "catalog=4", "query=2024/val/1/0.png", "k=99", out="6")
    (result,) = json.loads(Path("6/results.json").read_text())
    labels = [hit["label"] for hit in result["hits"]]
    assert labels[0] == "1"  # the picture itself
    assert set(labels) == {"0", "1"}


def test_pictures_outside_the_splits_are_mentioned(run_here, pictures, caplog):
    (pictures / "misc/hat").mkdir(parents=True)
    for at in range(3):
        shutil.copy(pictures / "test/hat/0.png", pictures / f"misc/hat/{at}.png")
    run_here("task=audit", "data=folder", f"data.source={pictures}")
    assert "3 pictures lie outside test, train, validation, and are left out (misc)" in caplog.text


def test_split_folders_may_be_links(pictures, tmp_path, caplog):
    linked = tmp_path / "linked"
    linked.mkdir()
    for split in ("train", "validation"):
        (linked / split).symlink_to(pictures / split)
    source = read_source("folder", str(linked), cache=tmp_path)
    assert len(source.items) == 48
    assert "left out" not in caplog.text


@pytest.mark.slow
def test_a_reader_who_leaves_takes_nothing_along(data, run_folder, tmp_path):
    """As `| head -1` does."""
    for arguments, written in (
        (("task=classify", *data, "task.epochs=2"), ("metrics.json", "report.html")),
        (
            ("task=evaluate", *data[1:3], *data[5:], f"encoder={run_folder}", "split=test"),
            ("metrics.json", "report.html"),
        ),
    ):
        out = tmp_path / arguments[0].removeprefix("task=")
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), *arguments, f"hydra.run.dir={out}"],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=200) == 0
        assert process.stderr is not None
        errors = process.stderr.read()
        process.stderr.close()
        assert "Traceback" not in errors
        assert "Logging error" not in errors
        for name in written:
            assert (out / name).exists()


def test_an_interrupted_task_says_what_is_kept(tmp_path):
    script = f"""if True:
        import runpy, sys
        import fashion.tasks.help as task
        def interrupted(cfg):
            raise KeyboardInterrupt
        task.run = interrupted
        sys.argv = ["run.py", "task=help"]
        runpy.run_path({str(ROOT / "run.py")!r}, run_name="__main__")"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "interrupted; what was finished is kept" in done.stderr
