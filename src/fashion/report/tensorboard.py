"""What TensorBoard shows beside the scalars: what the network sees, the graph, confusion, and the HParams tab."""

import logging
import re
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import torch
from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import TensorBoardLogger

from fashion.evaluation import Evaluation
from fashion.report.evaluation import Searches
from fashion.report.runs import HYDRAS

log = logging.getLogger(__name__)

THUMBNAIL = 48
VARIED = re.compile(
    r"seed$|model\.(name|_target_)$|task\.|loss\.|data\.(_target_|batch_size|fold|classes|augment\.)|trainer\.precision$"
)
"""Settings that become columns of the HParams tab."""

PROJECTED = (8192 // THUMBNAIL) ** 2 // 10
"""Pictures in the Projector: its sprite may have 8192×8192 pixels, and browsers slow down long before."""


class FirstBatch(Callback):
    """Logs the first training batch as the network sees it, after augmentation, and the network's graph."""

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step or batch_idx or not isinstance(trainer.logger, TensorBoardLogger):
            return
        from torchvision.utils import make_grid

        writer = trainer.logger.experiment
        writer.add_image("train/first_batch", make_grid(batch[0][:64].cpu(), nrow=8), 0)
        network, example = module.network, module.example_input_array
        assert isinstance(network, torch.nn.Module)
        assert isinstance(example, torch.Tensor)
        training = network.training
        with torch.no_grad(), warnings.catch_warnings(), redirect_stdout(None):  # the writer prints what it raises
            # The tracer warns that it is deprecated: TensorBoard's writer knows no other way yet.
            warnings.simplefilter("ignore")
            try:
                writer.add_graph(network.eval(), example.to(module.device))
            except Exception as error:  # a compiled network cannot be traced; others may raise anything
                log.info("TensorBoard has no graph of the network, which cannot be traced (%s).", type(error).__name__)
        network.train(training)


def log_results(
    logger: TensorBoardLogger, settings: Mapping[str, Any], result: Evaluation, step: int, confusion: Image.Image
) -> None:
    """The final figures: one row of the HParams tab for the run, and the confusion matrix.

    Args:
        settings: the run's, key.key → value; what sweeps vary becomes the tab's columns.
        confusion: the matrix as a picture.
    """
    figures = {f"final/{name}": value for name, value in result.headlines().items()}
    columns = {key: _scalar(value) for key, value in settings.items() if VARIED.match(key) and not HYDRAS.search(key)}
    logger.log_hyperparams(columns, figures, step=step)
    logger.experiment.add_image("final/confusion", np.asarray(confusion), 0, dataformats="HWC")


def log_searches(logger: TensorBoardLogger, searches: Searches) -> None:
    """The worst queries, and the Projector's embeddings with their thumbnails."""
    writer, result, queries = logger.experiment, searches.result, searches.queries
    if searches.worst_grid is not None:
        writer.add_image("final/worst_queries", np.asarray(searches.worst_grid), 0, dataformats="HWC")
    some = np.linspace(0, len(queries.labels) - 1, min(PROJECTED, len(queries.labels))).astype(int)
    thumbnails = torch.from_numpy(np.array(queries.pictures[some])).float() / 255
    small = torch.nn.functional.interpolate(thumbnails, size=(THUMBNAIL, THUMBNAIL), mode="area")
    labels = [[searches.class_names[queries.labels[at]], searches.class_names[result.predicted[at]],
               queries.items[at].path] for at in some]  # fmt: skip
    header = ["true", "predicted", "path"]
    writer.add_embedding(
        result.embeddings[some], labels, small, global_step=0, tag="embeddings", metadata_header=header
    )
    logger.save()


def _scalar(value: Any) -> Any:
    """The HParams tab takes scalars only: all else as text."""
    return value if isinstance(value, int | float | str | bool) else str(value)
