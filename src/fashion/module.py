"""What the Lightning modules of both tasks share: the network, its optimiser, and its looks when training ends."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from itertools import islice
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.nn import functional as F

from fashion.checkpoints import plain
from fashion.data.augmenting import AugmentingDataModule
from fashion.data.transforms import shrunk
from fashion.encoder import UNFITTED
from fashion.errors import FashionError
from fashion.hyperparameters import check_settings
from fashion.metrics import classification, confusion_matrix
from fashion.network import SiameseEncoder, network_from
from fashion.optim import one_cycle

log = logging.getLogger(__name__)

SCALED_BELOW = 4.0
"""No batch of pictures of values 0…255 stays below it; pictures of values 0…1, centred or not, do."""


class EncoderModule(LightningModule):
    """A `SiameseEncoder` in training, whatever its loss."""

    network: SiameseEncoder

    class_weights: Tensor
    """Weight of each class in `naming_loss` [classes]."""

    monitor: str
    """The metric by which the best epoch is chosen: the highest is."""

    headline: str
    """The figure of a run's evaluation that says what the run is worth."""

    started_from: str | None = None
    """The model whose weights the training started from, by the name it was given; None: from scratch."""

    settings: Mapping[str, Any] | None = None
    """Settings of the training task, which its checkpoints note for those that go on; None: there was no task."""

    looks_fitted = False
    """Whether the axes of looks were fitted to the network as it is; its checkpoints note it."""

    fit_looks_at_end = True
    """Fit them when training ends; False: the caller fits them in the saved checkpoints instead."""

    def __init__(self) -> None:
        super().__init__()
        self._warned: set[str] = set()

    def build(self, class_weights: Sequence[float] | None) -> None:
        """Make the network and what goes with it, by the hyper-parameters that were saved; None: equal weights.

        Raises:
            FashionError: for settings that no training can have.
        """
        check_settings(self.hparams)
        self.network = network_from(self.hparams)
        weights = torch.tensor(class_weights or [1.0] * len(self.hparams["class_names"]), dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)
        size = self.hparams["image_size"]
        self.example_input_array = torch.zeros(2, 3, size, size, dtype=torch.uint8)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [N,3,H,W] of values 0…255 → embeddings [N,64], logits [N,classes]."""
        return self.network(pictures)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.validation_step(batch, batch_idx, dataloader_idx)

    def _warn_if_scaled(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Warn if the pictures of a first batch seem to be scaled: the network does that itself."""
        pictures = pictures_of(batch)
        if batch_idx == 0 and isinstance(pictures, Tensor) and pictures.is_floating_point():
            most = pictures.max().item()
            if 0 < most < SCALED_BELOW:
                self.warn_once(
                    f"A batch of pictures has values of {most:.3g} at most, and the network takes 0…255: give them as "
                    "they are, neither scaled (as ToDtype(scale=True) does) nor normalised."
                )

    on_train_batch_start = on_validation_batch_start = on_test_batch_start = on_predict_batch_start = _warn_if_scaled

    def warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            log.warning(text)

    def check_loader(self, number: int) -> None:
        """Raise FashionError for a third loader of an evaluation, by its number from 0 on."""
        if number > 1:
            raise FashionError(
                "An evaluation has two loaders at most, [the evaluated pictures', the gallery's]; evaluate other "
                "pictures by themselves, with Trainer.validate or Trainer.test."
            )

    def on_validation_epoch_end(self) -> None:
        self.log_scores("val")

    def on_test_epoch_end(self) -> None:
        self.log_scores("test")

    def log_scores(self, split: str) -> None:
        """Log what the steps of an evaluation have seen, as split/…, and forget it."""
        raise NotImplementedError

    def log_names(self, split: str, logits: Tensor, labels: Tensor) -> None:
        """Log how well logits [N,classes] name pictures of those labels [N]; the loss is the plain cross-entropy.

        Raises:
            FashionError: if a label is none of the classes.
        """
        classes = logits.shape[1]
        if not 0 <= labels.min() <= labels.max() < classes:
            raise FashionError(
                f"Pictures are labelled {labels.min()} to {labels.max()}, and there are {classes} classes in "
                f"class_names: number them from 0 to {classes - 1}, or search classes that are not trained on with "
                "TripletModule(…, classification=0)."
            )
        scores = classification(confusion_matrix(labels.numpy(), logits.argmax(dim=1).numpy(), classes))
        self.log(f"{split}/loss", F.cross_entropy(logits, labels))
        self.log(f"{split}/acc", scores["accuracy"], prog_bar=self.monitor == "val/acc")
        self.log(f"{split}/f1", scores["f1_macro"])

    def naming_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Weighted mean cross-entropy of logits [N,classes]; targets: classes [N], or their shares [N,classes]."""
        losses = F.cross_entropy(logits, targets, label_smoothing=self.hparams["label_smoothing"], reduction="none")
        # Not by the `weight` of cross_entropy: it weighs the smoothing too, so that rare classes would be expected in
        # every picture, and it divides by the sum of each batch's weights.
        weights = self.class_weights[targets] if targets.ndim == 1 else targets @ self.class_weights.to(targets.dtype)
        return (weights * losses).mean()

    def on_predict_start(self) -> None:
        if not self.looks_fitted:
            log.warning(UNFITTED, self.trainer.ckpt_path or type(self).__name__)

    def predict_step(self, batch: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Pictures [N,3,H,W], with labels or without → embeddings [N,64], class probabilities [N,classes]."""
        embeddings, logits = self(pictures_of(batch))
        return embeddings, logits.softmax(dim=1)

    def configure_optimizers(self) -> Any:
        return one_cycle(
            self, self.hparams["lr"], self.hparams["weight_decay"], self.hparams["warmup"], self.hparams["muon"]
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["looks_fitted"] = self.looks_fitted
        checkpoint["started_from"] = self.started_from
        checkpoint["settings"] = self.settings
        if self.looks_fitted:  # an averaging callback saves weights from before their looks were fitted
            own = self.state_dict()
            checkpoint["state_dict"] |= {name: own[name] for name in own if plain(name).startswith("network.axes.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.looks_fitted = checkpoint.get("looks_fitted", True)
        self.started_from = checkpoint.get("started_from", self.started_from)
        # A trainer may train on, and it warns when it predicts.  Its public name raises where there is none.
        if not self.looks_fitted and self._trainer is None:
            log.warning(UNFITTED, type(self).__name__)

    def on_train_start(self) -> None:
        self.looks_fitted = False

    def on_train_end(self) -> None:
        """Fit the looks to the training pictures."""
        if self.fit_looks_at_end:
            self.fit_looks(self._training_batches())

    def fit_looks(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fit the looks to training pictures, in batches (pictures [N,3,H,W], labels [N])."""
        network = deepcopy(self.network).cpu().eval()  # not every device computes in double precision
        size = self.hparams["image_size"]
        network.fit_looks(shrunk(pictures.cpu(), size) for pictures, _ in batches)
        self.network.axes.load_state_dict(network.axes.state_dict())
        self.looks_fitted = True

    def _training_batches(self) -> Iterable[tuple[Tensor, Tensor]]:
        """Every training picture once; of other loaders than ours, at most as many batches as were trained on."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, AugmentingDataModule):
            return data.evaluation_loader("train")
        batches: Any = self.trainer.train_dataloader
        trained_on = self.trainer.fit_loop.epoch_loop.total_batch_idx + 1
        return islice(batches, trained_on)


def pictures_of(batch: Any) -> Any:
    """The pictures of a batch: its first part, where it has parts."""
    return batch[0] if isinstance(batch, tuple | list) else batch
