"""Loaders and a trainer of one's own: what they may give, and what is said of what they should not."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ROOT, TINY
from pytorch_lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from fashion.classifier import ClassifierModule
from fashion.errors import FashionError
from fashion.retrieval import retrieval
from fashion.triplet import TripletModule

CLASSES = ["a", "b", "c"]


def trainer(**options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    few = {"max_epochs": 1, "accelerator": "cpu", "enable_checkpointing": False}
    return Trainer(**{**few, **quiet, **options})


def loader(labels: Sequence[int] = (0, 1, 2), count: int = 12, scale: float = 1.0) -> DataLoader[Any]:
    """Noise of 32×32 pixels, labelled in turns."""
    pictures = torch.randint(0, 256, (count, 3, 32, 32), generator=torch.Generator().manual_seed(count))
    shown = pictures.to(torch.uint8) if scale == 1 else pictures * scale
    return DataLoader(TensorDataset(shown, torch.tensor([*labels] * count)[:count]), batch_size=6)


def classifier() -> ClassifierModule:
    return ClassifierModule(TINY, CLASSES, 32)


def triplet(**options: Any) -> TripletModule:
    return TripletModule(TINY, CLASSES, 32, **options)


@pytest.mark.parametrize("scale", [1 / 255, 1 / 64])
def test_scaled_pictures_are_warned_of_once(caplog, scale):
    module = classifier()
    trainer(max_epochs=2).fit(module, loader(scale=scale), loader(scale=scale))
    assert caplog.text.count("and the network takes 0…255") == 1
    caplog.clear()
    trainer().fit(classifier(), loader(), loader())
    trainer().fit(classifier(), loader(scale=1.0001), loader(scale=1.0001))  # floats of 0…255
    assert "0…255" not in caplog.text


def test_a_second_loader_that_is_left_out_is_mentioned_and_a_third_refused(caplog):
    trainer().validate(classifier(), [loader(), loader()], verbose=False)
    assert caplog.text.count("ClassifierModule evaluates the pictures of the first loader") == 1
    for module in (classifier(), triplet()):
        with pytest.raises(FashionError, match="An evaluation has two loaders at most"):
            trainer().validate(module, [loader()] * 3, verbose=False)


def test_predictions_need_no_labels():
    pictures = loader().dataset.tensors[0]
    module = classifier().eval()
    expected, _ = module(pictures)
    for dataset in (pictures, TensorDataset(pictures)):
        (predicted,) = trainer().predict(module, DataLoader(dataset, batch_size=12))
        torch.testing.assert_close(predicted[0], expected)


def test_a_trainer_without_an_end_is_refused():
    with pytest.raises(FashionError, match="no last step, .*; set max_epochs or max_steps"):
        trainer(max_epochs=-1, max_time={"seconds": 60}).fit(classifier(), loader())


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(loader().dataset)


def test_a_loader_of_unknown_length_needs_a_last_step():
    with pytest.raises(FashionError, match="no last step, .* beside max_epochs limit_train_batches where the training"):
        trainer(max_epochs=2).fit(classifier(), DataLoader(Stream(), batch_size=6))
    for settings in ({"max_epochs": 2, "limit_train_batches": 2}, {"max_epochs": -1, "max_steps": 4}):
        known = trainer(**settings)
        known.fit(classifier(), DataLoader(Stream(), batch_size=6))
        assert known.global_step == 4


def kinds(module: TripletModule, pictures: Tensor) -> np.ndarray:
    with torch.no_grad():
        return module.eval().network.parts(pictures)[0].numpy()


def test_classes_that_are_not_trained_on_search_each_other():
    module = triplet(classification=0.0)
    others = loader((3, 4, 5))
    found = trainer().validate(module, others, verbose=False)[0]
    pictures, labels = others.dataset.tensors
    searched = kinds(module, pictures)
    expected = retrieval(searched, labels.numpy(), searched, labels.numpy(), exclude=np.arange(12)).summary()
    assert found == pytest.approx({f"val/{name}": expected[name] for name in ("top1", "top5", "mrr", "map")}, abs=1e-4)


def test_where_nothing_can_be_found_there_are_no_figures(caplog):
    one = trainer()
    one.fit(triplet(classification=0.0), loader(), [loader((3, 4, 5)), loader()])
    assert "val/map" not in one.callback_metrics
    assert "No evaluated picture has one of its class to find" in caplog.text


def test_labels_beyond_the_classes_are_a_sentence():
    for module in (triplet(), classifier()):
        with pytest.raises(FashionError, match="labelled 3 to 5, and there are 3 classes"):
            trainer().validate(module, [loader((3, 4, 5)), loader()], verbose=False)


def test_the_guides_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["engine"].encoder.looks_fitted
