import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import onnxruntime as ort
import pytest
import torch
from helpers import GPU, ROOT, TINY, write_checkpoint
from PIL import Image

from fashion import VisualSearchEngine
from fashion.data.arrays import PictureArray
from fashion.data.sources import Item
from fashion.encoder import OnnxEncoder, TorchEncoder, load_encoder, softmax
from fashion.errors import FashionError
from fashion.export import bundle as bundle_module
from fashion.export import int8
from fashion.export.bundle import check_agreement, check_heads, write_bundle
from fashion.files import sha256
from fashion.model_files import figures_of, find_model


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 64, 64), dtype=np.uint8)


def test_torch_and_onnx_agree_and_share_a_fingerprint(run_folder, bundle):
    ours, theirs = load_encoder(run_folder), load_encoder(bundle)
    assert isinstance(ours, TorchEncoder)
    assert isinstance(theirs, OnnxEncoder)
    assert (ours.fingerprint, ours.class_names) == (theirs.fingerprint, theirs.class_names)
    for one, other in zip(ours(noise(70)), theirs(noise(70)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_network_runs_on_the_device_that_is_named(run_folder):
    encoder = load_encoder(run_folder, "meta")
    assert {parameter.device.type for parameter in encoder.network.parameters()} == {"meta"}
    assert encoder.fingerprint == load_encoder(run_folder).fingerprint


@GPU
def test_a_gpu_and_the_cpu_agree(run_folder):
    for one, other in zip(
        load_encoder(run_folder, "cuda")(noise(70)), load_encoder(run_folder)(noise(70)), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_each_answer_comes_as_a_network_of_its_own_too(bundle):
    embeddings, probabilities = load_encoder(bundle)(noise(3))
    embedder, classifier = (ort.InferenceSession(bundle / f"{name}.onnx") for name in ("embedder", "classifier"))
    np.testing.assert_allclose(embedder.run(["embedding"], {"pictures": noise(3)})[0], embeddings, atol=1e-6)
    (logits,) = classifier.run(None, {"pictures": noise(3)})
    np.testing.assert_allclose(softmax(logits), probabilities, atol=1e-6)
    assert sum(path.stat().st_size for path in (bundle / "classifier.onnx", bundle / "embedder.onnx")) < 2 * (
        bundle / "encoder.onnx").stat().st_size  # fmt: skip
    with pytest.raises(FashionError, match="gives logits only; search with encoder.onnx"):
        load_encoder(bundle / "classifier.onnx")


def test_classes_that_an_older_model_has_with_accents_apart_are_those_of_labels(run_folder, bundle, tmp_path):
    names = ["e\u0301te\u0301", "hat", "shoes"]
    old = write_checkpoint(tmp_path / "old/checkpoints/last.ckpt", tuple(names))
    shutil.copytree(bundle, tmp_path / "bundle")
    manifest = json.loads((bundle / "manifest.json").read_text())
    (tmp_path / "bundle/manifest.json").write_text(json.dumps(manifest | {"class_names": names}))
    for encoder in (load_encoder(old), load_encoder(tmp_path / "bundle")):
        assert encoder.class_names == ("\u00e9t\u00e9", "hat", "shoes")
    assert load_encoder(old).fingerprint not in (
        load_encoder(run_folder).fingerprint,
        load_encoder(write_checkpoint(tmp_path / "new/last.ckpt", ("\u00e9t\u00e9", "hat", "shoes"))).fingerprint,
    )  # catalogues of an old model note what it always was


def test_an_exported_network_forgets_the_machine_it_was_made_on(bundle):
    content = (bundle / "encoder.onnx").read_bytes()
    assert str(ROOT).encode() not in content
    assert b"network.py" not in content  # torch's exporter notes the source line of every node


@pytest.mark.parametrize("count", [0, 1, 65])
def test_any_number_of_pictures(run_folder, bundle, count):
    for encoder in (load_encoder(run_folder), load_encoder(bundle)):
        embeddings, probabilities = encoder(noise(count))
        assert embeddings.shape == (count, 64)
        assert probabilities.shape == (count, 3)
        np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_probabilities_of_large_logits_are_numbers():
    np.testing.assert_allclose(softmax(np.array([[1000.0, 0, -1000], [0, 0, 0]])), [[1, 0, 0], [1 / 3] * 3])


USED = """
import sys
from pathlib import Path
import numpy as np
from fashion.encoder import load_encoder
encoder = load_encoder(Path(sys.argv[1]))
encoder(np.zeros((1, 3, 64, 64), np.uint8))
"""


def test_using_a_model_leaves_and_sends_nothing(bundle, tmp_path):
    """ONNX Runtime writes an id of the machine and a queue of what it sends into the home folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    subprocess.run([sys.executable, "-c", USED, str(bundle)], env=kept | {"HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.rglob("*")) == []


def test_fingerprints_follow_weights_classes_and_settings(tmp_path):
    first, same = (TorchEncoder(write_checkpoint(tmp_path / f"{name}.ckpt")) for name in "ab")
    other = TorchEncoder(write_checkpoint(tmp_path / "c.ckpt", seed=1))
    renamed = TorchEncoder(write_checkpoint(tmp_path / "d.ckpt", class_names=("a", "b", "c")))
    assert first.fingerprint == same.fingerprint
    assert len({first.fingerprint, other.fingerprint, renamed.fingerprint}) == 3
    for setting, value in (("centre", 0.9), ("look", 0.5)):  # it sees other pixels, or weighs what it sees otherwise
        saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
        saved["hyper_parameters"][setting] = value
        torch.save(saved, tmp_path / "e.ckpt")
        assert TorchEncoder(tmp_path / "e.ckpt").fingerprint != first.fingerprint


def test_a_run_folder_means_the_checkpoint_its_metrics_name(tmp_path):
    for name in ("best", "last"):
        write_checkpoint(tmp_path / "checkpoints" / f"{name}.ckpt")
    assert find_model(tmp_path).name == "last.ckpt"
    (tmp_path / "metrics.json").write_text(json.dumps({"checkpoint": "best.ckpt"}))
    assert find_model(tmp_path).name == "best.ckpt"


def test_what_is_no_model_is_refused(tmp_path, pictures):
    with pytest.raises(FashionError, match="does not exist; name a run folder"):
        find_model(tmp_path / "nowhere")
    with pytest.raises(FashionError, match="holds no checkpoint or bundle"):
        find_model(pictures)
    for name, content in {"text.ckpt": b"not a checkpoint", "empty.ckpt": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FashionError, match=f"{name} is not a checkpoint of this project"):
            load_encoder(tmp_path / name)
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(FashionError, match="is not a checkpoint of this project"):
        load_encoder(tmp_path / "other.ckpt")


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("code of a checkpoint was run",))


def test_a_checkpoint_cannot_run_code(tmp_path):
    torch.save({"state_dict": {}, "hyper_parameters": {"backbone": TINY, "evil": Evil()}}, tmp_path / "evil.ckpt")
    with pytest.raises(FashionError, match="is not a checkpoint of this project"):
        load_encoder(tmp_path / "evil.ckpt")


def test_a_bundle_is_complete_and_describes_itself(bundle):
    assert {path.name for path in bundle.iterdir()} == {
        "encoder.onnx",
        "embedder.onnx",
        "classifier.onnx",
        "weights.safetensors",
        "manifest.json",
        "README.md",
    }
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["class_names"] == ["dress", "hat", "shoes"]
    assert manifest["training"]["backbone"] == TINY
    assert (bundle / "README.md").read_text().startswith("---\nlibrary_name: fashion")


def test_an_altered_bundle_is_refused(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "b")
    data = bytearray((copy / "encoder.onnx").read_bytes())
    data[-1] ^= 1
    (copy / "encoder.onnx").write_bytes(data)
    with pytest.raises(FashionError, match="changed or damaged after its export"):
        load_encoder(copy)
    (copy / "manifest.json").write_text("{}")
    with pytest.raises(FashionError, match="not the manifest of a bundle"):
        load_encoder(copy)


def test_an_export_that_disagrees_writes_nothing(run_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle_module, "TOLERANCE", -1.0)
    with pytest.raises(FashionError, match="differ from torch's"):
        write_bundle(run_folder / "checkpoints/last.ckpt", tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_figures_go_with_the_checkpoint_they_are_of(run_folder, tmp_path):
    run = shutil.copytree(run_folder, tmp_path / "run")
    shutil.copy(run / "checkpoints/last.ckpt", run / "checkpoints/best.ckpt")
    facts = {"checkpoint": "last.ckpt", "metrics": {"accuracy": 0.5}, "no_match": {"threshold": 0.7}}
    (run / "metrics.json").write_text(json.dumps(facts))
    assert load_encoder(run).no_match == 0.7
    assert load_encoder(run / "checkpoints/best.ckpt").no_match is None
    assert figures_of(run / "checkpoints/last.ckpt") == facts
    assert figures_of(run / "checkpoints/best.ckpt") is None


def test_other_neighbours_are_noticed_where_no_number_differs_by_much():
    query = np.full((64, 1), 1 / 8)
    axes = np.linalg.qr(np.hstack([query, np.random.default_rng(0).normal(size=(64, 63))]))[0]
    cosines = np.array([1.0] + [0.9] * 8 + [0.5, 0.4996])  # the last is the eleventh nearest to the first
    one = (cosines * query + np.sqrt(1 - cosines**2) * axes[:, 1:12]).T
    other = one.copy()
    other[10] += 0.9e-4  # which makes it the tenth
    logits = np.ones((11, 3))
    check_agreement((one, logits), (one, logits))
    with pytest.raises(FashionError, match="finds other neighbours"):
        check_agreement((one, logits), (other, logits))
    with pytest.raises(FashionError, match="exported logits differ .* by up to 0.5"):
        check_agreement((one, logits), (one, logits + 0.5))


def test_a_head_that_says_something_else_is_noticed(bundle):
    pictures = noise(3)
    embeddings, logits = OnnxEncoder(bundle).raw(pictures)
    check_heads(bundle, pictures, (embeddings, logits))
    for changed, name in (((embeddings + 0.01, logits), "embedder"), ((embeddings, logits + 1), "classifier")):
        with pytest.raises(FashionError, match=f"{name}.onnx differs"):
            check_heads(bundle, pictures, changed)


def test_int8_is_compared_on_all_pictures(bundle, tmp_path):
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    int8.quantized(folder / "encoder.onnx", folder / int8.NAME, noise(32))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][int8.NAME] = sha256(folder / int8.NAME)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    one, other = (OnnxEncoder(folder, file)(noise(60))[0] for file in ("encoder.onnx", int8.NAME))
    items = tuple(Item(f"{number}.png", "", "validation") for number in range(60))
    pictures = PictureArray(noise(60), np.arange(60) % 3, items, (), "")
    difference = np.abs(one - other)
    assert difference.max() > difference[0].max()
    assert int8.judge(folder, pictures, pictures).difference == pytest.approx(difference.max())


@pytest.mark.parametrize(
    ("speed", "accuracy", "top1", "kept"),
    [(2, 0.9, 0.8, True), (2, 0.896, 0.81, True), (2, 0.89, 0.8, False), (2, 0.9, 0.79, False), (1, 0.9, 0.8, False)],
)
def test_int8_is_kept_only_where_it_is_faster_and_as_good(tmp_path, monkeypatch, speed, accuracy, top1, kept):
    (tmp_path / int8.NAME).write_bytes(b"")
    figures = iter([(0.9, 0.8), (accuracy, top1)])

    def evaluated(*_, **__):
        named, found = next(figures)
        return SimpleNamespace(metrics={"accuracy": named, "gallery/top1": found}, embeddings=np.zeros((2, 64)))

    monkeypatch.setattr(int8, "OnnxEncoder", lambda *_, **__: None)
    monkeypatch.setattr(int8, "evaluate", evaluated)
    monkeypatch.setattr(int8, "interleaved", lambda *_, **__: {"fp32": None, "int8": None})
    monkeypatch.setattr(int8, "ratio", lambda *_: speed)
    pictures = SimpleNamespace(pictures=noise(2), labels=np.arange(2))
    assert int8.judge(tmp_path, pictures, pictures).kept is kept
    assert (tmp_path / int8.NAME).exists() is kept


def test_a_folder_that_is_no_bundle_is_not_overwritten(run_folder, pictures):
    with pytest.raises(FashionError, match="is no bundle, so it is not overwritten"):
        write_bundle(run_folder / "checkpoints/last.ckpt", pictures)


@pytest.mark.slow
def test_a_bundle_is_overwritten_unless_something_else_lies_beside_it(run_folder, bundle, tmp_path):
    folder = shutil.copytree(bundle, tmp_path / "hub")
    (folder / int8.NAME).write_bytes(b"an earlier export's")
    (folder / ".DS_Store").touch()
    write_bundle(run_folder / "checkpoints/last.ckpt", folder)
    assert {path.name for path in folder.iterdir()} == {path.name for path in bundle.iterdir()}
    (folder / ".git").mkdir()
    (folder / "NOTES.md").write_text("mine")
    with pytest.raises(FashionError, match=r"hub holds more than a bundle \(.git, NOTES.md\), which would be lost"):
        write_bundle(run_folder / "checkpoints/last.ckpt", folder)
    assert (folder / ".git").is_dir()
    assert (folder / "NOTES.md").read_text() == "mine"


def test_the_cards_code_needs_onnx_runtime_and_pillow_alone(bundle, tmp_path, monkeypatch):
    """It shows the network what the engine shows it, transparency and orientation too."""
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 255, (90, 130, 4), dtype=np.uint8), "RGBA")
    exif = Image.Exif()
    exif[0x0112] = 6  # lying on its side
    (tmp_path / "picture.jpg").write_bytes(b"")
    picture.save(tmp_path / "picture.jpg", "PNG", exif=exif)
    shutil.copy(bundle / "encoder.onnx", tmp_path)
    monkeypatch.chdir(tmp_path)
    card = (bundle / "README.md").read_text()
    code = next(block.partition("```")[0] for block in card.split("```python")[1:] if "InferenceSession" in block)
    found: dict = {}
    exec(code, found)
    engine = VisualSearchEngine(bundle)
    np.testing.assert_allclose(found["embedding"][0], engine.embed_image("picture.jpg"), atol=1e-5)
    label, probability = engine.classify("picture.jpg")[0]
    assert engine.encoder.class_names[int(found["probabilities"].argmax())] == label
    assert found["probabilities"].max() == pytest.approx(probability, abs=1e-5)
