"""Multiruns that are cut off, fail, run in parallel, or learn from their jobs."""

import contextlib
import json
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from helpers import SMALL, command, interruptible
from omegaconf import OmegaConf

from fashion.errors import FashionError
from fashion.tasks.multirun import reason

pytestmark = pytest.mark.slow


@pytest.fixture
def swept(pictures, tmp_path) -> tuple[str, ...]:
    return ("-m", "task=classify", *SMALL, f"data.source={pictures}", "model=tiny", "trainer=smoke",
            f"cache_dir={tmp_path}/cache")  # fmt: skip


def changed(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/metrics.json")}


def test_finished_jobs_are_skipped_and_the_others_run(swept, tmp_path):
    run = (*swept, "sweep_name=s", "seed=1,2")
    assert command(*run, cwd=tmp_path).returncode == 0
    folder = tmp_path / "outputs/sweeps/s"
    before = changed(folder)
    (folder / "1/finished.json").unlink()  # as a kill in the middle of the second leaves it
    again = command(*run, cwd=tmp_path)
    assert again.returncode == 0
    assert "Job 0 had finished already" in again.stdout
    after = changed(folder)
    assert after["0"] == before["0"]
    assert after["1"] > before["1"]
    assert len(json.loads((folder / "runs.json").read_text())) == 2
    noted = [OmegaConf.load(folder / f"0/.hydra/{name}.yaml") for name in ("config", "overrides")]
    other = command(*run, "task.module.lr=0.001", cwd=tmp_path)  # other settings: not the same job
    assert other.returncode == 1
    assert "s/0 holds a finished job of other settings" in other.stderr
    assert changed(folder) == after
    assert [OmegaConf.load(folder / f"0/.hydra/{name}.yaml") for name in ("config", "overrides")] == noted


def test_jobs_run_side_by_side(swept, tmp_path):
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    done = command(*swept, "sweep_name=j", "seed=1,2", *joblib, "data.num_workers=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(changed(tmp_path / "outputs/sweeps/j")) == 2


def test_jobs_side_by_side_are_interrupted_in_one_line(swept, tmp_path):
    swept = [one for one in swept if one != "trainer=smoke"]
    long = ("task.epochs=5000", "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "sweep_name=i")
    process = interruptible(*swept, *long, cwd=tmp_path, start_new_session=True)  # Ctrl-C reaches a group
    try:
        for _ in range(1800):
            if any((tmp_path / "outputs/sweeps/i").glob("*/checkpoints/last.ckpt")):
                break
            time.sleep(0.1)
        else:
            pytest.fail("neither job has written a checkpoint in three minutes")
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=180)
    finally:
        with contextlib.suppress(ProcessLookupError):  # all have ended
            os.killpg(process.pid, signal.SIGKILL)  # its workers too
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1].startswith("interrupted; the same command with the sweep_name of its folder goes on")
    assert "Traceback" not in errors


def test_optuna_keeps_its_study_and_survives_a_diverging_trial(swept, tmp_path):
    (tmp_path / "outputs/sweeps").mkdir(parents=True)
    run = (*swept, "sweep=optuna", "hydra.sweeper.n_trials=2", "task.epochs=1")
    done = command(*run, "hydra.sweeper.params={task.module.lr: 'choice(1e30,0.001)'}", cwd=tmp_path)
    assert "Traceback" not in done.stderr  # a trial that diverges is a failed one, and the study goes on
    with sqlite3.connect(tmp_path / "outputs/sweeps/optuna.db") as database:
        count = "select count(*) from trials where state = 'COMPLETE'"
        assert database.execute(count).fetchone() == (2,)
        again = command(*run, "hydra.sweeper.params={task.module.lr: 'choice(1e30,0.001)'}", cwd=tmp_path)
        assert "Traceback" not in again.stderr
        assert database.execute(count).fetchone() == (4,)


def test_the_error_behind_an_error_is_told_first():
    errors = []
    for told in (RuntimeError("clearing up failed"), FashionError("a sentence")):
        try:
            try:
                raise KeyError("gone")
            except KeyError:
                raise told  # noqa: B904
        except Exception as error:
            errors.append(reason(error))
    assert errors == ["KeyError: 'gone' (and then: clearing up failed)", "a sentence"]
    assert reason(ValueError("alone")) == "alone"


def test_jobs_without_figures_are_no_failures_and_are_skipped_too(tmp_path):
    run = ("-m", "task=summary", "model=tiny,small", "sweep_name=s")
    for words in ("2 runs", "Job 1 had finished already"):
        done = command(*run, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert words in done.stdout
        assert "best" not in done.stdout
    (tmp_path / "outputs/sweeps/s/0/finished.json").write_text("3")  # tells of no job
    done = command(*run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Job 0 had finished already" not in done.stdout
