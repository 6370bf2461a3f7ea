from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from fashion.evaluation import Evaluation
from fashion.report.confusion import confusion_picture, most_confused
from fashion.report.evaluation import embedding_map
from fashion.report.html import Section, write_page
from fashion.report.pictures import PLAIN, RIGHT, TEXT, TILE, WRONG, search_grid
from fashion.report.tables import hits_table, search_table, show
from fashion.search.results import Hit, SearchResult


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.text, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text.append(data)


def test_a_page_stands_alone_and_escapes_what_it_shows(tmp_path):
    picture = Image.new("RGB", (20, 10), "red")
    sections = [
        Section("One", text="<script>alert(1)</script>", picture=picture, caption="<b>"),
        Section("Two", table=(["name", "value"], [["<i>", "1"]])),
    ]
    write_page(tmp_path / "page.html", "Title & more", sections)
    reader = Reader()
    page = (tmp_path / "page.html").read_text()
    reader.feed(page)
    assert "script" not in reader.tags
    assert "i" not in reader.tags
    assert "<script>alert(1)</script>" in reader.text
    assert reader.links
    assert all(link.startswith("data:image/jpeg;base64,") for link in reader.links)
    assert "://" not in page


@pytest.fixture
def result(pictures) -> SearchResult:
    names = ("hat", "dress", None)
    hits = [
        Hit(rank, 1 - rank / 10, rank, label, str(pictures / "train/hat/0.png"), {})
        for rank, label in enumerate(names, 1)
    ]
    return SearchResult(str(pictures / "test/hat/0.png"), "hat", 0.9, hits)


def frame(grid: Image.Image, column: int) -> tuple[int, ...]:
    return grid.getpixel((TILE + 30 + column * (TILE + 10) - 1, TEXT + 20))


def test_the_grid_frames_right_wrong_and_unknown(result):
    grid = search_grid([result], ("dress", "hat", "shoes"))
    assert [frame(grid, column) for column in range(3)] == [RIGHT, WRONG, PLAIN]
    unknown = search_grid([result], ("gloves",))  # the query's folder is no class
    assert {frame(unknown, column) for column in range(3)} == {PLAIN}


def test_the_grid_knows_a_query_of_a_macs_folder(result):
    accented = replace(result, query="e\u0301te\u0301/0.png", hits=[replace(result.hits[0], label="\u00e9t\u00e9")])
    assert frame(search_grid([accented], ("\u00e9t\u00e9",)), 0) == RIGHT


def test_the_grid_shows_pictures_whole_and_survives_missing_ones(result, tmp_path):
    missing = SearchResult(str(tmp_path / "gone.jpg"), "hat", 0.5, result.hits)
    grid = search_grid([missing, result], ("hat",))
    assert grid.getpixel((14, TEXT + 4)) == (225, 225, 225)
    assert grid.height > search_grid([result], ("hat",)).height


def test_the_grid_of_many_results_can_be_written(result, tmp_path):
    many = replace(result, hits=result.hits * 200)
    grid = search_grid([many], ("hat",))
    write_page(tmp_path / "page.html", "Results", [Section("Wide", picture=grid)])
    assert grid.size == search_grid([replace(result, hits=result.hits * 4)], ("hat",)).size  # 12 hits
    tall = search_grid([replace(result, query=f"{at}.jpg") for at in range(500)], ("hat",))
    assert tall.height == search_grid([result] * 40, ("hat",)).height


def test_the_confusion_matrix_is_a_picture():
    picture = confusion_picture(np.array([[3, 1], [0, 4]]), ["dress", "hat"])
    assert picture.mode == "RGB"
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 10


def test_the_confusion_of_many_classes_stays_small():
    names = [f"class {at}" for at in range(60)]
    picture = confusion_picture(np.eye(60, dtype=np.int64) * 5, names)
    assert max(picture.size) <= 1200
    assert (np.asarray(picture).sum(axis=2) < 250).any()  # the diagonal, where all pictures are


def test_the_most_frequent_confusions_are_named():
    matrix = np.array([[30, 1, 4], [0, 20, 0], [9, 0, 1]])
    headers, rows = most_confused(matrix, ["dress", "hat", "shoes"], count=2)
    assert headers == ["true", "predicted", "pictures"]
    assert rows == [["shoes", "dress", "9 of 10"], ["dress", "shoes", "4 of 35"]]
    assert len(most_confused(matrix, ["dress", "hat", "shoes"])[1]) == 3
    assert most_confused(np.eye(2, dtype=np.int64), ["dress", "hat"]) is None


@pytest.mark.filterwarnings("error")  # matplotlib warns of a legend that leaves no room
@pytest.mark.parametrize("classes", [20, 60])
def test_the_map_fills_its_picture_however_many_classes_there_are(classes):
    labels = np.arange(classes).repeat(2)
    embeddings = np.random.default_rng(0).normal(size=(len(labels), 64)).astype(np.float32)
    names = tuple(f"class {at}" for at in range(classes))
    result = Evaluation("validation", names, {}, {}, {}, np.eye(classes), {}, embeddings, labels, labels, None)
    picture = np.asarray(embedding_map(result, labels))
    coloured = np.ptp(picture.astype(int), axis=2) > 60  # the dots
    assert np.ptp(np.flatnonzero(coloured.any(axis=0))) > 0.6 * picture.shape[1]
    assert np.ptp(np.flatnonzero(coloured.any(axis=1))) > 0.8 * picture.shape[0]


def test_names_are_drawn_as_they_are_written():
    names = ("$5_$10", "_b")  # neither mathematics, nor left out of the legend
    assert confusion_picture(np.eye(2, dtype=np.int64), names).width > 300
    labels = np.arange(20) % 2
    embeddings = np.random.default_rng(0).normal(size=(20, 64)).astype(np.float32)
    result = Evaluation("validation", names, {}, {}, {}, np.eye(2), {}, embeddings, labels, labels, None)
    picture = np.asarray(embedding_map(result, labels)).astype(int)
    legend = picture[:, -115:].reshape(-1, 3)  # right of the frame
    for colour in ((31, 119, 180), (255, 127, 14)):
        assert (legend == colour).all(axis=1).any()


def test_tables_hold_the_figures(capsys):
    metrics = {"gallery/top1": 0.8, "gallery/macro_top1": 0.7, "loo/top1": 0.6, "loo/macro_top1": 0.5}
    show(search_table(metrics, {"gallery/top1": (0.75, 0.85)}))
    printed = capsys.readouterr().out
    for words in ("0.800 (0.750 – 0.850)", "0.500"):
        assert words in printed


def test_worst_queries_have_an_answer_and_none_finds_itself(run_folder, pictures, tmp_path):
    from fashion.data.datamodules import ImageDataModule
    from fashion.encoder import load_encoder
    from fashion.evaluation import evaluate
    from fashion.report.evaluation import Searches, worst

    data = ImageDataModule("folder", str(pictures), cache_dir=str(tmp_path / "c"))
    queries = data.array("train")
    lonely = replace(queries, items=tuple(replace(one, extra={"sku": str(at // 2 if at < 10 else at)})
                                     for at, one in enumerate(queries.items)))  # fmt: skip
    result = evaluate(load_encoder(run_folder), lonely, lonely, split="train", relevance="sku")
    assert set(worst(result, 50)) == set(range(10))  # all others have nothing to find
    searches = Searches(result, lonely, lonely, data.source.root, "sku")
    for row in range(10):
        found = searches.of(row, 6)
        assert len(found.hits) == 6
        assert row not in {hit.id for hit in found.hits}
        assert found.truth == str(row // 2)
        labels = {hit.id: hit.label for hit in searches.of(row, 35).hits}
        assert labels[row ^ 1] == found.truth  # its twin is right, of whatever class
        assert list(labels.values()).count(found.truth) == 1


def test_names_in_brackets_are_shown_as_they_are(capsys):
    from fashion.report.tables import plain_table

    show(plain_table("of [bold]", ["name [x]", "gallery/top1"], [["dress [/sale]", "[red]"]]))
    printed = capsys.readouterr().out
    for text in ("of [bold]", "name [x]", "dress [/sale]", "[red]"):
        assert text in printed
    hit = Hit(1, 0.9, 1, "[red] dress", "p/[link].jpg", {})
    show(hits_table(SearchResult("q.jpg", "dress", 0.5, [hit])))
    printed = capsys.readouterr().out
    assert "[red] dress" in printed
    assert "[link].jpg" in printed
