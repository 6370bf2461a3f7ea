"""Two processes on the CPU train as one: every picture counts once, and both end with the same weights."""

import json
import subprocess
import sys

import pytest
from helpers import ROOT, SMALL, command

pytestmark = pytest.mark.slow

TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.devices=2", "task.epochs=2")


@pytest.mark.parametrize(
    ("task", "more"),
    [
        ("classify", ()),
        ("triplet", ("task.batches.pictures_per_class=2",)),
        ("triplet", ("task.batches.mode=explicit", "loss.miner=given", "task.module.classification=0")),
    ],
)  # fmt: skip
def test_two_processes_train_and_evaluate_every_picture_once(task, more, pictures, tmp_path):
    out = tmp_path / "run"
    done = command(f"task={task}", *SMALL, f"data.source={pictures}", "model=tiny", *TWO, "data.batch_size=6", *more,
                   f"cache_dir={tmp_path}/cache", f"hydra.run.dir={out}", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "sync_dist" not in done.stderr
    content = json.loads((out / "metrics.json").read_text())
    assert content["pictures"] == 12  # all validation pictures, none twice
    assert content["epochs"] == 2
    assert sum(map(sum, content["confusion"])) == 12


def test_processes_that_torchrun_starts_make_one_run(pictures, tmp_path):
    """Each names a folder by the moment; the first one's stays."""
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", ROOT / "run.py",
         "task=classify", *SMALL, f"data.source={pictures}", *TWO, "data.batch_size=6", f"cache_dir={tmp_path}/cache"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (config,) = tmp_path.glob("outputs/classify/*/.hydra/config.yaml")
    content = json.loads((config.parents[1] / "metrics.json").read_text())
    assert (content["pictures"], content["epochs"]) == (12, 2)


def test_a_multirun_may_spawn_its_processes(pictures, tmp_path):
    """The way out that the refusal of others names."""
    done = command("-m", "task=classify", *SMALL, f"data.source={pictures}", *TWO, "trainer.strategy=ddp_spawn",
                   "seed=1,2", "sweep_name=s", "data.batch_size=6", f"cache_dir={tmp_path}", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for job in (0, 1):
        content = json.loads((tmp_path / f"outputs/sweeps/s/{job}/metrics.json").read_text())
        assert content["epochs"] == 2
        assert content["train_seconds"] > 0
