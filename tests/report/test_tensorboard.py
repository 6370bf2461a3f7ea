"""A real TensorBoard in a real browser shows what our runs log."""

import io
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import needs_browser, page
from helpers import SMALL
from PIL import Image

pytestmark = [needs_browser, pytest.mark.slow]


@pytest.fixture
def board(run_here, pictures, tmp_path) -> Iterator[str]:
    for seed in (1, 2):
        run_here("task=classify", *SMALL, f"data.source={pictures}", "task.epochs=2", f"seed={seed}", out=f"logs{seed}")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path), "--port", "0"]
    with (tmp_path / "board.log").open("w+") as log:
        process = subprocess.Popen([*command, "--host", "127.0.0.1"], stdout=log, stderr=log)
        try:
            yield address(tmp_path / "board.log")
        finally:
            process.terminate()
            process.wait(20)


def address(log: Path) -> str:
    for _ in range(240):
        for word in log.read_text().split():
            if word.startswith("http://127.0.0.1"):
                urllib.request.urlopen(word).close()
                return word.rstrip("/")
        time.sleep(0.25)
    raise AssertionError(log.read_text())


def test_scalars_hparams_pictures_graph_and_projector(board):
    """What the tabs draw is asked for as they ask for it; much of TensorBoard's page hides its text from a driver."""
    with page(viewport={"width": 1400, "height": 1000}) as opened:
        opened.goto(f"{board}/#timeseries")
        opened.wait_for_selector("text=All", timeout=60_000)
        tabs = opened.inner_text("body").upper()
        for tab in ("TIME SERIES", "SCALARS", "IMAGES", "GRAPHS", "HPARAMS"):
            assert tab in tabs.partition("INACTIVE")[0]

        def ask(path: str):
            response = opened.request.get(f"{board}/data/plugin/{path}")
            assert response.ok, path
            return response

        runs = {run for run, tags in ask("scalars/tags").json().items() if "val/acc" in tags and "train/loss" in tags}
        assert runs == {"logs1", "logs2"}
        for tags in (tags for run, tags in ask("images/tags").json().items() if run in runs):
            assert {"train/first_batch", "final/confusion", "final/worst_queries"} <= tags.keys()
        assert ask("graphs/info").json()["logs1"]["run_graph"]
        asked = {"experimentName": "", "colParams": [], "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS"],
                 "startIndex": 0, "sliceSize": 10}  # fmt: skip
        groups = opened.request.post(f"{board}/data/plugin/hparams/session_groups", data=asked).json()["sessionGroups"]
        assert len(groups) == 2
        names = {value["name"]["tag"] for group in groups for value in group["metricValues"]}
        assert {"final/accuracy", "final/gallery/map"} <= names
        run = ask("projector/runs").json()[0]
        (embedding,) = ask(f"projector/info?run={run}").json()["embeddings"]
        assert embedding["tensorShape"] == [12, 64]
        sprite = ask(f"projector/sprite_image?run={run}&name={embedding['tensorName']}")
        assert Image.open(io.BytesIO(sprite.body())).width <= 8192
