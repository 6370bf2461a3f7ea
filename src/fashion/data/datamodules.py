"""The LightningDataModule of pictures and labels, which both tasks draw from."""

import multiprocessing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import DataLoader

from fashion.arguments import checked
from fashion.data.arrays import PictureArray, content_digests, picture_array, where_true, without_repeats
from fashion.data.augmenting import AugmentingDataModule, Batch
from fashion.data.datasets import ImageDataset
from fashion.data.samplers import rank_and_world_size, shuffled
from fashion.data.sources import SPLITS, Source, read_source
from fashion.data.transforms import Augmentation
from fashion.errors import FashionError


class ImageDataModule(AugmentingDataModule):
    """Pictures and labels of a data source, decoded once, in batches.

    Validation gives two loaders: the validation pictures, then the training pictures without augmentation, which
    are the gallery that validation pictures are searched in.  A test does so with the test pictures, and
    predictions are of these.

    Args:
        kind, source, drawing, classes, validation_fraction, fold: see `fashion.data.sources.read_source`.
        image_size: width and height of what the network sees, pixels.
        training_size: width and height of training batches, where they are to be larger than `image_size`: the module
            shrinks them, after a teacher has seen them; None: `image_size`.
        centre: the share of each side that evaluation and search look at, in the middle; training draws its own crops.
        stored_scale: training pictures are kept larger by this factor, so that crops are as sharp as what is searched.
        cache_dir: where downloads, extracted archives and decoded pictures are kept.
        batch_size: training pictures a batch (of one process).
        num_workers: processes that load training batches (and augment them, unless a GPU does); 0 does it
            between steps, and is fastest.
        augment: arguments of `Augmentation`, or None for none.
        on_bad_image: `fail` stops at the first picture that cannot be read; `skip` leaves such out and lists them.
        digests: split → digest that its pictures must have, where a source is pinned; None checks nothing.
    """

    @checked("data")
    def __init__(
        self,
        kind: str,
        source: str | Path | None = None,
        *,
        cache_dir: str | Path,
        drawing: Mapping[str, Any] | None = None,
        classes: Sequence[str] | str | None = None,
        validation_fraction: float = 0.15,
        fold: str | None = None,
        image_size: int = 64,
        training_size: int | None = None,
        centre: float = 1.0,
        stored_scale: float = 2.0,
        batch_size: int = 64,
        num_workers: int = 0,
        augment: Mapping[str, Any] | None = None,
        on_bad_image: Literal["fail", "skip"] = "fail",
        digests: Mapping[str, str] | None = None,
    ):
        super().__init__()
        if image_size < 32 or image_size % 16:
            raise FashionError(f"data.image_size is {image_size}; it should be a multiple of 16, and 32 at least.")
        if not 0.5 <= centre <= 1:
            raise FashionError(f"data.centre is {centre}; it should lie between 0.5 and 1.")
        if not 1 <= stored_scale <= 2:  # crops are sampled without smoothing, which allows for twice at most
            raise FashionError(f"data.stored_scale is {stored_scale}; it should lie between 1 and 2.")
        if num_workers < 0:
            raise FashionError(f"data.num_workers is {num_workers}; it should be 0 at least.")
        if batch_size < 2:
            raise FashionError(f"data.batch_size is {batch_size}; it should be 2 at least.")
        self.kind, self.location, self.drawing = kind, None if source is None else str(source), dict(drawing or {})
        self.classes, self.validation_fraction, self.fold = classes, validation_fraction, fold
        self.image_size, self.training_size = image_size, training_size or image_size
        if self.training_size < image_size or self.training_size % 16:
            raise FashionError(
                f"data.training_size is {training_size}; it should be a multiple of 16, and at least data.image_size "
                f"({image_size})."
            )
        self.centre = centre
        self.stored_size = round(self.training_size * stored_scale)
        self.cache = Path(cache_dir).expanduser().resolve()
        self.batch_size, self.num_workers = batch_size, num_workers
        self.augment = Augmentation(self.training_size, **augment) if augment is not None else None
        self.on_bad_image, self.digests = on_bad_image, dict(digests or {})
        self._source: Source | None = None
        self._arrays: dict[tuple[str, int, float], PictureArray] = {}
        self._contents: dict[str, list[str]] = {}

    @property
    def source(self) -> Source:
        """The items of all splits; read (downloaded, drawn) when first asked for."""
        if self._source is None:
            self._source = self.read()
        return self._source

    def read(self) -> Source:
        """The items anew."""
        return read_source(
            self.kind,
            self.location,
            cache=self.cache,
            drawing=self.drawing,
            classes=self.classes,
            validation_fraction=self.validation_fraction,
            fold=self.fold,
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    def array(self, split: str, size: int | None = None, centre: float | None = None) -> PictureArray:
        """The decoded pictures of a split at size×size, their middle or a larger share (default: what evaluation sees).

        Raises:
            FashionError: if the source has no such split, or it is not the pinned content.
        """
        size, centre = size or self.image_size, centre or self.centre
        if (split, size, centre) not in self._arrays:
            items = without_repeats(self.source.split(split))
            if not items:
                has = ", ".join(name for name in SPLITS if self.source.split(name))
                kept = "" if self.fold is None else " with data.fold, which is for comparing recipes"
                way = (
                    " Hold out a part of the training pictures with data.fold=1/7, or move some of them to validation."
                    if split == "validation" and self.fold is None
                    else ""
                )
                raise FashionError(f"{self.source.root} has no {split} pictures{kept}; it has {has}.{way}")
            if split not in self._contents:  # a split is read at two sizes
                self._contents[split] = content_digests(self.source.root, items)
            array = picture_array(
                self.source.root,
                items,
                self.class_names,
                size,
                self.cache,
                self.on_bad_image,
                centre,
                self._contents[split],
            )
            pinned = self.digests.get(split)
            if pinned and not self.classes and self.fold is None and pinned != array.digest:
                fetched = self.source.root.is_relative_to(self.cache)
                again = f"delete {self.cache / 'extracted'} and {self.cache / 'downloads'} to fetch them again"
                way = again if fetched else "use data=folder for pictures of yours"
                raise FashionError(
                    f"The {split} pictures in {self.source.root} are not the pinned ones (digest {array.digest}, not "
                    f"{pinned}); {way}, or set data.digests=null."
                )
            self._arrays[split, size, centre] = array
        return self._arrays[split, size, centre]

    def has(self, split: str) -> bool:
        return bool(self.source.split(split))

    def prepare_data(self) -> None:
        """Download, draw and decode; on one process of a machine, before the others map the files."""
        self._training_pictures()
        for split in ("train", "validation"):
            if self.has(split):
                self.array(split)

    def class_counts(self) -> list[int]:
        """Training pictures of each class, in class order."""
        return np.bincount(self.array("train").labels, minlength=len(self.class_names)).tolist()

    def train_dataloader(self) -> DataLoader[Batch]:
        dataset = self.to_train_on(self.training_array())
        processes = rank_and_world_size()[1]
        if len(dataset) // processes < self.batch_size:
            each = f" for each of {processes} processes" if processes > 1 else ""
            raise FashionError(
                f"data.batch_size is {self.batch_size}{each}, and there are {len(dataset)} training pictures; lower it."
            )
        return self.loader(dataset, sampler=shuffled(dataset), batch_size=self.batch_size, drop_last=True)

    def training_array(self) -> PictureArray:
        array = self._training_pictures()
        if len(np.unique(array.labels)) < 2:
            raise FashionError(
                "The training split has one class only; there is nothing to tell apart. Add another class."
            )
        return array

    def _training_pictures(self) -> PictureArray:
        if self.augment:  # crops are drawn from whole pictures
            return self.array("train", self.stored_size, centre=1.0)
        return self.array("train", self.training_size)

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        return [self.evaluation_loader("validation"), self.evaluation_loader("train")]

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        return [self.evaluation_loader("test"), self.evaluation_loader("train")]

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self.evaluation_loader("test")

    def evaluation_loader(self, split: str) -> DataLoader[Batch]:
        """Every picture of a split once, in order, without augmentation.

        It is not divided among processes: each sees them all, so that every picture counts once in each process's
        (equal) metrics, without padding.
        """
        return DataLoader(ImageDataset(self.array(split)), batch_size=256, collate_fn=_as_it_is)

    def loader(self, dataset: Any, **options: Any) -> DataLoader[Batch]:
        """A DataLoader over one of our datasets, which fetch whole batches themselves."""
        return DataLoader(
            dataset,
            collate_fn=_as_it_is,
            num_workers=self.num_workers,
            multiprocessing_context=_context() if self.num_workers else None,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            **options,
        )


def queries_and_gallery(
    data: ImageDataModule, split: str, each_other: bool = False
) -> tuple[PictureArray, PictureArray]:
    """The queries of a split, and the gallery that they are searched in: the training pictures.

    A table may itself mark which pictures of the split are queries and which the gallery, as In-shop's does.

    Args:
        each_other: the queries are searched among themselves; they are returned as the gallery, too.
    """
    pictures = data.array(split)
    queries = where_true(pictures, "is_query") or pictures
    return queries, queries if each_other else where_true(pictures, "is_gallery") or data.array("train")


def _context() -> str | None:
    """How worker processes start; None: as usual.  In a job of joblib's launcher, usual is a way of joblib's own."""
    own = multiprocessing.get_all_start_methods()  # the platform's usual one first
    return None if multiprocessing.get_start_method(allow_none=True) in (None, *own) else own[0]


def _as_it_is(batch: Any) -> Any:
    return batch
