"""What needs an extra says so where it is missing."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT

from fashion.errors import FashionError
from fashion.search.milvus import MilvusIndex
from fashion.timing import search_ms


def test_milvus_without_its_extra_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(FashionError, match="needs the `milvus` extra"):
        MilvusIndex(64, uri=str(tmp_path / "m.db")).build(np.eye(64, dtype=np.float32), np.arange(64))


def test_timing_loads_no_index():
    """An export times its networks, and needs neither FAISS nor Milvus for it."""
    script = "import sys, fashion.timing; print('faiss' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_slow_searches_are_timed_for_a_second_only():
    calls: list[int] = []

    def search(query: np.ndarray, k: int) -> None:
        calls.append(k)
        time.sleep(0.3)

    assert 300 <= search_ms(search, np.eye(64, dtype=np.float32)) < 900
    assert len(calls) <= 4


def test_a_table_is_indexed_without_torch(run_folder: Path, bundle: Path, pictures: Path, tmp_path: Path):
    """As a serving image does; what does need torch names the extra."""
    table = tmp_path / "items.csv"
    table.write_text("path,label\n" + "".join(f"{pictures}/train/hat/{at}.png,hat\n" for at in range(12)))
    script = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv[0] = 'run.py'; "
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script, str(ROOT / "run.py"), "task=index", f"cache_dir={tmp_path}/c", *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    data = ("data=table", f"data.source={table}", "split=all")
    done = run(*data, f"encoder={bundle}", "catalog=e")
    assert done.returncode == 0, done.stderr
    assert "12 pictures are searchable" in done.stdout
    refused = run(*data, f"encoder={run_folder}", "catalog=d")
    assert refused.returncode == 1
    assert "needs the `train` extra" in refused.stderr
    assert "Traceback" not in refused.stderr
