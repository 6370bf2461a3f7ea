"""The notebooks run from top to bottom, and are kept without outputs."""

import nbformat
import pytest
from helpers import ROOT
from nbclient import NotebookClient

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

CLAIMS = {
    "1_data": """
assert len(data.class_names) == 10 and min(data.class_counts()) > 0
assert train.pictures.shape == (sum(data.class_counts()), 3, 64, 64)
assert pictures.shape[1:] == (3, 64, 64) and (pictures[0] != pictures[1]).any()
found = Out[max(Out)]
assert found["pictures"] == len(train.pictures) + len(data.array("validation").pictures)
assert found["unreadable"] == found["duplicates"] == found["across_splits"] == 0
""",
    "2_training": """
by_classes, by_triplets = Out[2], Out[3]
assert by_classes["val/acc"] > 0.3, by_classes
assert by_triplets["val/acc"] > 0.3, by_triplets
assert by_triplets["train/positive_distance"] < by_triplets["train/negative_distance"], by_triplets
lengths = network.axes.weight.norm(dim=1)
assert lengths.max() > 1.5 * lengths.min()  # along principal components: at random all are about as long
assert places.shape == (len(validation.labels), 2)
""",
    "3_search": """
assert [len(one.hits) for one in results] == [5] * 4
assert sum(one.predicted == query.parent.name for one, query in zip(results, queries)) >= 3
assert all(type(one.match) is bool for one in results)
assert len(result.hits) == 3 and {hit.label for hit in result.hits} <= {"dress", "skirt"}
alike = engine.more_like(result.hits[0].id, k=3)
assert [(hit.label, round(hit.score, 3)) for hit in alike] == Out[max(Out)]
assert result.hits[0].id not in {hit.id for hit in alike}
""",
}
"""What each notebook says of its figures, run after its last cell; chance names a tenth right."""


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_shows_what_it_says(path, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # its caches
    monkeypatch.setenv("MPLBACKEND", "Agg")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(CLAIMS[path.stem]))
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
