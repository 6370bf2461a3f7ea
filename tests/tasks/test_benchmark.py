"""Every benchmark runs, at a size at which its figures mean nothing, and writes what it found."""

import json

import pytest
from helpers import command

from fashion.benchmark.models import rows
from fashion.benchmark.quality import learned
from fashion.errors import FashionError
from fashion.timing import interleaved, ratio

pytestmark = pytest.mark.slow


def figures(bundle, tmp_path, suite: str, *overrides: str):
    done = command("task=benchmark", f"suite={suite}", f"encoder={bundle}", "items=1000", "pictures=20", "rounds=3",
                   *overrides, f"hydra.run.dir={tmp_path}/b", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]
    return json.loads((tmp_path / "b/benchmark.json").read_text())["figures"]


def test_models(bundle, tmp_path):
    found = figures(bundle, tmp_path, "models", "models=[tiny,shufflenet_v2_x0_5]")
    assert found["tiny"]["parameters"] < found["shufflenet_v2_x0_5"]["parameters"]
    assert found["tiny"]["ONNX, 1 threads, one picture, as a multiple"] == 1
    assert found["tiny"]["ONNX int8, 1 threads, one picture ms"] > 0


def test_what_trainings_learned_stands_beside_the_speeds(bundle, tmp_path):
    for name, seed, accuracy in (("tiny", 1, 0.5), ("tiny", 2, 0.6), ("large", 1, 0.9), ("small", 1, None)):
        run = tmp_path / f"runs/{name}-{seed}"
        (run / ".hydra").mkdir(parents=True)
        settings = f"seed: {seed}\ntask: {{name: classify}}\nmodel: {{name: {name}}}\n"
        (run / ".hydra/config.yaml").write_text(settings)
        (run / "metrics.json").write_text(
            json.dumps({"gallery/top1": 0.4} | ({"accuracy": accuracy} if accuracy else {}))
        )
    found = figures(bundle, tmp_path, "models", "models=[small,tiny]", "runs=runs")
    assert found["tiny"]["accuracy"] == pytest.approx(0.55)
    assert found["tiny"]["accuracy sd"] == pytest.approx(0.0707, abs=1e-4)
    assert (found["small"]["gallery/top1"], "accuracy" in found["small"]) == (0.4, False)
    assert [row[0] for row in rows(found)][:2] == ["accuracy", "gallery/top1"]
    assert (tmp_path / "b/models.png").exists()


def test_trainings_of_one_model_with_several_settings_are_not_mixed(tmp_path):
    for name, lr in (("a", 0.1), ("b", 0.2)):
        (tmp_path / name / ".hydra").mkdir(parents=True)
        settings = f"seed: 1\ntask: {{name: classify, lr: {lr}}}\nmodel: {{name: tiny}}\n"
        (tmp_path / name / ".hydra/config.yaml").write_text(settings)
        (tmp_path / name / "metrics.json").write_text('{"accuracy": 0.5}')
    with pytest.raises(FashionError, match="several settings"):
        learned(tmp_path, ["tiny"])
    with pytest.raises(FashionError, match="no finished training of base"):
        learned(tmp_path, ["base"])


def test_embedding(bundle, tmp_path):
    assert figures(bundle, tmp_path, "embedding")["embed: pictures/s"] > 0


def test_catalog(bundle, tmp_path):
    found = figures(bundle, tmp_path, "catalog")
    assert found["flat, 64 queries: ours / raw"] > 0
    assert found["syncing 100 changes into 1,000 items s"] > 0


def test_approximate(bundle, tmp_path):
    rows = figures(bundle, tmp_path, "approximate")
    assert rows[0] == {**rows[0], "index": "flat", "recall@10": 1.0}
    assert (tmp_path / "b/recall.png").exists()


def test_evaluation(bundle, tmp_path):
    assert 0 < figures(bundle, tmp_path, "evaluation", "queries=50")["peak memory MiB, Python and all"] < 1024


def test_server(bundle, tmp_path):
    assert figures(bundle, tmp_path, "server")["one client, p50 ms"] > 0


def test_things_are_timed_in_turns():
    order: list[str] = []
    times = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, rounds=3, warm_up=1)
    assert order == ["a", "b"] * 4
    assert len(times["a"].seconds) == 3
    assert ratio(times["a"], times["a"]) == 1
