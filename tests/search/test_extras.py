"""What needs an extra says so where it is missing."""

import sys
from pathlib import Path

import numpy as np
import pytest

from fashion.errors import FashionError
from fashion.search.milvus import MilvusIndex


def test_milvus_without_its_extra_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(FashionError, match="needs the `milvus` extra"):
        MilvusIndex(64, uri=str(tmp_path / "m.db")).build(np.eye(64, dtype=np.float32), np.arange(64))
