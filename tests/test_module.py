"""The Lightning modules with a trainer of one's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import TINY
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.loggers import TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fashion.callbacks import Averaging
from fashion.checkpoints import check_rebuilt, load_network, offline
from fashion.classifier import ClassifierModule
from fashion.data.datamodules import ImageDataModule
from fashion.data.transforms import shrunk
from fashion.data.triplets import TripletDataModule
from fashion.encoder import load_encoder
from fashion.errors import FashionError
from fashion.export.bundle import write_bundle
from fashion.report.tensorboard import FirstBatch
from fashion.tasks.training import fit_looks_in
from fashion.triplet import TripletModule

CLASSES = ["dress", "hat", "shoes"]


def trainer(folder: Path, **options: Any) -> Trainer:
    seed_everything(1, verbose=False)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 1}
    return Trainer(**{"max_epochs": 1, "accelerator": "cpu", "default_root_dir": folder, **quiet, **options})


@pytest.fixture
def images(pictures, tmp_path) -> ImageDataModule:
    return ImageDataModule("folder", pictures, cache_dir=tmp_path / "cache", batch_size=12, augment={})


def axes(checkpoint: Path) -> torch.Tensor:
    return load_network(checkpoint)[0].axes.weight


@pytest.mark.parametrize("kind", ["classifier", "triplet"])
def test_looks_are_fitted_when_a_training_ends(images, tmp_path, kind, caplog):
    if kind == "classifier":
        module, data = ClassifierModule(TINY, CLASSES), images
    else:
        module, data = TripletModule(TINY, CLASSES), TripletDataModule(images, pictures_per_class=4)
    one = trainer(tmp_path)
    one.fit(module, datamodule=data)
    during, after = Path(one.checkpoint_callback.best_model_path), tmp_path / "after.ckpt"
    one.save_checkpoint(after)
    expected = load_network(during)[0]
    expected.fit_looks([torch.from_numpy(np.array(images.array("train").pictures))])
    torch.testing.assert_close(axes(after), expected.axes.weight, atol=1e-3, rtol=1e-3)
    load_encoder(after)
    assert "its looks are random" not in caplog.text
    load_encoder(during)  # as a run that was killed leaves its own
    assert "its looks are random and searches are worse; end it with resume=" in caplog.text
    with pytest.raises(FashionError, match="its looks are random"):
        write_bundle(during, tmp_path / "bundle")


def test_looks_are_fitted_to_loaders_of_ones_own(tmp_path):
    pictures, labels = torch.randint(0, 256, (40, 3, 64, 64), dtype=torch.uint8), torch.arange(40) % 3
    loader = DataLoader(TensorDataset(pictures, labels), batch_size=8)
    module, one = ClassifierModule(TINY, CLASSES), trainer(tmp_path, callbacks=[Averaging(0.9)])
    one.fit(module, loader, loader)
    one.save_checkpoint(tmp_path / "after.ckpt")
    expected, hparams = load_network(tmp_path / "after.ckpt")
    fitted = expected.axes.weight.clone()
    expected.fit_looks([pictures])
    torch.testing.assert_close(fitted, expected.axes.weight, atol=1e-3, rtol=1e-3)
    assert hparams["looks_fitted"]


@pytest.mark.parametrize("kind", ["classifier", "triplet"])
def test_a_test_a_prediction_and_a_checkpoint_are_lightnings_own(images, tmp_path, kind):
    if kind == "classifier":
        kind_of, data, scores = ClassifierModule, images, {"test/acc", "test/f1", "test/loss"}
    else:
        kind_of, data, scores = TripletModule, TripletDataModule(images), {"test/acc", "test/map", "test/top1"}
    module, one = kind_of(TINY, CLASSES), trainer(tmp_path)
    found = one.test(module, data, verbose=False)[0]
    assert scores <= found.keys()
    expected, probabilities = module.eval()(torch.from_numpy(np.array(images.array("test").pictures)))
    assert found["test/acc"] == pytest.approx(np.mean(probabilities.argmax(1).numpy() == images.array("test").labels))
    ((embeddings, named),) = one.predict(module, data)
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(named, probabilities.softmax(1), atol=1e-5, rtol=1e-5)
    one.save_checkpoint(tmp_path / "one.ckpt")
    again = kind_of.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    assert torch.equal(again.network.kind.weight, module.network.kind.weight)


def test_a_checkpoint_of_before_the_looks_were_fitted_says_so_and_can_be_mended(images, tmp_path, caplog):
    module, one = ClassifierModule(TINY, CLASSES), trainer(tmp_path)
    one.fit(module, datamodule=images)
    fitted = module.network.axes.weight.clone()
    one.predict(module, images)
    assert "its looks are random" not in caplog.text
    best = one.checkpoint_callback.best_model_path
    one.predict(module, images, ckpt_path=best, weights_only=True)
    assert f"{best}: its training did not end, so that its looks are random" in caplog.text
    caplog.clear()
    again = ClassifierModule.load_from_checkpoint(best, weights_only=True)
    assert "ClassifierModule: its training did not end, so that its looks are random" in caplog.text
    again.fit_looks(images.evaluation_loader("train"))
    torch.testing.assert_close(again.network.axes.weight, fitted, atol=1e-3, rtol=1e-3)
    assert again.looks_fitted


class Compiled(ClassifierModule):
    """A classifier whose network is compiled."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.network = torch.compile(self.network, backend="eager")


def test_a_compiled_network_trains_and_its_checkpoints_are_read_without_compiling(images, tmp_path):
    module = Compiled(TINY, CLASSES)
    board = TensorBoardLogger(tmp_path, log_graph=False)
    one = trainer(tmp_path, logger=board, callbacks=[FirstBatch(), Averaging(0.9)])
    one.fit(module, datamodule=images)
    one.save_checkpoint(tmp_path / "after.ckpt")
    network, hparams = load_network(tmp_path / "after.ckpt")
    assert hparams["looks_fitted"]
    for name, value in module.network.state_dict().items():
        assert torch.equal(network.state_dict()[name.removeprefix("_orig_mod.")], value), name
    # As a task does when its training ends.
    fit_looks_in(tmp_path / "after.ckpt", images.array("validation"), torch.device("cpu"))
    again = Compiled.load_from_checkpoint(tmp_path / "after.ckpt", weights_only=True)
    assert torch.equal(again.network.axes.weight, axes(tmp_path / "after.ckpt"))
    assert not torch.equal(again.network.axes.weight, module.network.axes.weight)


class Proxies(nn.Module):
    """A loss that learns a direction a class."""

    def __init__(self) -> None:
        super().__init__()
        self.proxies = nn.Parameter(torch.randn(len(CLASSES), 32))

    def forward(self, kinds: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(kinds @ self.proxies.T, labels)


def test_a_loss_that_learns_is_named_when_its_checkpoint_is_loaded(tmp_path):
    module, one = TripletModule(TINY, CLASSES, loss=Proxies()), trainer(tmp_path)
    one.strategy.connect(module)
    one.save_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    with pytest.raises(FashionError, match=r"loss has learned loss\.proxies, .*load_from_checkpoint\(path, loss="):
        TripletModule.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    again = TripletModule.load_from_checkpoint(tmp_path / "one.ckpt", loss=Proxies(), weights_only=True)
    assert torch.equal(again.loss.proxies, module.loss.proxies)


class OwnStep(TripletModule):
    """Triplets by a training step of its own."""

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> torch.Tensor:
        return self.loss(self.network.parts(batch[0])[0], batch[1])


def test_a_triplet_module_may_have_a_training_step_of_its_own(images, tmp_path):
    module, one = OwnStep(TINY, CLASSES), trainer(tmp_path)
    one.fit(module, datamodule=TripletDataModule(images, pictures_per_class=4))
    assert one.current_epoch == 1
    assert not module.collapsed


def test_pictures_of_several_classes_weigh_as_much_as_their_shares():
    module = ClassifierModule(TINY, CLASSES, class_weights=[1.0, 2.0, 5.0], label_smoothing=0.0)
    logits, shares = torch.randn(4, 3), torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.4, 0.6], [1.0, 0, 0], [0.2, 0.2, 0.6]])
    losses = -(shares * logits.log_softmax(1)).sum(1)
    expected = (losses * torch.tensor([1.5, 3.8, 1.0, 3.6])).mean()
    torch.testing.assert_close(module.naming_loss(logits, shares), expected)
    assert "class_weights" not in module.state_dict()  # they are of the data, not of the model


def test_looks_are_fitted_to_pictures_as_the_network_sees_them():
    one, other = ClassifierModule(TINY, CLASSES), ClassifierModule(TINY, CLASSES)
    other.load_state_dict(one.state_dict())
    large, labels = torch.randint(0, 256, (20, 3, 128, 128), dtype=torch.uint8), torch.zeros(20)
    one.fit_looks([(large, labels)])
    other.fit_looks([(shrunk(large, 64), labels)])
    torch.testing.assert_close(one.network.axes.weight, other.network.axes.weight, atol=1e-4, rtol=1e-4)
    one.on_train_start()  # once more
    saved: dict[str, Any] = {"state_dict": {}}
    one.on_save_checkpoint(saved)
    assert not saved["looks_fitted"]


def test_a_network_is_made_again_without_changing_random_numbers():
    module = ClassifierModule(TINY, CLASSES)
    before = torch.get_rng_state()
    check_rebuilt(module.network, module.hparams)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_that_is_read_downloads_no_weights():
    given = {"backbone": {"name": "resnet18", "weights": "DEFAULT"}, "image_size": 64}
    assert offline(given) == {"backbone": {"name": "resnet18", "weights": None}, "image_size": 64}
    assert offline({"backbone": TINY}) == {"backbone": TINY}
