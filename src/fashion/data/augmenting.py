"""Where training batches are augmented: as they are loaded, or on the GPU that trains."""

from pytorch_lightning import LightningDataModule
from torch import Tensor

from fashion.data.transforms import Augmentation

Batch = tuple[Tensor, Tensor]


class AugmentingDataModule(LightningDataModule):
    """A data module whose training batches are (pictures [B,3,S,S] uint8, labels [B]), to be augmented.

    One core augments pictures slower than a GPU learns from them, so there they travel as they are stored.
    """

    augment: Augmentation | None
    """What is drawn anew for each picture of a training batch; None: nothing."""

    epochs_done = 0
    """By the run that this one goes on with; Lightning does not know them yet when it asks for the loaders."""

    @property
    def on_loading(self) -> Augmentation | None:
        """What datasets should do; None where it is done on the GPU, or not at all."""
        return None if self._on_gpu else self.augment

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Lightning's hook, for each batch that has reached the device; batches of evaluations stay as they are."""
        if self.augment is None or not self._on_gpu or not (self.trainer and self.trainer.training):
            return batch
        pictures, labels = batch
        return self.augment(pictures), labels

    @property
    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
