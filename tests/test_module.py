"""The Lightning modules with a trainer of one's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import TINY
from pytorch_lightning import Trainer, seed_everything
from torch.utils.data import DataLoader, TensorDataset

from fashion.classifier import ClassifierModule
from fashion.data.datamodules import ImageDataModule
from fashion.data.triplets import TripletDataModule
from fashion.encoder import load_encoder
from fashion.errors import FashionError
from fashion.export.bundle import write_bundle
from fashion.network import load_network
from fashion.optim import Averaging
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
    loader = DataLoader(TensorDataset(pictures, labels), 8)
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


def test_a_triplet_module_without_a_gallery_says_so(images, tmp_path):
    with pytest.raises(FashionError, match="no second loader to make it from"):
        trainer(tmp_path).validate(TripletModule(TINY, CLASSES), images.evaluation_loader("validation"))
