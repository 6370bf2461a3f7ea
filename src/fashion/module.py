"""What the Lightning modules of both tasks share: the network, its optimiser, and its looks when training ends."""

from collections.abc import Iterable
from copy import deepcopy
from itertools import islice
from typing import Any

from pytorch_lightning import LightningModule
from torch import Tensor
from torch.nn import functional as F

from fashion.data.augmenting import AugmentingDataModule
from fashion.data.transforms import shrunk
from fashion.metrics import classification, confusion_matrix
from fashion.network import SiameseEncoder
from fashion.optim import one_cycle


class EncoderModule(LightningModule):
    """A `SiameseEncoder` in training, by whatever loss."""

    network: SiameseEncoder

    monitor: str
    """The metric by which the best epoch is chosen."""

    looks_fitted = False
    """Whether the axes of looks were fitted to the network as it is; its checkpoints note it."""

    fits_looks = True
    """Fit them when training ends; False: whoever trains does so itself, in the checkpoints."""

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [N,3,H,W] of values 0…255 → embeddings [N,64], logits [N,classes]."""
        return self.network(pictures)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.validation_step(batch, batch_idx, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        self.log_scores("val")

    def on_test_epoch_end(self) -> None:
        self.log_scores("test")

    def log_scores(self, split: str) -> None:
        """Log what the steps of an evaluation have seen, as split/…, and forget it."""
        raise NotImplementedError

    def log_names(self, split: str, logits: Tensor, labels: Tensor) -> None:
        """Log how well logits [N,classes] name pictures of those labels [N]; the loss is the plain cross-entropy."""
        scores = classification(confusion_matrix(labels.numpy(), logits.argmax(dim=1).numpy(), logits.shape[1]))
        self.log(f"{split}/loss", F.cross_entropy(logits, labels))
        self.log(f"{split}/acc", scores["accuracy"], prog_bar=self.monitor == "val/acc")
        self.log(f"{split}/f1", scores["f1_macro"])

    def predict_step(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Pictures [N,3,H,W] and labels → embeddings [N,64], class probabilities [N,classes]."""
        embeddings, logits = self(batch[0])
        return embeddings, logits.softmax(dim=1)

    def configure_optimizers(self) -> Any:
        return one_cycle(
            self, self.hparams["lr"], self.hparams["weight_decay"], self.hparams["warmup"], self.hparams["muon"]
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["looks_fitted"] = self.looks_fitted
        if self.looks_fitted:  # what a callback averages over the steps are the weights, before their looks were fitted
            fitted = {f"network.axes.{name}": value for name, value in self.network.axes.state_dict().items()}
            checkpoint["state_dict"] |= fitted

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.looks_fitted = checkpoint.get("looks_fitted", True)

    def on_train_start(self) -> None:
        self.looks_fitted = False

    def on_train_end(self) -> None:
        """Fit the looks to the training pictures."""
        if self.fits_looks:
            network = deepcopy(self.network).cpu().eval()  # not every device computes in double precision
            size = self.hparams["image_size"]
            network.fit_looks(shrunk(pictures.cpu(), size) for pictures, _ in self._training_batches())
            self.network.axes.load_state_dict(network.axes.state_dict())
            self.looks_fitted = True

    def _training_batches(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Every training picture once; of loaders that are not ours as many batches as were trained on, at most."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, AugmentingDataModule):
            return data.evaluation_loader("train")
        batches: Any = self.trainer.train_dataloader
        trained_on = self.trainer.fit_loop.epoch_loop.total_batch_idx + 1
        return islice(batches, trained_on)
