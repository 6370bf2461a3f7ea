"""Every benchmark runs, at a size at which its figures mean nothing, and writes what it found."""

import json

import pytest
from helpers import command

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
