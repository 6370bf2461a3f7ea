"""The model that comes with the package: small, ready, and as good as it says."""

import json
import os

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image

from fashion import VisualSearchEngine
from fashion.encoder import load_encoder
from fashion.evaluation import evaluate
from fashion.export.card import figures
from fashion.model_files import PRETRAINED

CLOTHING = os.environ.get("FASHION_CLOTHING")


def test_it_is_small_and_whole():
    sizes = {path.name: path.stat().st_size for path in PRETRAINED.iterdir()}
    assert {"encoder.onnx", "weights.safetensors", "manifest.json", "README.md"} <= sizes.keys()
    assert sum(sizes.values()) <= 4_000_000


def test_it_needs_no_training_and_no_network(tmp_path, pictures):
    engine = VisualSearchEngine()
    engine.embed_dataset(pictures)
    (result,) = engine.search(pictures / "test/hat/0.png", k=3)
    assert len(result.hits) == 3
    assert result.match is not None
    assert len(engine.encoder.class_names) == 10
    assert engine.embed_image(Image.new("RGB", (90, 60))) @ engine.embed_image(Image.new("RGB", (9, 9))) <= 1.0001


def test_its_int8_network_searches_what_the_other_embedded(pictures, tmp_path):
    engine = VisualSearchEngine()
    engine.embed_dataset(pictures)
    engine.catalog.write(tmp_path / "shop")
    quick = VisualSearchEngine("pretrained-int8", tmp_path / "shop")
    assert quick.encoder.source.name == "encoder.int8.onnx"
    query = pictures / "test/hat/0.png"
    assert quick.embed_image(query) @ engine.embed_image(query) > 0.95
    assert quick.search(query)[0].hits


def test_its_weights_can_be_trained_on(run_here, pictures, tmp_path):
    data = ("data=folder", f"data.source={pictures}", "data.batch_size=12", "task.batches.pictures_per_class=2")
    run_here("task=triplet", "model=base", *data, "trainer=smoke", "task.pretrained=pretrained", out="tuned")
    assert (tmp_path / "tuned/checkpoints/last.ckpt").exists()


def test_a_card_has_figures_without_intervals_too():
    """As of pictures of one photographer, from which no interval can be taken."""
    values = {"accuracy": 0.875, "gallery/top1": 0.5, "loo/map": None}
    assert figures({"metrics": {"metrics": values, "intervals_95": {}}}).splitlines()[2:] == [
        "| accuracy | 0.875 | – |",
        "| gallery/top1 | 0.500 | – |",
    ]
    some = figures({"metrics": {"metrics": values, "intervals_95": {"accuracy": [0.8, 0.9]}}})
    assert some.splitlines()[2:] == ["| accuracy | 0.875 | 0.800 – 0.900 |"]
    assert figures({"metrics": {}}) == "Not evaluated."


def test_its_card_says_what_the_manifest_says():
    manifest = json.loads((PRETRAINED / "manifest.json").read_text())
    card = (PRETRAINED / "README.md").read_text()
    assert f"{manifest['metrics']['metrics']['accuracy']:.3f}" in card
    assert "Limits" in card
    assert str(ROOT) not in card + json.dumps(manifest)
    for network in PRETRAINED.glob("*.onnx"):  # torch's exporter notes the source line of every node
        assert b"/src/fashion/" not in network.read_bytes()


@pytest.mark.skipif(not CLOTHING, reason="FASHION_CLOTHING names no archive or folder of the clothing dataset")
def test_its_recorded_figures_come_out_again(composed):
    from hydra.utils import instantiate

    data = instantiate(composed("task=evaluate", f"data.source={CLOTHING}").data)
    encoder = load_encoder(PRETRAINED)
    found = evaluate(encoder, data.array("validation"), data.array("train")).metrics
    recorded = json.loads((PRETRAINED / "manifest.json").read_text())["metrics"]["metrics"]
    for name in ("accuracy", "gallery/top1", "gallery/top5", "gallery/map", "loo/top1", "loo/map"):
        np.testing.assert_allclose(found[name], recorded[name], atol=1e-6, err_msg=name)
