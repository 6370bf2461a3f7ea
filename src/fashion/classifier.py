"""Training the network to name garments: cross-entropy over the class logits."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fashion.data.augmenting import AugmentingDataModule
from fashion.data.transforms import shrunk
from fashion.distillation import Teacher, distillation_loss
from fashion.errors import FashionError
from fashion.module import EncoderModule


class ClassifierModule(EncoderModule):
    """The classification task.

    Args:
        backbone: settings for `fashion.backbone.build_backbone`.
        class_names: in the order that labels are numbered.
        image_size: width and height of the pictures, pixels.
        centre: the share of a picture's sides that searches show the network; noted in its checkpoints.
        lr, muon, weight_decay, warmup: of the optimiser and its one-cycle schedule, see `fashion.optim`.
        label_smoothing: share of the target spread over all classes.
        margin: by how much the cosine to a picture's own class should win, 0…1, see `SiameseEncoder.with_margin`.
        class_weights: weight of each class in the loss, or None for equal ones.
        mixup: probability that a batch is mixed with itself by mixup (https://arxiv.org/abs/1710.09412).
        cutmix: the same by cutmix (https://arxiv.org/abs/1905.04899); a batch gets one of the two at most.
        dropout: share of the pooled features dropped.
        look: share of looks in the cosine of two embeddings, see `fashion.network`.
        teacher: trained networks that see the training pictures too, or None.
        teaching: share of the loss that is imitation of the teacher, 0…1; the labels have the rest.
    """

    monitor, headline = "val/acc", "accuracy"
    """The metric by which the best epoch is chosen, logged by `log_scores`, and what evaluations call it."""

    def __init__(
        self,
        backbone: Mapping[str, Any],
        class_names: Sequence[str],
        image_size: int = 64,
        centre: float = 1.0,
        *,
        lr: float = 12e-3,
        muon: float | None = 2.0,
        weight_decay: float = 0.05,
        warmup: float = 0.15,
        label_smoothing: float = 0.1,
        margin: float = 0.15,
        class_weights: Sequence[float] | None = None,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        dropout: float = 0.0,
        look: float = 0.25,
        teacher: Teacher | None = None,
        teaching: float = 0.8,
    ):
        super().__init__()
        self.save_hyperparameters(ignore=["teacher"])
        self.build(class_weights)
        if mixup + cutmix > 1:
            raise FashionError(f"task.module: mixup {mixup} and cutmix {cutmix} are probabilities of one or the other.")
        self.teacher = teacher
        self._seen: list[tuple[Tensor, Tensor]] = []

    def on_fit_start(self) -> None:
        if self.teacher is not None:
            self.teacher.to(self.device)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        pictures, labels = batch
        mixed, targets = mix(
            pictures.float(), F.one_hot(labels, len(self.hparams["class_names"])).float(),
            self.hparams["mixup"], self.hparams["cutmix"],
        )  # fmt: skip
        kinds, _ = self.network.parts(shrunk(mixed, self.hparams["image_size"]))
        logits = self.network.logits(kinds)
        loss = self.naming_loss(self.network.with_margin(logits, targets, self.hparams["margin"]), targets)
        if self.teacher is not None:
            loss = torch.lerp(loss, distillation_loss(logits, self.teacher(mixed)), self.hparams["teaching"])
        self.log("train/loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(labels))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.check_loader(dataloader_idx)
        if dataloader_idx == 0:
            pictures, labels = batch
            self._seen.append((self(pictures)[1].float().cpu(), labels.cpu()))
        elif not isinstance(getattr(self.trainer, "datamodule", None), AugmentingDataModule):  # ours always have two
            self.warn_once(
                "ClassifierModule evaluates the pictures of the first loader; the second is the gallery that "
                "TripletModule searches, and is left out."
            )

    def log_scores(self, split: str) -> None:
        logits, labels = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        self._seen.clear()
        self.log_names(split, logits, labels)


def mix(pictures: Tensor, targets: Tensor, mixup: float, cutmix: float) -> tuple[Tensor, Tensor]:
    """Blend (mixup) or patch (cutmix) each picture of a batch with another of it, and their targets in proportion.

    [N,3,H,W] and [N,classes] of floats → the same shapes.  The share of the other picture is drawn from
    Beta(0.4, 0.4) for mixup and evenly from 0…1 for cutmix, once a batch.
    """
    draw = torch.rand(()).item()
    if draw >= mixup + cutmix:
        return pictures, targets
    other = torch.randperm(len(pictures), device=pictures.device)
    if draw < mixup:
        share = torch.distributions.Beta(0.4, 0.4).sample().item()
        blended = torch.lerp(pictures, pictures[other], share)
    else:
        height, width = pictures.shape[2:]
        side = torch.rand(()).sqrt().item()
        tall, wide = round(height * side), round(width * side)
        top = int(torch.randint(height - tall + 1, ()))
        left = int(torch.randint(width - wide + 1, ()))
        blended = pictures.clone()
        blended[:, :, top : top + tall, left : left + wide] = pictures[other, :, top : top + tall, left : left + wide]
        share = tall * wide / (height * width)
    return blended, torch.lerp(targets, targets[other], share)
