import errno
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers import unit, write_checkpoint
from PIL import Image

from fashion import FAISSIndex, VisualSearchEngine
from fashion.data.images import BadPictureError
from fashion.errors import FashionError
from fashion.search import catalog as catalog_module
from fashion.search.catalog import Catalog
from fashion.search.filters import parse
from fashion.search.items import add_items, delete_items
from fashion.search.results import Choice
from fashion.search.store import Store


@pytest.fixture
def engine(run_folder, pictures) -> VisualSearchEngine:
    engine = VisualSearchEngine(run_folder)
    engine.embed_dataset(pictures / "train")
    return engine


def files(folder: Path) -> dict[str, bytes]:
    """Everything below the folder, but for the lock, which says who wrote last."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_a_picture_in_the_catalogue_finds_itself_first(engine, pictures):
    query = pictures / "train/hat/3.png"
    (result,) = engine.search(query, k=5)
    assert (result.hits[0].path, result.hits[0].label) == (str(query), "hat")
    assert result.hits[0].score == pytest.approx(1, abs=1e-5)
    assert [hit.rank for hit in result.hits] == [1, 2, 3, 4, 5]
    assert [hit.score for hit in result.hits] == sorted((hit.score for hit in result.hits), reverse=True)


def test_search_is_brute_force_over_the_embeddings(engine, pictures):
    query = engine.embed_image(pictures / "test/shoes/1.png")
    assert np.linalg.norm(query) == pytest.approx(1, abs=1e-5)
    expected = np.argsort(-(engine.catalog.embeddings @ query), kind="stable")[:7]
    assert [hit.id for hit in engine.search(pictures / "test/shoes/1.png", k=7)[0].hits] == expected.tolist()


def test_many_queries_give_what_each_gives_alone(engine, pictures):
    queries = sorted((pictures / "test").rglob("*.png"))
    together = engine.search(queries, k=3)
    for query, result in zip(queries, together, strict=True):
        alone = engine.search(query, k=3)[0]
        assert [hit.id for hit in alone.hits] == [hit.id for hit in result.hits]
        assert alone.predicted == result.predicted


def test_pictures_may_come_in_any_form(engine, pictures):
    path = pictures / "test/hat/0.png"
    vector = engine.embed_image(path)
    image = Image.open(path)
    for form in (str(path), path.read_bytes(), image, np.asarray(image)):
        np.testing.assert_allclose(engine.embed_image(form), vector, atol=1e-6)


def test_an_open_picture_is_seen_as_its_file_is(engine, tmp_path):
    random = np.random.default_rng(0)
    noise = Image.fromarray(random.integers(0, 255, (30, 50, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    noise.save(tmp_path / "turned.png", exif=exif)
    clear = noise.copy()
    clear.putalpha(Image.fromarray(random.integers(0, 255, (30, 50), dtype=np.uint8)))
    clear.save(tmp_path / "clear.png")
    Image.fromarray(random.integers(0, 2**16, (30, 50), dtype=np.uint16)).save(tmp_path / "wide.png")
    for path in tmp_path.glob("*.png"):
        np.testing.assert_allclose(engine.embed_image(Image.open(path)), engine.embed_image(path), atol=1e-6)


def test_classes_come_with_probabilities(engine, pictures):
    ranked = engine.classify(pictures / "test/hat/0.png")
    assert {name for name, _ in ranked} == {"dress", "hat", "shoes"}
    assert sum(probability for _, probability in ranked) == pytest.approx(1, abs=1e-5)
    assert ranked == sorted(ranked, key=lambda pair: -pair[1])


def test_k_larger_than_the_catalogue_gives_all(engine, pictures):
    assert len(engine.search(pictures / "test/hat/0.png", k=1000)[0].hits) == 36


def test_a_catalogue_survives_its_folder(engine, pictures, run_folder, tmp_path):
    query = pictures / "test/hat/0.png"
    expected = [(hit.id, hit.path) for hit in engine.search(query)[0].hits]
    engine.catalog.write(tmp_path / "c")
    for reopened in (VisualSearchEngine(run_folder, tmp_path / "c"), VisualSearchEngine(tmp_path / "c")):
        assert [(hit.id, hit.path) for hit in reopened.search(query)[0].hits] == expected
    manifest = json.loads((tmp_path / "c/manifest.json").read_text())
    assert (manifest["count"], manifest["dim"], manifest["metric"]) == (36, 64, "cosine")
    columns = Catalog.open(tmp_path / "c").items.column_names
    assert columns[:6] == ["id", "external_id", "path", "label", "product_id", "sha256"]


def test_a_catalogue_of_another_model_is_refused(engine, tmp_path):
    engine.catalog.write(tmp_path / "c")
    other = write_checkpoint(tmp_path / "other.ckpt", seed=1)
    with pytest.raises(FashionError, match=r"task=index rebuild=true encoder=.*other\.ckpt") as caught:
        VisualSearchEngine(other, tmp_path / "c")
    assert engine.encoder.fingerprint in str(caught.value)


@pytest.mark.parametrize("name", ["index.faiss", "items.parquet", "embeddings.npy"])
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_a_damaged_catalogue_is_refused(engine, tmp_path, name, damage):
    engine.catalog.write(tmp_path / "c")
    path = (tmp_path / "c" / name).resolve()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"truncated": bytes(data[:-9]), "altered": bytes(data), "missing": b""}[damage])
    if damage == "missing":
        path.unlink()
    with pytest.raises(FashionError, match=rf"{name} is missing, truncated or altered; make it anew with task=index"):
        Catalog.open(tmp_path / "c")


@pytest.mark.parametrize(
    ("text", "words"), [("{", "is damaged"), ("{}", "is damaged"), ('{"schema_version": 9}', "damaged|version 9")]
)
def test_a_damaged_manifest_is_refused(engine, tmp_path, text, words):
    engine.catalog.write(tmp_path / "c")
    (tmp_path / "c/manifest.json").write_text(text)
    with pytest.raises(FashionError, match=words):
        Catalog.open(tmp_path / "c")


@pytest.mark.parametrize(("key", "value"), [("next_id", None), ("next_id", "9"), ("root", None), ("index", {})])
def test_a_manifest_with_a_value_of_another_type_is_damaged(engine, tmp_path, key, value):
    engine.catalog.write(tmp_path / "c")
    path = tmp_path / "c/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(FashionError, match=r"manifest\.json is damaged \('(next_id|root|kind)'.*make it anew"):
        Catalog.open(tmp_path / "c")


def test_a_version_that_is_gone_is_named(engine, tmp_path):
    engine.catalog.write(tmp_path / "c")
    shutil.rmtree(tmp_path / "c/versions/000001")
    with pytest.raises(FashionError, match="lacks its current version, versions/000001; make it anew .*rebuild=true"):
        Catalog.open(tmp_path / "c")


def test_the_packages_own_model_is_noted_by_name(pictures, tmp_path, monkeypatch):
    engine = VisualSearchEngine()
    engine.embed_dataset(pictures / "test")
    engine.catalog.write(tmp_path / "c")
    assert json.loads((tmp_path / "c/manifest.json").read_text())["model"] == "pretrained"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pretrained").mkdir()  # not this one
    assert VisualSearchEngine(tmp_path / "c").encoder.source == engine.encoder.source


def test_a_catalogue_whose_model_moved_says_how_to_name_it(bundle, pictures, tmp_path):
    shutil.copytree(bundle, tmp_path / "model")
    engine = VisualSearchEngine(tmp_path / "model")
    engine.embed_dataset(pictures / "test")
    engine.catalog.write(tmp_path / "c")
    (tmp_path / "model").rename(tmp_path / "moved")
    with pytest.raises(FashionError, match=r"model .*/model is not there any more; say where it is now: encoder="):
        VisualSearchEngine(tmp_path / "c")
    moved = VisualSearchEngine(tmp_path / "moved", tmp_path / "c")
    delete_items(moved, Store(tmp_path / "c"), ["hat/0.png"])
    assert VisualSearchEngine(tmp_path / "c").encoder.source == tmp_path / "moved"  # noted since


def test_a_missing_catalogue_says_how_to_make_one(tmp_path, run_folder):
    with pytest.raises(FashionError, match="does not exist; make one with: python run.py task=index"):
        VisualSearchEngine(run_folder, tmp_path / "c")
    empty = VisualSearchEngine(run_folder)
    for ask in (lambda: empty.search(tmp_path / "q.jpg"), lambda: empty.item_number("A1"), lambda: empty.opened):
        with pytest.raises(FashionError, match="There is no catalogue to search; call embed_dataset"):
            ask()


def test_a_folder_that_is_no_catalogue_is_not_overwritten(engine, pictures):
    before = sorted(pictures.rglob("*"))
    with pytest.raises(FashionError, match="is no catalogue, so it is not overwritten"):
        engine.catalog.write(pictures)
    assert sorted(pictures.rglob("*")) == before


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_ctrl_c_leaves_the_old_catalogue_unharmed(engine, tmp_path, monkeypatch, failure):
    engine.catalog.write(tmp_path / "c")
    before = files(tmp_path / "c")

    def fail(*args, **options):
        raise failure

    monkeypatch.setattr(catalog_module, "write_array", fail)
    expected = FashionError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left" if expected is FashionError else None):
        engine.catalog.write(tmp_path / "c")
    assert files(tmp_path / "c") == before
    assert not list((tmp_path / "c").rglob(".new-*"))


def catalogue_of(engine: VisualSearchEngine, vectors: np.ndarray, **columns) -> Catalog:
    """One that is searched exactly, of items without pictures."""
    names = [str(number) for number in range(len(vectors))]
    items = {"id": np.arange(len(vectors)), "external_id": names, "path": names, "label": names, **columns}
    return Catalog.build(pa.table(items), vectors, engine.encoder, Path(), {"kind": "flat"})


def brute(engine, query, allowed) -> list[int]:
    scores = np.asarray(engine.catalog.embeddings) @ engine.embed_image(query)
    order = np.argsort(-np.where(allowed, scores, -2), kind="stable")
    return engine.catalog.ids[order][: int(allowed.sum())].tolist()


def test_a_filter_is_applied_before_the_search(engine, pictures):
    query = pictures / "test/hat/0.png"
    labels = np.array(engine.catalog.items["label"].to_pylist())
    (result,) = engine.search(query, k=8, filter="label != 'hat'")
    assert [hit.id for hit in result.hits] == brute(engine, query, labels != "hat")[:8]
    assert engine.search(query, filter="label = 'scarf'")[0].hits == []
    with pytest.raises(FashionError, match="column 'price' is unknown"):
        engine.search(query, filter="price < 3")


def test_a_filter_that_was_asked_before_still_means_the_same(engine):
    number = next(at for at in engine.catalog.ids.tolist() if engine.catalog.value(at, "label") == "hat")
    vector, hats = engine.catalog.embeddings[engine.catalog.row(number)][None], "label = 'hat'"
    before = [hit.id for hit in engine.nearest(vector, Choice(5), hats)[0]]
    assert before[0] == number
    assert number not in [hit.id for hit in engine.more_like(number, filter=hats)]
    assert [hit.id for hit in engine.nearest(vector, Choice(5), parse(hats))[0]] == before
    assert [hit.id for hit in engine.nearest(vector, Choice(5), hats)[0]] == before
    engine.nearest(vector, Choice(5), parse("id = 1"))
    with pytest.raises(FashionError, match="use a value of its type"):  # though 1 and true are equal
        engine.nearest(vector, Choice(5), parse("id = true"))


def test_groups_give_one_hit_each(engine, pictures):
    query = pictures / "test/hat/0.png"
    (result,) = engine.search(query, k=3, group_by="label")
    assert sorted(hit.label for hit in result.hits) == ["dress", "hat", "shoes"]
    ranked = brute(engine, query, np.ones(36, bool))
    labels = [engine.catalog.item(number)["label"] for number in ranked]
    assert [hit.id for hit in result.hits] == [ranked[labels.index(label)] for label in dict.fromkeys(labels)]
    assert len(engine.search(query, k=30, group_by="label")[0].hits) == 3
    with pytest.raises(FashionError, match="group_by is 'shop'; the catalogue's columns are id, external_id"):
        engine.search(query, group_by="shop")


def test_a_graph_is_changed_with_its_items_and_not_built_anew(engine, pictures, run_folder, tmp_path, monkeypatch):
    engine.index = {"kind": "hnsw"}
    engine.embed_dataset(pictures / "train")
    engine.catalog.write(tmp_path / "c")
    store, new = Store(tmp_path / "c"), pictures / "test/hat/0.png"
    builds: list[int] = []
    build = FAISSIndex.build

    def counted(self, embeddings, ids=None):
        builds.append(len(embeddings))
        build(self, embeddings, ids)

    monkeypatch.setattr(FAISSIndex, "build", counted)
    (number,) = add_items(engine, store, [new], [{"external_id": "N"}])
    assert builds == []
    reopened = VisualSearchEngine(tmp_path / "c")
    assert (reopened.search(new)[0].hits[0].id, reopened.size, reopened.catalog.index.recall) == (number, 37, 1)
    add_items(engine, store, [pictures / "test/dress/0.png"], [{"external_id": "N"}])
    assert VisualSearchEngine(tmp_path / "c").search(pictures / "test/dress/0.png")[0].hits[0].id == number
    delete_items(engine, store, ["N"])
    assert builds == []
    for now in (engine, VisualSearchEngine(tmp_path / "c")):
        found = now.search(new, k=37)[0].hits
        assert len(found) == now.size == 36
        assert "N" not in [hit.name for hit in found]
    delete_items(engine, store, [f"hat/{number}.png" for number in range(10)])
    assert builds == [26]


def test_a_new_listing_keeps_the_kind_of_index_that_the_catalogue_has(engine, pictures):
    engine.index = {"kind": "hnsw"}
    listing = engine.list_folder(pictures / "train")
    engine.embed_dataset(pictures / "train")
    engine.index = None
    engine.sync(listing, allow_shrink=True, rebuild=True)
    assert engine.catalog.index.kind == "hnsw"


@pytest.fixture(scope="module")
def crowded() -> tuple[pa.Table, np.ndarray]:
    """40 products of 50 items each, near each other; every second item is nearly the one before."""
    vectors = unit(40, 3).repeat(50, axis=0) + 0.9 * unit(2000, 4)
    vectors[1::2] = vectors[::2] + 0.001 * unit(1000, 5)
    names = [str(number) for number in range(2000)]
    products = [f"p{number // 50}" for number in range(2000)]
    items = {"id": np.arange(2000), "external_id": names, "path": names, "label": products, "product_id": products}
    return pa.table(items), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def chosen_slowly(scores: np.ndarray, vectors: np.ndarray, group: bool, fold: bool, k: int) -> list[int]:
    """Rows of the hits, by passing over all items in the order of their scores."""
    hits: list[int] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        taken = group and row // 50 in {hit // 50 for hit in hits}
        if not taken and not (fold and (vectors[hits] @ vectors[row] >= 0.999).any()):
            hits.append(row)
    return hits[:k]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("flat", {}), ("hnsw", {"m": 4, "ef_construction": 8, "ef_search": 8}), ("ivf", {"nprobe": 1000})],
)
@pytest.mark.parametrize(
    ("group", "fold", "k"), [("product_id", False, 10), (None, True, 300), ("product_id", True, 9)]
)
def test_groups_and_folded_duplicates_are_what_a_slow_reading_chooses(engine, crowded, kind, settings, group, fold, k):
    items, vectors = crowded
    engine.catalog = Catalog.build(items, vectors, engine.encoder, Path(), {"kind": kind, **settings})
    queries = vectors[::211] + 0.3 * unit(10, 6)
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    found = engine.nearest(queries, Choice(k, group, fold_duplicates=fold))
    for query, hits in zip(queries, found, strict=True):
        assert [hit.id for hit in hits] == chosen_slowly(vectors @ query, vectors, group is not None, fold, k)
        assert [hit.rank for hit in hits] == list(range(1, k + 1))


@pytest.mark.parametrize("query_filter", [None, "product_id in ('p3', 'p8', 'p17', 'p30')"])
def test_groups_of_an_index_that_misses_much_are_complete_and_in_order(engine, crowded, query_filter):
    items, vectors = crowded
    engine.catalog = Catalog.build(items, vectors, engine.encoder, Path(), {"kind": "ivf", "nprobe": 1})
    for hits in engine.nearest(vectors[::211], Choice(30, "product_id"), query_filter):
        assert len(hits) == (30 if query_filter is None else 4)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert len({hit.item["product_id"] for hit in hits}) == len(hits)


@pytest.mark.parametrize("largest", [2**31 - 1, 5])
def test_groups_are_found_without_passing_over_all_items(engine, pictures, monkeypatch, largest):
    """The others of a group that has its hit are masked, and no more is fetched than an index can give."""
    monkeypatch.setattr(type(engine.catalog.index), "largest_k", largest)
    asked: list[int] = []
    search = engine.catalog.index.search

    def counted(query, k, allowed=None):
        asked.append(k)
        return search(query, k, allowed)

    monkeypatch.setattr(engine.catalog.index, "search", counted)
    query = pictures / "test/hat/0.png"
    (result,) = engine.search(query, k=3, group_by="label")
    assert sorted(hit.label for hit in result.hits) == ["dress", "hat", "shoes"]
    assert [hit.rank for hit in result.hits] == [1, 2, 3]
    assert len(asked) <= 3
    assert max(asked) <= largest
    folded = engine.search(query, k=36, fold_duplicates=True)[0].hits
    assert [hit.id for hit in folded] == brute(engine, query, np.ones(36, bool))


def test_items_without_a_group_are_found_beyond_a_large_one(engine):
    """Eleven of one product come first, then items of none, each of which is a hit of its own."""
    angles = np.linspace(0, 1, 30)
    base, other = np.eye(64, dtype=np.float32)[:2]
    vectors = (np.cos(angles)[:, None] * base + np.sin(angles)[:, None] * other).astype(np.float32)
    engine.catalog = catalogue_of(engine, vectors, product_id=["a"] * 11 + [None] * 19)
    (hits,) = engine.nearest(base[None], Choice(3, "product_id"))
    assert [hit.id for hit in hits] == [0, 11, 12]


@pytest.mark.parametrize("k", [3, 10])
def test_of_many_placeholders_one_is_enough(engine, k):
    vectors = unit(5, 3).repeat(4000, axis=0)
    engine.catalog = catalogue_of(engine, vectors)
    (hits,) = engine.nearest(vectors[:1], Choice(k, fold_duplicates=True))
    firsts = np.arange(0, 20_000, 4000)
    assert [hit.id for hit in hits] == sorted(firsts, key=lambda row: -vectors[row] @ vectors[0])[:k]


def test_a_threshold_leaves_out_what_is_far(engine, pictures):
    query = pictures / "test/hat/0.png"
    scores = [hit.score for hit in engine.search(query, k=36)[0].hits]
    (result,) = engine.search(query, k=36, score_threshold=scores[4])
    assert [hit.score for hit in result.hits] == scores[:5]
    assert engine.search(query, k=2, score_threshold=1.0, group_by="label")[0].hits == []


def test_near_duplicates_are_folded_on_request(run_folder, pictures, tmp_path):
    for copy in range(6):
        shutil.copy(pictures / "train/hat/0.png", pictures / f"train/hat/copy{copy}.png")
    engine = VisualSearchEngine(run_folder)
    engine.embed_dataset(pictures / "train")
    query = pictures / "train/hat/0.png"
    plain = engine.search(query, k=5)[0].hits
    assert [hit.score for hit in plain] == [plain[0].score] * 5
    folded = engine.search(query, k=5, fold_duplicates=True)[0].hits
    assert len({hit.item["sha256"] for hit in folded}) == 5
    vectors = engine.catalog.embeddings[[engine.catalog.row(hit.id) for hit in folded]]
    assert (vectors @ vectors.T - np.eye(5)).max() < 0.999


def test_what_is_folded_is_nearly_identical(engine):
    """0.9989 is another picture, 0.9991 the same one."""
    base, other = np.eye(64, dtype=np.float32)[:2]
    vectors = np.stack([base, *(c * base + (1 - c**2) ** 0.5 * other for c in (0.9991, 0.9989))]).astype(np.float32)
    engine.catalog = catalogue_of(engine, vectors)
    (hits,) = engine.nearest(base[None], Choice(3, fold_duplicates=True))
    assert [hit.id for hit in hits] == [0, 2]


def test_more_like_an_item_leaves_the_item_out(engine):
    hits = engine.more_like(7, k=36)
    alike = engine.like_item(7, k=5)
    assert (alike.hits, alike.picture) == (hits[:5], str(engine.item_picture(7)))
    assert [hit.id for hit in hits] == [
        int(n) for n in np.argsort(-(engine.catalog.embeddings @ engine.catalog.embeddings[7]), kind="stable") if n != 7
    ]
    assert {hit.label for hit in engine.more_like(7, filter="label = 'hat'")} == {"hat"}
    with pytest.raises(FashionError, match="no item 99"):
        engine.more_like(99)


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_more_like_an_item_gives_as_many_as_asked_for_ranked_from_one(engine, kind):
    """Its twins with lower ids come first, so that the item itself is beyond the k + 1 that are looked for."""
    items, plain = engine.catalog.items, np.asarray(engine.catalog.embeddings)
    twins = plain.copy()
    twins[:5] = plain[7]
    for vectors in (plain, twins):
        engine.catalog = Catalog.build(items, vectors, engine.encoder, Path(), {"kind": kind})
        hits = engine.more_like(7, k=3)
        assert [hit.rank for hit in hits] == [1, 2, 3]
        assert 7 not in [hit.id for hit in hits]
    assert [hit.id for hit in hits] == [0, 1, 2]


def test_several_pictures_of_one_item_are_one_query(engine, pictures):
    queries = sorted((pictures / "test/hat").glob("*.png"))
    (result,) = engine.search(queries, k=4, together=True)
    mean = np.mean([engine.embed_image(query) for query in queries], axis=0)
    expected = np.argsort(-(engine.catalog.embeddings @ mean), kind="stable")[:4]
    assert [hit.id for hit in result.hits] == expected.tolist()


def test_several_pictures_are_named_together_and_scored_by_cosine(engine, pictures):
    queries = [pictures / "test/hat/0.png", pictures / "test/dress/0.png"]
    (result,) = engine.search(queries, k=1, together=True)
    vectors, probabilities = engine.encode(queries)
    mean = vectors.mean(axis=0)
    item = engine.catalog.embeddings[engine.catalog.row(result.hits[0].id)]
    assert result.hits[0].score == pytest.approx(float(item @ mean / np.linalg.norm(mean)), abs=1e-5)
    assert result.probability == pytest.approx(float(probabilities.mean(axis=0).max()), abs=1e-5)


def test_no_match_is_said_by_the_calibrated_threshold(engine, pictures):
    query = pictures / "test/hat/0.png"
    assert engine.search(query)[0].match is None
    best = engine.search(query)[0].hits[0].score
    for threshold, match in ((best - 0.01, True), (best, True), (best + 0.01, False)):
        engine.encoder.no_match = threshold
        assert engine.search(query)[0].match is match
    assert engine.search(query, filter="label is null")[0].match is False


def test_bad_pictures_fail_or_are_skipped(run_folder, pictures):
    (pictures / "train/hat/3.png").write_bytes(b"")
    engine = VisualSearchEngine(run_folder)
    with pytest.raises(BadPictureError, match=r"hat/3\.png"):
        engine.embed_dataset(pictures / "train")
    catalog = engine.embed_dataset(pictures / "train", on_bad_image="skip")
    assert len(catalog) == 35
    assert len(engine.skipped) == 1
    with pytest.raises(BadPictureError, match=r"hat/3\.png"):
        engine.embed_dataset(pictures / "train")
    assert engine.catalog is catalog  # what was searchable still is


def test_a_folder_of_bad_pictures_is_refused(run_folder, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(FashionError, match="there is nothing to search"):
        VisualSearchEngine(run_folder).embed_dataset(tmp_path, on_bad_image="skip")


def test_results_are_shown_as_a_table_and_a_picture(engine, pictures, tmp_path, capsys):
    results = engine.search([pictures / "test/hat/0.png", pictures / "test/shoes/0.png"], k=3)
    grid = engine.display_results(results, tmp_path / "grid.png")
    assert Image.open(tmp_path / "grid.png").size == grid.size
    printed = capsys.readouterr().out
    for hit in results[0].hits:
        assert hit.name in printed.replace("\n", "")
        assert f"{hit.score:.3f}" in printed


def test_searching_with_a_bundle_never_imports_torch(bundle, pictures, tmp_path):
    code = f"""
import sys
from fashion import FAISSIndex, VisualSearchEngine
engine = VisualSearchEngine({str(bundle)!r})
engine.embed_dataset({str(pictures / "train")!r})
engine.catalog.write(__import__("pathlib").Path({str(tmp_path / "c")!r}))
print(VisualSearchEngine({str(tmp_path / "c")!r}).search({str(pictures / "test/hat/0.png")!r})[0].hits[0].path)
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "train" in done.stdout


def test_searching_a_catalogue_loads_no_pandas(bundle, pictures, tmp_path):
    engine = VisualSearchEngine(bundle)
    engine.embed_dataset(pictures / "train")
    engine.catalog.write(tmp_path / "c")
    code = f"""
import sys
from fashion import FAISSIndex, VisualSearchEngine
VisualSearchEngine({str(tmp_path / "c")!r}).search({str(pictures / "test/hat/0.png")!r})
assert "pandas" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
