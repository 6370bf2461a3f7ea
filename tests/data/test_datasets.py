import json
import os
import shutil
import timeit
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import at_once, slowed, write_pictures
from PIL import Image
from pytorch_lightning import LightningModule, Trainer

from fashion.data import arrays
from fashion.data.arrays import PictureArray, picture_array, rows_of
from fashion.data.augmenting import AugmentingDataModule
from fashion.data.datamodules import ImageDataModule, queries_and_gallery
from fashion.data.datasets import ImageDataset, TripletDataset
from fashion.data.images import BadPictureError, load_picture
from fashion.data.sources import read_source
from fashion.data.transforms import Augmentation
from fashion.data.triplets import TripletDataModule
from fashion.errors import FashionError
from fashion.files import sha256


@pytest.fixture
def source(pictures, tmp_path):
    return read_source("folder", str(pictures), cache=tmp_path / "cache")


def array(source, cache: Path, split: str = "train", **options):
    return picture_array(source.root, source.split(split), source.class_names, 32, cache, **options)


def test_the_array_holds_what_the_loader_reads(source, tmp_path):
    decoded = array(source, tmp_path)
    for at in (0, 17, 35):
        np.testing.assert_array_equal(decoded.pictures[at], load_picture(source.root / decoded.items[at].path, 32))
    assert [source.class_names[label] for label in decoded.labels] == [item.label for item in decoded.items]


def test_a_second_call_decodes_nothing(source, tmp_path, monkeypatch):
    first = array(source, tmp_path)
    monkeypatch.setattr(arrays, "load_pictures", lambda *args: pytest.fail("decoded again"))
    np.testing.assert_array_equal(array(source, tmp_path).pictures, first.pictures)


def test_changed_content_or_size_is_decoded_anew(source, tmp_path):
    first = array(source, tmp_path)
    path = source.root / source.split("train")[0].path
    times = path.stat()
    Image.new("RGB", (40, 40), "white").save(path)
    os.utime(path, (times.st_atime, times.st_mtime))
    changed = array(source, tmp_path)
    assert (changed.pictures[0] == 255).all()
    assert changed.digest != first.digest


def test_bad_pictures_fail_or_are_skipped_and_reported(source, tmp_path):
    (source.root / "train/hat/3.png").write_bytes(b"not a picture")
    with pytest.raises(BadPictureError, match=r"train/hat/3\.png.*\(data\.on_bad_image=skip"):
        array(source, tmp_path)
    kept = array(source, tmp_path, on_bad_image="skip")
    assert len(kept.pictures) == len(kept.labels) == len(kept.items) == 35
    for item, picture in zip(kept.items, kept.pictures, strict=True):
        np.testing.assert_array_equal(picture, load_picture(source.root / item.path, 32))
    assert [path for path, _ in kept.skipped] == ["train/hat/3.png"]
    with pytest.raises(BadPictureError, match=r"3\.png"):  # also from the cache that skip has written
        array(source, tmp_path)


def test_where_no_picture_can_be_read_the_first_reason_is_told(source, tmp_path):
    for item in source.split("train"):
        (source.root / item.path).write_bytes(b"")
    with pytest.raises(FashionError, match=r"None of the 36 .* can be read \(.*\.png is not a picture .*\); check"):
        array(source, tmp_path, on_bad_image="skip")


def test_pictures_are_not_held_twice_in_memory(source, tmp_path, monkeypatch):
    """Neither where one of them cannot be read, nor where some are chosen."""
    picture = np.zeros((3, 512, 512), np.uint8)
    decoded = [BadPictureError("damaged"), *[picture] * 35]
    monkeypatch.setattr(arrays, "load_pictures", lambda *args: iter(decoded))
    tracemalloc.start()
    try:
        kept = picture_array(source.root, source.split("train"), source.class_names, 512, tmp_path, "skip")
        assert tracemalloc.get_traced_memory()[1] < kept.pictures.nbytes / 4
        rows_of(kept, np.arange(30))
        assert tracemalloc.get_traced_memory()[1] < kept.pictures.nbytes * 1.25
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("gone", ["pictures.npy", "skipped.json", "."])
def test_decoded_pictures_may_be_deleted(source, tmp_path, gone):
    first = array(source, tmp_path / "c")
    before = np.array(first.pictures)
    (folder,) = (path.parent for path in (tmp_path / "c").rglob("skipped.json"))
    if gone == ".":
        shutil.rmtree(tmp_path / "c")
    else:
        (folder / gone).unlink()
    np.testing.assert_array_equal(array(source, tmp_path / "c").pictures, before)
    np.testing.assert_array_equal(first.pictures, before)  # what is in use stays


def test_one_picture_may_be_named_twice_and_skipped_once(pictures, tmp_path):
    table = pictures / "items.csv"
    rows = ["path,label,split,bbox", "train/hat/0.png,hat,train,900 900 950 950", "train/hat/0.png,hat,train,0 0 20 20",
            "train/dress/0.png,dress,train,"]  # fmt: skip
    table.write_text("\n".join(rows) + "\n")
    found = array(read_source("table", str(table), cache=tmp_path), tmp_path / "cache", on_bad_image="skip")
    assert found.labels.tolist() == [1, 0]  # hat, dress
    assert len(found.pictures) == len(found.items) == 2
    assert found.pictures[0].mean(axis=(1, 2)).argmax() == 1  # a hat is green, a dress is red
    assert found.pictures[1].mean(axis=(1, 2)).argmax() == 0
    assert [path for path, _ in found.skipped] == ["train/hat/0.png"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(source, tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(FashionError, match=r"No space left.*set cache_dir"):
        array(source, tmp_path)
    assert not [path for path in (tmp_path / "pictures").rglob("*") if path.is_file() and "pictures" in path.parts[-2]]


def test_an_interrupted_decoding_starts_again(source, tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(arrays, "load_pictures", interrupted)
        with pytest.raises(KeyboardInterrupt):
            array(source, tmp_path)
    assert len(array(source, tmp_path).pictures) == 36


def test_two_jobs_at_once_decode_once(source, tmp_path, monkeypatch):
    done = slowed(monkeypatch, arrays, "_decode")
    first, second = at_once(lambda: array(source, tmp_path), 2)
    np.testing.assert_array_equal(first.pictures, second.pictures)
    assert len(done) == 1


def test_batches_are_fetched_whole_and_augmented(source, tmp_path):
    dataset = ImageDataset(array(source, tmp_path), lambda pictures: 255 - pictures)
    pictures, labels = dataset.__getitems__([3, 20])
    np.testing.assert_array_equal(pictures.numpy(), 255 - dataset.array.pictures[[3, 20]])
    assert labels.tolist() == dataset.array.labels[[3, 20]].tolist()
    assert dataset[3][0].shape == (3, 32, 32)


def test_explicit_triplets_have_a_positive_and_a_negative(source, tmp_path):
    dataset = TripletDataset(ImageDataset(array(source, tmp_path)), seed=1)
    labels = dataset.images.array.labels
    anchors = list(range(36)) * 200
    drawn = dataset.draw(anchors).reshape(3, -1)
    assert drawn[0].tolist() == anchors
    assert (labels[drawn[0]] == labels[drawn[1]]).all()
    assert (drawn[0] != drawn[1]).all()
    assert (labels[drawn[0]] != labels[drawn[2]]).all()
    assert {(a, p) for a, p, _ in drawn.T if a == 0} == {(0, p) for p in range(1, 12)}  # every positive comes up
    pictures, batch = dataset.__getitems__([0, 12])
    assert pictures.shape == (6, 3, 32, 32)
    assert batch.tolist()[:4] == [0, 1, 0, 1]


def test_triplets_of_thousands_of_products_are_drawn_as_quickly_as_of_few():
    random = np.random.default_rng(0)
    seconds = {}
    for products in (10, 20_000):
        labels = random.permutation(np.arange(40_000) % products)
        pictures = np.zeros((40_000, 3, 1, 1), np.uint8)
        dataset = TripletDataset(ImageDataset(PictureArray(pictures, labels, (), (), "")), seed=1)
        torch.manual_seed(3)
        drawn = dataset.draw(range(2000)).reshape(3, -1)
        seconds[products] = min(timeit.repeat(lambda dataset=dataset: dataset.draw(range(2000)), number=1, repeat=3))
        assert (labels[drawn[0]] != labels[drawn[2]]).all()
        same = np.random.default_rng([1, 3])
        for anchor, _, negative in drawn.T[:50]:  # the draws are those of a list of all others, class by class
            own = np.flatnonzero(labels == labels[anchor])
            others = np.argsort(labels, kind="stable")
            same.integers(len(own) - 1)
            assert negative == others[labels[others] != labels[anchor]][same.integers(40_000 - len(own))]
    assert seconds[20_000] < 20 * seconds[10]  # it was 200 times


@pytest.mark.parametrize(
    ("counts", "words"), [({"dress": 5}, "two classes"), ({"dress": 5, "hat": 1}, "'hat' has one training picture")]
)
def test_triplets_need_two_of_everything(tmp_path, counts, words):
    root = write_pictures(tmp_path / "p", {"train": counts})
    with pytest.raises(FashionError, match=words):
        TripletDataset(ImageDataset(array(read_source("folder", str(root), cache=tmp_path), tmp_path)))


def module(pictures, tmp_path, **options) -> ImageDataModule:
    defaults = {"source": str(pictures), "cache_dir": str(tmp_path / "cache"), "batch_size": 8, "image_size": 32}
    return ImageDataModule("folder", **(defaults | options))


def test_the_image_module_gives_every_picture_once_an_epoch(pictures, tmp_path):
    images = module(pictures, tmp_path, batch_size=9)
    assert images.class_names == ("dress", "hat", "shoes")
    assert images.class_counts() == [12, 12, 12]
    labels = torch.cat([labels for _, labels in images.train_dataloader()])
    assert torch.bincount(labels).tolist() == [12, 12, 12]
    queries, gallery = images.val_dataloader()
    assert sum(len(labels) for _, labels in queries) == 12
    assert sum(len(labels) for _, labels in gallery) == 36


def test_each_picture_is_hashed_once_a_start(pictures, tmp_path, monkeypatch):
    images = module(pictures, tmp_path, augment={})
    images.prepare_data()
    hashed = []
    monkeypatch.setattr(arrays, "sha256", lambda path: hashed.append(path) or sha256(path))
    again = module(pictures, tmp_path, augment={})
    again.prepare_data()
    assert len(hashed) == len(set(hashed)) == 48  # training pictures are read at two sizes
    assert again.array("train").digest == images.array("train").digest


@pytest.mark.parametrize("mode", ["mined", "explicit"])
def test_the_triplet_module_gives_usable_batches(pictures, tmp_path, mode):
    triplets = TripletDataModule(module(pictures, tmp_path, augment={}), mode=mode, pictures_per_class=4)
    pictures_, labels = next(iter(triplets.train_dataloader()))
    assert pictures_.shape[1:] == (3, 32, 32)
    assert len(pictures_) == len(labels) == (12 if mode == "mined" else 6)
    if mode == "mined":
        assert torch.bincount(labels).tolist() == [4, 4, 4]
    else:
        anchors, positives, negatives = labels.chunk(3)
        assert torch.equal(anchors, positives)
        assert (anchors != negatives).all()


def test_products_with_one_picture_are_left_out(pictures, tmp_path, caplog):
    rows = ["path,label,split,product_id"]
    rows += [f"train/{label}/{at}.png,{label},train,{label}{at // 2 if at < 11 else 99}"
             for label in ("hat", "dress") for at in range(12)]  # fmt: skip
    (pictures / "items.csv").write_text("\n".join(rows) + "\n")
    images = ImageDataModule("table", str(pictures / "items.csv"), cache_dir=str(tmp_path / "cache"), batch_size=4)
    triplets = TripletDataModule(images, classes_per_batch=4, pictures_per_class=2, by="product_id")
    assert len(triplets.class_of()) == 10
    (batches,) = [[labels for _, labels in triplets.train_dataloader()]]
    assert {len(labels) for labels in batches} == {8}
    assert caplog.text.count("4 training pictures are left out: no other one has their product_id") == 1


def test_balanced_batches_know_how_often_classes_really_occur(tmp_path):
    root = write_pictures(tmp_path / "p", {"train": {"dress": 9, "hat": 3}, "validation": {"dress": 1, "hat": 1}})
    images = module(root, tmp_path)
    assert TripletDataModule(images).class_weights() == [1.5, 0.5]
    assert TripletDataModule(images, mode="explicit").class_weights() is None


@pytest.mark.parametrize("augment", [None, {"crop_scale": 0.5}])
def test_training_pictures_can_be_larger_than_the_networks(pictures, tmp_path, augment):
    images = module(pictures, tmp_path, image_size=32, training_size=64, augment=augment)
    assert next(iter(images.train_dataloader()))[0].shape[1:] == (3, 64, 64)
    assert next(iter(images.val_dataloader()[0]))[0].shape[1:] == (3, 32, 32)


def test_evaluation_sees_the_middle_and_crops_are_drawn_from_the_whole(pictures, tmp_path):
    images = module(pictures, tmp_path, centre=0.8, stored_scale=1.0, augment={})
    path = images.source.root / images.array("train").items[0].path
    np.testing.assert_array_equal(images.array("train").pictures[0], load_picture(path, 32, centre=0.8))
    np.testing.assert_array_equal(images.training_array().pictures[0], load_picture(path, 32))
    plain = module(pictures, tmp_path, centre=0.8, augment=None)  # without crops, training looks as evaluation does
    np.testing.assert_array_equal(plain.training_array().pictures[0], load_picture(path, 32, centre=0.8))


class Onlooker(LightningModule):
    """Trains nothing; notes the pictures it is given."""

    def __init__(self):
        super().__init__()
        self.seen = {"train": [], "validation": []}

    def training_step(self, batch, batch_idx):
        self.seen["train"].append(batch[0])

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.seen["validation"].append(batch[0])

    def configure_optimizers(self):
        return None


@pytest.mark.parametrize("kind", ["images", "triplets", "explicit triplets"])
@pytest.mark.parametrize("where", ["loading", "gpu", "gpu that holds them"])
def test_training_batches_are_augmented_once_wherever_that_is(pictures, tmp_path, monkeypatch, kind, where):
    calls = []
    images = module(pictures, tmp_path, stored_scale=1.25, augment={})
    mode = "explicit" if "explicit" in kind else "mined"
    data = images if kind == "images" else TripletDataModule(images, mode=mode, pictures_per_class=4)
    call = Augmentation.__call__
    monkeypatch.setattr(Augmentation, "__call__", lambda self, x: calls.append(x.shape[2]) or call(self, x))
    monkeypatch.setattr(AugmentingDataModule, "_on_gpu", where != "loading")
    stored = torch.from_numpy(np.array(images.training_array().pictures))
    held = stored if "holds" in where else None
    monkeypatch.setattr(AugmentingDataModule, "_on_device", lambda self, array: held)
    loaded = next(iter(data.train_dataloader()))[0]
    assert loaded.shape[1:] == {"loading": (3, 32, 32), "gpu": (3, 40, 40)}.get(where, ())
    calls.clear()
    model = Onlooker()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    Trainer(accelerator="cpu", max_epochs=1, num_sanity_val_steps=1, default_root_dir=tmp_path, **quiet).fit(
        model, data
    )
    assert calls == [40] * len(model.seen["train"])
    assert {batch.shape[2] for seen in model.seen.values() for batch in seen} == {32}
    first = torch.from_numpy(np.array(images.array("validation").pictures))
    assert torch.equal(model.seen["validation"][-2], first)


@pytest.mark.parametrize("kind", ["images", "triplets"])
def test_what_a_gpu_holds_gives_the_batches_that_loading_gives(pictures, tmp_path, monkeypatch, kind):
    batches = []
    for held in (False, True):
        images = module(pictures, tmp_path)  # without augmentation, so that the same pictures are the same numbers
        data = images if kind == "images" else TripletDataModule(images, pictures_per_class=4)
        stored = torch.from_numpy(np.array(images.training_array().pictures)) if held else None
        monkeypatch.setattr(AugmentingDataModule, "_on_gpu", held)
        monkeypatch.setattr(AugmentingDataModule, "_on_device", lambda self, array, stored=stored: stored)
        data.trainer = SimpleNamespace(training=True, current_epoch=0)
        torch.manual_seed(1)
        batches.append([data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()])
    for loaded, kept in zip(*batches, strict=True):
        assert torch.equal(loaded[0], kept[0])
        assert torch.equal(loaded[1], kept[1])


@pytest.mark.parametrize("free", [10_000, 10_000_000])
def test_a_gpu_holds_the_pictures_that_fit_into_it(pictures, tmp_path, monkeypatch, free):
    images = module(pictures, tmp_path)
    array = images.training_array()
    images.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")), training=True)
    monkeypatch.setattr(AugmentingDataModule, "_on_gpu", True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    monkeypatch.setattr("fashion.data.augmenting.PIECE", 7)
    assert images.to_train_on(array).fetch == (free < 4 * array.pictures.nbytes)
    if images.held is not None:
        assert torch.equal(images.held, torch.from_numpy(np.array(array.pictures)))
    images.teardown("fit")
    assert images.held is None


@pytest.mark.parametrize(("device", "late"), [("cpu", False), ("mps", False), ("cuda:1", True)])
def test_only_a_gpu_augments_by_itself(pictures, tmp_path, monkeypatch, device, late):
    images = module(pictures, tmp_path, augment={})
    monkeypatch.setattr(AugmentingDataModule, "_on_device", lambda self, array: None)
    array = images.training_array()
    assert images.to_train_on(array).augment is images.augment  # without a trainer, too
    images.trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))
    assert (images.to_train_on(array).augment is None) == late


def test_workers_give_batches_too(pictures, tmp_path):
    images = module(pictures, tmp_path, num_workers=2, augment={})
    assert len(list(images.train_dataloader())) == 4


def test_pinned_content_is_verified(pictures, tmp_path):
    digest = module(pictures, tmp_path).array("train").digest
    assert len(module(pictures, tmp_path, digests={"train": digest}).array("train").labels) == 36
    with pytest.raises(FashionError, match="not the pinned ones"):
        module(pictures, tmp_path, digests={"train": "0" * 16}).array("train")


def test_a_missing_test_split_is_fine_until_it_is_asked_for(tmp_path):
    root = write_pictures(tmp_path / "p", {"train": {"dress": 8, "hat": 8}, "validation": {"dress": 2, "hat": 2}})
    images = module(root, tmp_path)
    images.prepare_data()
    with pytest.raises(FashionError, match="has no test pictures; it has train, validation"):
        images.array("test")


def test_without_validation_pictures_a_fold_is_the_way_out(tmp_path):
    root = write_pictures(tmp_path / "p", {"train": {"dress": 30, "hat": 30}, "test": {"dress": 2, "hat": 2}})
    with pytest.raises(FashionError, match=r"has no validation pictures; it has train, test\. .*data\.fold=1/7"):
        module(root, tmp_path).array("validation")
    images = module(root, tmp_path, fold="1/7")
    assert len(images.array("validation").labels) + len(images.array("train").labels) == 60


def test_rows_that_show_a_picture_again_count_once(pictures, tmp_path, caplog):
    """Two sizes of one garment with one photo; another box of it, and another label, are other pictures."""
    rows = ["train/hat/0.png,hat,train,,S", "train/hat/0.png,hat,train,,M", "train/hat/0.png,hat,train,0 0 20 20,L",
            "train/hat/0.png,dress,train,,S", "train/hat/0.png,hat,validation,,S"]  # fmt: skip
    (pictures / "items.csv").write_text("\n".join(["path,label,split,bbox,size", *rows]))
    images = ImageDataModule("table", pictures / "items.csv", cache_dir=tmp_path / "c", image_size=32)
    assert [item.extra["size"] for item in images.array("train").items] == ["S", "L", "S"]
    assert "1 of 4 rows show a picture again" in caplog.text
    assert len(images.array("validation").items) == 1
    assert len(images.source.items) == 5  # a catalogue has both sizes


def test_a_picture_is_asked_and_searched_for_where_its_rows_say_so(pictures, tmp_path):
    rows = ["hat/0.png,hat,true,", "hat/0.png,hat,,true", "hat/1.png,hat,,true", "dress/0.png,dress,true,"]
    (pictures / "train/items.csv").write_text(
        "\n".join(["path,label,is_query,is_gallery,split", *(f"{row},train" for row in rows)])
    )
    images = ImageDataModule("table", pictures / "train/items.csv", cache_dir=tmp_path / "c", image_size=32)
    asked, searched = queries_and_gallery(images, "train")
    assert [item.path for item in asked.items] == ["hat/0.png", "dress/0.png"]
    assert [item.path for item in searched.items] == ["hat/0.png", "hat/1.png"]


def test_one_class_only_is_refused(tmp_path):
    root = write_pictures(tmp_path / "p", {"train": {"dress": 20}, "validation": {"dress": 2}})
    with pytest.raises(FashionError, match="one class only"):
        module(root, tmp_path).train_dataloader()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"training_size": 16}, "data.training_size is 16"),
        ({"training_size": 100}, "data.training_size is 100"),
        ({"image_size": 50}, "multiple of 16"),
        ({"centre": 0.3}, "data.centre is 0.3"),
        ({"on_bad_image": "ignore"}, "should be 'fail' or 'skip'"),
        ({"augment": {"flip": 1.5}}, "data.augment.flip is 1.5"),
        ({"augment": {"rotate": 200}}, "rotate 200.0 between 0 and 180"),
        ({"fold": "6/5"}, "data.fold is '6/5'"),
        ({"fold": "one"}, "data.fold is 'one'"),
        ({"fold": 0.2}, "data.fold is '0.2'"),
        ({"fold": ""}, "data.fold is ''"),
        ({"augment": {"crop_scale": 0}}, "data.augment.crop_scale is 0"),
        ({"stored_scale": 3}, "data.stored_scale is 3"),
        ({"batch_size": 1}, "batch_size is 1;"),
        ({"batch_size": 100}, "there are 36 training pictures"),
    ],
)
def test_bad_settings_are_refused(pictures, tmp_path, options, words):
    with pytest.raises(FashionError, match=words):
        module(pictures, tmp_path, **options).train_dataloader()


def test_the_report_of_skipped_pictures_is_plain_json(source, tmp_path):
    (source.root / "train/hat/3.png").write_bytes(b"")
    array(source, tmp_path, on_bad_image="skip")
    (report,) = tmp_path.rglob("skipped.json")
    ((at, path, reason),) = json.loads(report.read_text())
    assert (source.split("train")[at].path, path) == ("train/hat/3.png", "train/hat/3.png")
    assert "3.png" in reason


def test_arguments_are_paths_or_missing(pictures, tmp_path):
    assert ImageDataModule("folder", pictures, cache_dir=tmp_path).class_names == ("dress", "hat", "shoes")
    with pytest.raises(FashionError, match=r"^data.cache_dir: Missing required keyword only argument.$"):
        ImageDataModule("folder", pictures)
    with pytest.raises(FashionError, match=r"^data.source is \[3\]"):
        ImageDataModule("folder", [3], cache_dir=tmp_path)
