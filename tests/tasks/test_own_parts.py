"""Backbones and data of one's own, named on the command line."""

import json

import pytest
from helpers import SMALL
from own import Plain

from fashion.backbone import BACKBONES
from fashion.checkpoints import load_network
from fashion.encoder import load_encoder
from fashion.errors import FashionError


@pytest.fixture
def data(pictures) -> tuple[str, ...]:
    return (*SMALL, f"data.source={pictures}", "task.epochs=1")


def test_a_backbone_of_ones_own_is_trained_and_read_by_its_name(run_here, data, tmp_path, monkeypatch):
    monkeypatch.setitem(BACKBONES, "plain", Plain)
    own = ("~model", "+model.name=plain", "+model.widths=[8,16,24,32]")
    run_here("task=classify", *data[1:], *own, out="own")
    checkpoint = tmp_path / "own/checkpoints/last.ckpt"
    network, _ = load_network(checkpoint)
    assert isinstance(network.backbone, Plain)
    assert network.kind.in_features == 32
    assert load_encoder(checkpoint).looks_fitted
    monkeypatch.delitem(BACKBONES, "plain")
    with pytest.raises(FashionError, match=r"last\.ckpt: model\.name is 'plain'; choose from resnet18"):
        load_network(checkpoint)


def test_a_network_that_its_settings_do_not_describe_is_refused_before_the_training(run_here, data, tmp_path):
    with pytest.raises(
        FashionError, match=r"not the one that model.name=tiny stands for \(backbone.layers.* differs\)"
    ):
        run_here("task=classify", *data, "task.module._target_=own.PutIn", out="own")
    assert not (tmp_path / "own/checkpoints").exists()


def test_data_of_ones_own_are_read_by_a_subclass(run_here, data, pictures, tmp_path):
    rows = [
        {"file": path.relative_to(pictures).as_posix(), "is": path.parent.name, "part": path.parts[-3]}
        for path in sorted(pictures.glob("*/*/*.png"))
    ]
    (pictures / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = ("data._target_=own.JsonLines", "data.kind=jsonl", f"data.source={pictures / 'list.jsonl'}")
    run_here("task=classify", *data, *own, "data.classes=[hat,dress]", out="own")
    _, hparams = load_network(tmp_path / "own/checkpoints/last.ckpt")
    assert hparams["class_names"] == ["hat", "dress"]


@pytest.mark.parametrize("task", ["classify", "triplet"])
def test_data_that_tasks_cannot_use_are_a_sentence(run_here, task):
    with pytest.raises(FashionError, match="data is of type Other, and tasks need an ImageDataModule"):
        run_here(f"task={task}", "~data", "+data._target_=own.Other")
