"""Embeddings that other machines made: shards, their join, and clip-retrieval's layout."""

import json
import shutil
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pytest
from helpers import unit, write_checkpoint, write_pictures
from pyarrow import parquet

from fashion.benchmark.server import Server
from fashion.encoder import OnnxEncoder
from fashion.errors import FashionError
from fashion.search.catalog import Catalog
from fashion.search.parts import read_part, write_part
from fashion.serve.pictures import store_picture
from fashion.tasks.embed import which_shard


@pytest.fixture
def shop(tmp_path):
    return write_pictures(tmp_path / "shop", {".": {"dress": 5, "hat": 5, "shoes": 4}})


def rows(folder) -> dict[str, np.ndarray]:
    catalog = Catalog.open(folder)
    return dict(zip(catalog.items["external_id"].to_pylist(), np.asarray(catalog.embeddings), strict=True))


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name, vector in one.items():
        np.testing.assert_allclose(vector, other[name], atol=1e-5)


def test_shards_joined_are_the_catalogue_of_all(run_here, bundle, shop, tmp_path):
    run_here("task=index", f"encoder={bundle}", f"pictures={shop}", "catalog=whole")
    embed = ("task=embed", f"encoder={bundle}", f"pictures={shop}", "embeddings=parts")
    counts = [run_here(*embed, f"shard={number}/3") for number in (1, 2, 3)]
    assert counts == [5, 5, 4]
    shop.rename(tmp_path / "moved")  # joining needs no picture
    run_here("task=index", f"encoder={bundle}", "embeddings=parts", "catalog=joined", out="joined_run")
    assert_same(rows("joined"), rows("whole"))
    assert json.loads((tmp_path / "joined_run/metrics.json").read_text())["metrics"]["embedded"] == 0
    labels = {item["external_id"]: item["label"] for item in Catalog.open("joined").items.to_pylist()}
    assert labels["hat/0.png"] == "hat"


def test_a_shard_is_not_embedded_twice_and_a_lost_one_can_be_made_again(run_here, bundle, shop, tmp_path, caplog):
    embed = ("task=embed", f"encoder={bundle}", f"pictures={shop}", "embeddings=parts", "shard=2/2")
    assert run_here(*embed) == 7
    before = (tmp_path / "parts/img_emb/img_emb_0001.npy").stat().st_mtime_ns
    caplog.set_level("INFO")
    assert run_here(*embed) == 7
    assert "already" in caplog.text
    assert (tmp_path / "parts/img_emb/img_emb_0001.npy").stat().st_mtime_ns == before
    (tmp_path / "parts/metadata/metadata_0001.parquet").unlink()  # as a kill between the two files leaves it
    assert run_here(*embed) == 7
    assert len(read_part(tmp_path / "parts", "0001")[0]) == 7


def test_shards_are_joined_only_if_all_are_there_and_cut_alike(run_here, bundle, shop, tmp_path):
    embed = ("task=embed", f"encoder={bundle}", f"pictures={shop}", "embeddings=parts")
    index = ("task=index", f"encoder={bundle}", "embeddings=parts", "catalog=c")
    run_here(*embed, "shard=1/2")
    with pytest.raises(FashionError, match=r"holds 1 of 2 shards; make the others first: task=embed shard=2/2"):
        run_here(*index)
    run_here(*embed, "shard=2/3")
    with pytest.raises(FashionError, match="shards 1 and 2 in parts were cut from different lists"):
        run_here(*index)
    assert not (tmp_path / "c").exists()
    run_here(*embed, "shard=2/2")
    assert run_here(*index) == 14


def test_a_shard_of_an_older_list_embeds_what_is_new(run_here, bundle, shop, tmp_path, monkeypatch):
    embed = ("task=embed", f"encoder={bundle}", f"pictures={shop}", "embeddings=parts")
    assert [run_here(*embed, f"shard={number}/2") for number in (1, 2)] == [7, 7]
    extra = write_pictures(tmp_path / "extra", {".": {"skirt": 1}})
    shutil.copy(extra / "skirt/0.png", shop / "shoes/9.png")
    seen: list[int] = []
    real = OnnxEncoder.__call__
    monkeypatch.setattr(OnnxEncoder, "__call__", lambda self, batch: seen.append(len(batch)) or real(self, batch))
    assert run_here(*embed, "shard=1/2") == 8
    assert sum(seen) == 1
    with pytest.raises(FashionError, match="different lists of pictures"):
        run_here("task=index", f"encoder={bundle}", "embeddings=parts", "catalog=c")
    run_here(*embed, "shard=2/2")
    assert run_here("task=index", f"encoder={bundle}", "embeddings=parts", "catalog=c") == 15


def test_a_changed_picture_is_embedded_again(run_here, bundle, shop, tmp_path, caplog):
    caplog.set_level("INFO")
    embed = ("task=embed", f"encoder={bundle}", f"pictures={shop}", "embeddings=parts", "on_bad_image=skip")
    other = write_pictures(tmp_path / "other", {".": {"skirt": 2}})
    (shop / "hat/1.png").write_bytes(b"no picture yet")
    assert run_here(*embed) == 13
    before, rows = read_part(tmp_path / "parts", "0000")
    before, names = np.array(before), rows["image_path"].to_pylist()
    shutil.copy(other / "skirt/0.png", shop / "hat/0.png")
    shutil.copy(other / "skirt/1.png", shop / "hat/1.png")
    assert run_here(*embed) == 14
    assert "pictures were changed or left out; what is new is embedded" in caplog.text
    after, rows = read_part(tmp_path / "parts", "0000")
    now = dict(zip(rows["image_path"].to_pylist(), after, strict=True))
    assert [name for name, row in zip(names, before, strict=True) if not np.allclose(now[name], row)] == ["hat/0.png"]
    run_here(*embed)
    assert "is in parts already" in caplog.text


def test_a_catalogue_goes_out_and_comes_back(run_here, bundle, shop):
    run_here("task=index", f"encoder={bundle}", f"pictures={shop}", "catalog=one")
    run_here("task=items", "catalog=one", f"add={shop}/hat/0.png", "external_id=mine", "+columns.price=3")
    picture = store_picture((shop / "hat/1.png").read_bytes(), Path("one/pictures"))
    run_here("task=items", "catalog=one", f"add={picture}", "external_id=sent")
    Path("one").rename("moved")
    run_here("task=export", "catalog=moved", "embeddings=written")
    run_here("task=index", f"encoder={bundle}", "embeddings=written", "catalog=two")
    assert_same(rows("two"), rows("moved"))
    items = {item["external_id"]: item for item in Catalog.open("two").items.to_pylist()}
    assert Catalog.open("two").picture(items["sent"]).is_file()
    prices = {name: item["price"] for name, item in items.items()}
    assert prices["mine"] == 3
    assert prices["hat/0.png"] is None
    with pytest.raises(FashionError, match="not an empty folder"):
        run_here("task=export", "catalog=moved", "embeddings=written")


def test_what_another_tool_wrote_is_taken(run_here, bundle, tmp_path, caplog):
    vectors = np.random.default_rng(0).normal(size=(6, 64)).astype(np.float16)
    table = pa.table({"image_path": [f"/pictures/{n}.jpg" for n in range(6)], "caption": list("abcdef")})
    (tmp_path / "clip/img_emb").mkdir(parents=True)
    (tmp_path / "clip/metadata").mkdir()
    np.save(tmp_path / "clip/img_emb/img_emb_0.npy", vectors)
    parquet.write_table(table, tmp_path / "clip/metadata/metadata_0.parquet")
    assert run_here("task=index", f"encoder={bundle}", "embeddings=clip", "catalog=c") == 6
    assert "does not say which model" in caplog.text
    catalog = Catalog.open("c")
    np.testing.assert_allclose(np.linalg.norm(catalog.embeddings, axis=1), 1, atol=1e-5)
    assert str(catalog.picture(catalog.item(2))) == "/pictures/2.jpg"
    assert catalog.item(2)["caption"] == "c"


def test_new_vectors_under_the_same_names_are_taken(run_here, bundle, tmp_path, caplog):
    caplog.set_level("INFO")
    table = pa.table({"image_path": [f"{n}.jpg" for n in range(6)]})
    index = ("task=index", f"encoder={bundle}", "embeddings=clip", "catalog=c")
    vectors = unit(6)
    for changed, said in ((0, "6 added"), (0, "6 unchanged"), (2, "2 changed, 4 unchanged")):
        vectors[:changed] = unit(changed, seed=1)
        write_part(tmp_path / "clip", 0, vectors, table)
        run_here(*index)
        assert said in caplog.text
        np.testing.assert_allclose(Catalog.open("c").embeddings, vectors, atol=1e-6)
    assert Catalog.open("c").ids.tolist() == list(range(6))


def test_vectors_of_boxes_are_taken_however_the_boxes_are_written(run_here, bundle, tmp_path):
    vectors = unit(4)
    boxes = ["10.0 20.0 30.0 40.0", "10 20 30 40", " 1e1  2e1 3e1 41 ", None]
    table = pa.table({"image_path": [f"{n}.jpg" for n in range(4)], "bbox": boxes})  # no such file is there to embed
    write_part(tmp_path / "clip", 0, vectors, table)
    assert run_here("task=index", f"encoder={bundle}", "embeddings=clip", "catalog=c") == 4
    catalog = Catalog.open("c")
    np.testing.assert_allclose(catalog.embeddings, vectors, atol=1e-6)
    assert catalog.items["bbox"].to_pylist() == ["10 20 30 40", "10 20 30 40", "10 20 30 41", ""]


def test_pictures_of_foreign_names_are_served(bundle, run_here, tmp_path):
    shop = write_pictures(tmp_path / "shop", {".": {"hat": 3}})
    strange = (shop / "hat/0.png").rename(shop / 'hat/шапка "1".png')
    (tmp_path / "clip/img_emb").mkdir(parents=True)
    np.save(tmp_path / "clip/img_emb/img_emb_0.npy", np.eye(64, dtype=np.float32)[:2])
    (tmp_path / "clip/metadata").mkdir()
    table = pa.table({"image_path": [str(strange), str(shop / "hat/1.png")]})
    parquet.write_table(table, tmp_path / "clip/metadata/metadata_0.parquet")
    run_here("task=index", f"encoder={bundle}", "embeddings=clip", "catalog=c")
    with Server(tmp_path / "c") as server:
        answer = httpx.get(f"{server.url}/v1/images/0")
        assert answer.status_code == 200
        again = httpx.get(f"{server.url}/v1/images/0", headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status_code == 304
    strange.unlink()  # a catalogue needs no pictures to be searched
    run_here("task=search", "catalog=c", "like=0")


def test_embeddings_of_another_model_or_shape_are_refused(run_here, bundle, shop, tmp_path):
    embed = ("task=embed", f"encoder={bundle}", f"pictures={shop}", "embeddings=parts")
    run_here(*embed)
    other = write_checkpoint(tmp_path / "other/checkpoints/last.ckpt", seed=5).parents[1]
    with pytest.raises(FashionError, match="made by the model"):
        run_here("task=index", f"encoder={other}", "embeddings=parts", "catalog=c")
    with pytest.raises(FashionError, match="name another folder"):
        run_here(*embed[:1], f"encoder={other}", *embed[2:])
    write_part(tmp_path / "wide", 0, np.ones((2, 512), np.float32), pa.table({"image_path": ["a", "b"]}))
    with pytest.raises(FashionError, match=r"it should be \(2, 64\)"):
        run_here("task=index", f"encoder={bundle}", "embeddings=wide", "catalog=c")
    shutil.rmtree(tmp_path / "wide/metadata")
    with pytest.raises(FashionError, match="holds no embeddings"):
        run_here("task=index", f"encoder={bundle}", "embeddings=wide", "catalog=c")


def test_shards_are_numbered_or_told_by_the_launcher(monkeypatch):
    assert which_shard("3/8") == (3, 8)
    for bad in ("0/3", "4/3", "x", "1"):
        with pytest.raises(FashionError, match="like 3/8"):
            which_shard(bad)
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(FashionError, match="torchrun or Slurm"):
        which_shard("auto")
    monkeypatch.setenv("SLURM_PROCID", "2")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert which_shard("auto") == (3, 4)
