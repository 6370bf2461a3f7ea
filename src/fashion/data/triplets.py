"""The LightningDataModule of batches that hold triplets, for the siamese encoder."""

from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from fashion.arguments import checked
from fashion.data.arrays import PictureArray, relabelled
from fashion.data.augmenting import AugmentingDataModule, Batch
from fashion.data.datamodules import ImageDataModule
from fashion.data.datasets import TripletDataset, members_of
from fashion.data.samplers import PKBatchSampler, rank_and_world_size, shuffled


class TripletDataModule(AugmentingDataModule):
    """Batches that hold triplets, over the pictures of an `ImageDataModule`.

    Args:
        images: where the pictures come from; its loaders for evaluation are used as they are.
        mode: `mined`: P classes × K pictures a batch, for a loss that mines triplets among them; `explicit`: random
            (anchor, positive, negative), `images.batch_size` // 3 of them a batch, for `loss.miner=given`.
        classes_per_batch, pictures_per_class: P (None: all classes, at most 8) and K of `mined`.
        by: what makes two pictures alike: None: their class; or a column of the data, such as `product_id`, whose
            values then are what P counts.
        seed: of the draws.
    """

    @checked("task.batches")
    def __init__(
        self,
        images: ImageDataModule,
        *,
        mode: Literal["mined", "explicit"] = "mined",
        classes_per_batch: int | None = None,
        pictures_per_class: int = 8,
        by: str | None = None,
        seed: int = 0,
    ):
        super().__init__()
        self.images, self.augment = images, images.augment
        self.mode, self.seed, self.by = mode, seed, by
        self.classes_per_batch, self.pictures_per_class = classes_per_batch, pictures_per_class

    def prepare_data(self) -> None:
        self.images.prepare_data()

    def train_dataloader(self) -> DataLoader[Batch]:
        array, rank, world = self._alike[0], *rank_and_world_size()
        if self.mode == "explicit":
            triplets = TripletDataset(self.to_train_on(array), seed=self.seed + rank)
            size = min(max(self.images.batch_size // 3, 1), max(len(triplets) // world, 1))
            return self.images.loader(triplets, sampler=shuffled(triplets), batch_size=size, drop_last=True)
        members = members_of(array)
        classes = self.classes_per_batch or min(len(members), 8)
        epoch = self.trainer.current_epoch if self.trainer else 0  # loaders may be made anew amid a training
        passes = max(self.epochs_done, epoch)
        batches = PKBatchSampler(members, classes, self.pictures_per_class, self.seed, rank, world, passes)
        return self.images.loader(self.to_train_on(array), batch_sampler=batches)

    @cached_property
    def _alike(self) -> tuple[PictureArray, NDArray[np.int64] | None]:
        """The training pictures, labelled by what makes them alike, and the class of each such label if it is none."""
        array = self.images.training_array()
        return relabelled(array, self.by) if self.by else (array, None)

    def class_of(self) -> list[int] | None:
        """The class of each number that labels a training picture; None where it is the class itself."""
        numbers = self._alike[1]
        return None if numbers is None else numbers.tolist()

    def class_weights(self) -> list[float] | None:
        """How much oftener each class occurs than the batches show it, on average 1; None for explicit
        triplets, and where batches count something other than classes (`by`).

        A cross-entropy over batches that hold all classes equally often would learn to name rare ones too readily.
        """
        if self.mode == "explicit" or self.by:
            return None
        counts = self.images.class_counts()
        return [len(counts) * count / sum(counts) for count in counts]

    def evaluation_loader(self, split: str) -> DataLoader[Batch]:
        return self.images.evaluation_loader(split)

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        return self.images.val_dataloader()

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        return self.images.test_dataloader()

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self.images.predict_dataloader()
