"""Where training batches are augmented: as they are loaded, or on the GPU that trains."""

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader

from fashion.data.arrays import PictureArray
from fashion.data.datasets import ImageDataset
from fashion.data.transforms import Augmentation

Batch = tuple[Tensor, Tensor]

HELD = 0.25
"""The share of a GPU's free memory that training pictures may take up; the training itself needs most of it."""

PIECE = 1024
"""Pictures copied to the GPU at a time: all at once would need as much main memory, too."""


class AugmentingDataModule(LightningDataModule):
    """A data module whose training batches are (pictures [B,3,S,S] uint8, labels [B]), to be augmented.

    One core gathers and augments pictures more slowly than a GPU trains on them.  So with a GPU they are augmented
    there and, if they fit, all kept there; the loader then gives row numbers in their place.
    """

    augment: Augmentation | None
    """How training pictures are augmented, anew in each batch; None: not at all."""

    epochs_done = 0
    """Epochs of the run that is resumed; Lightning asks for the loaders before it knows their number."""

    held: Tensor | None = None
    """The training pictures [N,3,S,S] on the GPU; batches then hold their row numbers."""

    def to_train_on(self, array: PictureArray) -> ImageDataset:
        """The pictures, augmented as they are loaded; for a GPU as they are stored, or row numbers if it holds them."""
        if not self._on_gpu:
            return ImageDataset(array, self.augment)
        self.held = None  # freed before another array is copied
        self.held = self._on_device(array)
        return ImageDataset(array, fetch=self.held is None)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Lightning's hook, for each batch that has reached the device; batches of evaluations stay as they are."""
        if not self._on_gpu or not (self.trainer and self.trainer.training):
            return batch
        pictures, labels = batch
        if self.held is not None:
            pictures = self.held[pictures]
        return self.augment(pictures) if self.augment else pictures, labels

    def evaluation_loader(self, split: str) -> DataLoader[Batch]:
        """Every picture of a split once, in order, without augmentation."""
        raise NotImplementedError

    def teardown(self, stage: str) -> None:
        self.held = None

    def _on_device(self, array: PictureArray) -> Tensor | None:
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        if array.pictures.nbytes > HELD * torch.cuda.mem_get_info(device)[0]:
            return None
        held = torch.empty(array.pictures.shape, dtype=torch.uint8, device=device)
        for at in range(0, len(held), PIECE):
            held[at : at + PIECE] = torch.from_numpy(np.array(array.pictures[at : at + PIECE]))
        return held

    @property
    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
