"""A training that goes on, or starts from another's weights: what it draws next, and what it takes over."""

import json
import re
import shutil

import pytest
import torch
import yaml
from helpers import ROOT, SMALL, TINY, write_checkpoint
from pytorch_lightning import Trainer

from fashion.checkpoints import load_network
from fashion.classifier import ClassifierModule
from fashion.data.datamodules import ImageDataModule
from fashion.errors import FashionError
from fashion.network import SiameseEncoder
from fashion.report.training import read_curves
from fashion.tasks.starting import warm_start
from fashion.triplet import TripletModule

PLAIN = ("data.augment=null", "trainer.check_val_every_n_epoch=5")


@pytest.fixture
def data(pictures) -> tuple[str, ...]:
    return (*SMALL, f"data.source={pictures}")


def record(monkeypatch: pytest.MonkeyPatch, kind: type) -> list[float]:
    """The mean brightness of each training batch, as it comes."""
    seen: list[float] = []
    step = kind.training_step

    def training_step(self, batch, batch_idx):
        seen.append(batch[0].float().mean().item())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(kind, "training_step", training_step)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_goes_on_draws_another_order(run_here, data, monkeypatch, workers):
    seen = record(monkeypatch, ClassifierModule)
    run = ("task=classify", *data, *PLAIN, f"data.num_workers={workers}")
    run_here(*run, "task.epochs=1", out="first")
    run_here(*run, "task.epochs=2", "resume=first", out="second")
    assert len(seen) == 6
    assert seen[:3] != seen[3:]


@pytest.mark.slow
def test_triplets_go_on_with_the_batches_that_come_next(run_here, data, monkeypatch):
    seen = record(monkeypatch, TripletModule)
    run = ("task=triplet", *data, *PLAIN, "task.batches.pictures_per_class=2")
    run_here(*run, "task.epochs=2", out="whole")
    whole = list(seen)
    seen.clear()
    run_here(*run, "task.epochs=1", out="first")
    run_here(*run, "task.epochs=2", "resume=first", out="second")
    assert seen == whole
    assert len(set(whole)) > len(whole) // 2


@pytest.mark.slow
def test_loaders_that_are_made_anew_draw_other_triplets(run_here, data, monkeypatch):
    seen = record(monkeypatch, TripletModule)
    run = ("task=triplet", *data, *PLAIN, "task.batches.pictures_per_class=2", "task.epochs=3")
    run_here(*run, "+trainer.reload_dataloaders_every_n_epochs=1")
    each = len(seen) // 3
    assert seen[:each] != seen[each : 2 * each] != seen[2 * each :] != seen[:each]


@pytest.mark.slow
def test_a_run_that_goes_on_started_where_it_first_did(run_here, data, tmp_path):
    run_here("task=classify", *data, "trainer=smoke", out="first")
    run_here("task=classify", *data, "trainer=smoke", "task.pretrained=first", out="run")
    goes_on = ("task=classify", *data, "trainer=smoke", "resume=run")
    for epochs, out, more in ((2, "again", ()), (3, "too", ("task.pretrained=gone",))):
        run_here(*goes_on, f"trainer.max_epochs={epochs}", *more, out=out)
        assert json.loads((tmp_path / out / "metrics.json").read_text())["pretrained"] == "first"


def test_classes_are_taken_over_by_their_names(tmp_path):
    checkpoint = write_checkpoint(tmp_path / "a.ckpt", ("dress", "hat", "shoes"))
    theirs = load_network(checkpoint)[0].directions
    torch.manual_seed(1)
    network = SiameseEncoder(TINY, 4)
    own = network.directions.detach().clone()
    warm_start(network, checkpoint, ["shoes", "belt", "hat", "dress"])
    assert torch.equal(network.directions[[0, 2, 3]], theirs[[2, 1, 0]])
    assert torch.equal(network.directions[1], own[1])  # nobody knows belts
    old = write_checkpoint(tmp_path / "b.ckpt", ("hat", "robe e\u0301te\u0301", "shoes"))  # accents apart
    warm_start(network, old, ["belt", "robe \u00e9t\u00e9", "hat", "dress"])
    assert torch.equal(network.directions[1], load_network(old)[0].directions[1])


@pytest.mark.slow
def test_validations_by_steps_still_end_with_one(run_here, data, tmp_path):
    by_steps = ("trainer.check_val_every_n_epoch=null", "+trainer.val_check_interval=2")
    run_here("task=classify", *data, "task.epochs=3", *by_steps, out="steps")  # 9 steps
    assert [step for step, _ in read_curves(tmp_path / "steps")["val/acc"]] == [1, 3, 5, 7, 8]


@pytest.mark.slow
@pytest.mark.parametrize(("more", "steps"), [((), 4), (("+trainer.accumulate_grad_batches=2",), 3), ((), 6)])
def test_the_last_step_is_validated(run_here, data, tmp_path, more, steps):
    ends = ("task.epochs=50", f"+trainer.max_steps={steps}", "task.early_stopping=2")
    run_here("task=classify", *data, *PLAIN, *ends, *more, out="steps")
    assert [step for step, _ in read_curves(tmp_path / "steps")["val/acc"]] == [steps - 1]
    assert json.loads((tmp_path / "steps/metrics.json").read_text())["checkpoint"] == "best.ckpt"


@pytest.mark.slow
def test_time_is_limited(run_here, data, tmp_path):
    limit = "+trainer.max_time='00:00:00:01'"
    run_here("task=classify", *data, "task.epochs=5000", limit, out="short")
    done = json.loads((tmp_path / "short/metrics.json").read_text())["epochs"]
    assert 1 <= done < 5000
    further = ("trainer.max_epochs=null", f"+trainer.max_steps={3 * done + 3}", "resume=short")
    run_here("task=classify", *data, *further, out="more")
    assert json.loads((tmp_path / "more/metrics.json").read_text())["epochs"] == done + 1


@pytest.mark.slow
def test_a_run_goes_on_with_the_pictures_and_the_loss_that_it_had(run_here, data, pictures, tmp_path, caplog):
    run = ("task=classify", *data, "task.epochs=1")
    run_here(*run, "data.fold=1/3", "task.module.mixup=0.5", "task.balance=true", out="first")
    goes_on = ("task=classify", *data, "task.epochs=2", "resume=first")
    again = "task.module.mixup=0.5 data.fold=1/3 task.balance=true"
    words = f"mixup=0.5, not 0.0, and data.fold=1/3, not null, and .*balance=true, not false; .*: add {again}, or"
    with pytest.raises(FashionError, match=words):
        run_here(*goes_on, out="second")
    caplog.clear()
    here = f"data.source={pictures.parent}/./{pictures.name}"  # the same, named otherwise
    run_here(*goes_on, *again.split(), here, "data.augment.flip=0", "seed=2", out="second")
    assert "trained with seed=1, not 2, and data.augment.flip=0.5, not 0; it goes on with the new." in caplog.text
    caplog.clear()
    shutil.copytree(pictures, tmp_path / "moved")
    run_here(*goes_on, *again.split(), "data.source=moved", out="third")
    assert f"data.source={pictures}, not {tmp_path / 'moved'}; it goes on with the new." in caplog.text
    old = torch.load(tmp_path / "first/checkpoints/last.ckpt", weights_only=True)  # of before settings were noted
    del old["settings"], old["hyper_parameters"]["look"]
    torch.save(old, tmp_path / "old.ckpt")
    with pytest.raises(FashionError, match=r"with task.module.mixup=0.5, not 0.0; .*: add task.module.mixup=0.5, or"):
        run_here(*goes_on[:-1], "resume=old.ckpt", "task.module.look=0.5", out="fourth")
    run_here(*goes_on[:-1], "data.fold=2/3", "task.module.mixup=0.5", "resume=old.ckpt", out="fourth")


@pytest.mark.slow
def test_a_triplet_run_goes_on_with_its_loss(run_here, data):
    run = ("task=triplet", *data, "loss._target_=pytorch_metric_learning.losses.TripletMarginLoss", "~loss.miner")
    run_here(*run, "task.epochs=1", "loss.margin=0.5", "+loss.swap=true", out="first")
    words = r"loss.margin=0.5, not 1.0, and loss.swap=true, which is left out now; .*: add (.*), or start from"
    with pytest.raises(FashionError, match=words) as refused:
        run_here(*run, "task.epochs=2", "resume=first", out="second")
    again = re.search(words, str(refused.value))[1].split()
    run_here(*run, "task.epochs=2", "resume=first", *again, out="second")


def test_a_run_goes_on_from_a_checkpoint_of_ones_own_trainer(run_here, data, pictures, tmp_path):
    images = ImageDataModule("folder", pictures, cache_dir=tmp_path / "cache", image_size=32, batch_size=12)
    module = ClassifierModule(yaml.safe_load((ROOT / "conf/model/tiny.yaml").read_text()), images.class_names, 32)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, **quiet)
    trainer.fit(module, images)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    run = ("task=classify", *data, "task.epochs=2", f"resume={tmp_path / 'own.ckpt'}")
    with pytest.raises(FashionError, match="trained with task.ema=null, not 0.995; .*add task.ema=null"):
        run_here(*run, out="averaged")
    run_here(*run, "task.ema=null", out="more")
    assert json.loads((tmp_path / "more/metrics.json").read_text())["epochs"] == 2
