"""Training the siamese encoder: triplets draw kinds of one class together, and cross-entropy names them."""

import logging
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from fashion.data.transforms import shrunk
from fashion.errors import FashionError
from fashion.losses import TripletLoss
from fashion.module import EncoderModule
from fashion.retrieval import leave_one_out, retrieval

log = logging.getLogger(__name__)

SEARCHED = ("top1", "top5", "mrr", "map")
"""Figures of searches that evaluations log."""

COLLAPSED_SPREAD = 0.02
"""Below this share of the spread that kinds can have, all pictures have practically the same kind."""


class TripletModule(EncoderModule):
    """The metric-learning task: a loss of kinds and cross-entropy, added up.

    Its evaluations search pictures in a gallery, the second of two loaders; with one loader they search each picture
    among the others.  Where no query has a picture of its class to find, there are no figures.

    Args:
        backbone, class_names, image_size, centre: as in `ClassifierModule`.
        loss: a module that maps kinds [N,32] of length 1 and labels [N] to a scalar: `TripletLoss` (None: as it is by
            default), or one of another library.
        lr, muon, weight_decay, warmup: see `fashion.optim`.
        classification: weight of the cross-entropy that keeps the class logits true while embeddings move; at 0 the
            model names no classes.
        label_smoothing: of that cross-entropy.
        dropout: share of the pooled features dropped.
        look: share of looks in the cosine of two embeddings, see `fashion.network`.
        class_of: the class of each number that labels a picture in training, where that is a product; None: it is the
            class.
        class_weights: weight of each class in the cross-entropy, or None for equal ones.
    """

    monitor, headline = "val/map", "gallery/map"
    """The metric by which the best epoch is chosen, logged by `log_scores`, and what evaluations call it."""

    def __init__(
        self,
        backbone: Mapping[str, Any],
        class_names: Sequence[str],
        image_size: int = 64,
        centre: float = 1.0,
        *,
        loss: nn.Module | None = None,
        lr: float = 1e-3,
        muon: float | None = 2.0,
        weight_decay: float = 0.05,
        warmup: float = 0.1,
        classification: float = 1.0,
        label_smoothing: float = 0.1,
        dropout: float = 0.0,
        look: float = 0.25,
        class_of: Sequence[int] | None = None,
        class_weights: Sequence[float] | None = None,
    ):
        super().__init__()
        self.save_hyperparameters(ignore=["loss", "class_of", "class_weights"])
        self.build(class_weights)
        self.class_of: Tensor | None
        self.register_buffer("class_of", None if class_of is None else torch.tensor(class_of), persistent=False)
        if not classification:  # what no loss reaches is frozen: distributed training waits for gradients
            self.network.directions.requires_grad_(False)
            self.network.log_scale.requires_grad_(False)
        self.loss = TripletLoss() if loss is None else loss
        check_loss(self.loss)
        self.collapsed = False
        self._seen: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._labels: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._logits: list[Tensor] = []
        self._spread: list[Tensor] = []
        self._at_margin: list[Tensor] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        pictures, labels = batch  # explicit triplets too go through the backbone as one batch
        kinds, _ = self.network.parts(shrunk(pictures, self.hparams["image_size"]))
        loss = metric = self.loss(kinds, labels)
        if not isinstance(metric, Tensor) or metric.numel() != 1:
            what = f"{[*metric.shape]} numbers" if isinstance(metric, Tensor) else f"a {type(metric).__name__}"
            raise FashionError(
                f"loss: {type(self.loss).__name__} gives {what} for a batch, not one number; let it take their mean."
            )
        if self.hparams["classification"]:
            classes = labels if self.class_of is None else self.class_of[labels]
            naming = self.naming_loss(self.network.logits(kinds), classes)
            loss = loss + self.hparams["classification"] * naming
        self._log_training(loss, metric, kinds.detach())
        return loss

    def _log_training(self, loss: Tensor, metric: Tensor, kinds: Tensor) -> None:
        spread = 1 - kinds.mean(dim=0).square().sum()
        values = {"train/loss": loss, "train/metric_loss": metric, "train/spread": spread}
        if isinstance(self.loss, TripletLoss) and self.loss.triplets and len(self.loss.triplets.positive):
            positive, negative = self.loss.triplets
            values |= {
                "train/positive_distance": positive.mean(),
                "train/negative_distance": negative.mean(),
                "train/active": (positive - negative + self.loss.margin > 0).float().mean(),
            }
            self._at_margin.append((metric.detach() - self.loss.margin).abs() < 0.02 * self.loss.margin)
        self._spread.append(spread)
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=len(kinds))

    def on_train_epoch_end(self) -> None:
        if not self._spread:  # a subclass has a training step of its own
            return
        spread = torch.stack(self._spread).mean().item()
        stuck = bool(self._at_margin) and torch.stack(self._at_margin).float().mean().item() > 0.9
        self._spread.clear()
        self._at_margin.clear()
        self.collapsed = spread < COLLAPSED_SPREAD
        if self.collapsed:
            log.warning(
                "Collapse: all pictures get nearly the same kind (spread %.3f of 1%s). Lower task.module.lr, use "
                "loss.miner=semihard or all instead of hard, or start from a classifier with task.pretrained.",
                spread,
                ", loss stuck at the margin" if stuck else "",
            )

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.check_loader(dataloader_idx)
        pictures, labels = batch
        kinds, _ = self.network.parts(pictures)  # looks are fitted when training has ended
        self._seen[dataloader_idx].append(kinds.cpu())
        self._labels[dataloader_idx].append(labels.cpu())
        if dataloader_idx == 0 and self.hparams["classification"]:  # else nothing teaches the logits
            self._logits.append(self.network.logits(kinds).float().cpu())

    def log_scores(self, split: str) -> None:
        queries, *gallery = (torch.cat(parts).numpy() for parts in self._seen if parts)
        truth, *gallery_labels = (torch.cat(parts).numpy() for parts in self._labels if parts)
        if self._logits:
            self.log_names(split, torch.cat(self._logits), torch.from_numpy(truth))
        for parts in (*self._seen, *self._labels, self._logits):
            parts.clear()
        if gallery:
            scores = retrieval(queries, truth, gallery[0], gallery_labels[0]).summary()
        else:
            scores = leave_one_out(queries, truth).summary()
        for name in (one for one in SEARCHED if one in scores):
            self.log(f"{split}/{name}", scores[name], prog_bar=name in ("top1", "map"))
        if "map" not in scores and not self.trainer.sanity_checking:
            self.warn_once(
                "No evaluated picture has one of its class to find, so there are no figures of searches; evaluate "
                "classes that are not trained on with one loader, which searches each picture among the others."
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        own = self.state_dict().keys()
        learned = [name for name in checkpoint["state_dict"] if name.startswith("loss.") and name not in own]
        if learned:
            raise FashionError(
                f"The checkpoint's loss has learned {learned[0]}, and TripletModule's own has no such; give it the "
                "same one: load_from_checkpoint(path, loss=…)."
            )


def check_loss(loss: nn.Module) -> None:
    """Raise FashionError unless a loss can be called with kinds and labels."""
    try:
        signature(loss.forward).bind("kinds", "labels")
    except TypeError as error:
        raise FashionError(
            f"loss: {type(loss).__name__} cannot be called with (kinds, labels): {error}; choose or write one that can."
        ) from error
