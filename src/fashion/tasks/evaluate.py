"""task=evaluate: what a trained model is worth on a split, with intervals."""

import logging
from pathlib import Path
from typing import Literal

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from pydantic import Field

from fashion.data.datamodules import ImageDataModule
from fashion.encoder import load_encoder
from fashion.errors import FashionError
from fashion.evaluation import evaluate, write_metrics
from fashion.metrics import select
from fashion.report.html import Section, write_page
from fashion.report.pictures import confusion_picture, save_picture
from fashion.report.tables import metrics_table, per_class_table, search_table, show
from fashion.tasks.options import Options, read_options

log = logging.getLogger(__name__)


class EvaluateOptions(Options):
    encoder: str
    split: Literal["train", "validation", "test"]
    protocols: list[Literal["gallery", "leave-one-out"]]
    metrics: list[str] | None
    match_precision: float = Field(gt=0, le=1)


def run(cfg: DictConfig) -> float:
    """Print and write the figures; returns the accuracy."""
    options = read_options(cfg, EvaluateOptions)
    encoder = load_encoder(Path(options.encoder))
    data: ImageDataModule = instantiate(cfg.data, image_size=encoder.image_size)
    if data.class_names != encoder.class_names:
        raise FashionError(
            f"The data's classes ({', '.join(data.class_names)}) are not those of {encoder.source} "
            f"({', '.join(encoder.class_names)}); set data to what it was trained on, or "
            f"data.classes=[{','.join(encoder.class_names)}]."
        )
    result = evaluate(
        encoder, data.array(options.split), data.array("train"), split=options.split, protocols=options.protocols
    )
    shown = select(result.metrics, options.metrics)
    folder = Path(HydraConfig.get().runtime.output_dir)
    facts = {"encoder": str(encoder.source), "fingerprint": encoder.fingerprint}
    write_metrics(folder / "metrics.json", result, facts, options.match_precision)
    confusion = confusion_picture(result.confusion, encoder.class_names)
    save_picture(confusion, folder / "confusion.png")
    title = f"{encoder.source} on {options.split} ({len(data.array(options.split).labels)} pictures)"
    naming = {name: value for name, value in shown.items() if "/" not in name}
    if naming:
        show(metrics_table(title, naming, result.intervals))
    if len(naming) < len(shown):
        show(search_table(shown, result.intervals))
    if options.metrics is None:
        show(per_class_table("Per class", result.per_class))
    write_page(
        folder / "report.html",
        "Evaluation",
        [
            Section("Figures", text=title, table=(["metric", "value", "95% interval"], _rows(shown, result.intervals))),
            Section("Confusion matrix", picture=confusion, caption="Rows are the true classes."),
        ],
    )
    log.info("Written to %s", folder)
    return result.metrics["accuracy"]


def _rows(metrics: dict[str, float], intervals: dict[str, tuple[float, float]]) -> list[list[str]]:
    ranges = {name: f"{low:.3f} to {high:.3f}" for name, (low, high) in intervals.items()}
    return [[name, f"{value:.3f}", ranges.get(name, "")] for name, value in metrics.items()]
