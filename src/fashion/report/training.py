"""The report of a training run: how it went, in curves and settings."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from fashion.report.html import Section
from fashion.report.pictures import drawn

CURVES = (("train/loss", "val/loss"), ("val/acc", "val/top1", "val/map", "val/f1"),
          ("train/positive_distance", "train/negative_distance"), ("lr-Muon/mixing", "lr-AdamW/mixing"))  # fmt: skip


def read_curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Scalar → (step, value) pairs, from the run's TensorBoard events."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    before = os.environ.get("TF_CPP_MIN_LOG_LEVEL")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    try:
        events = EventAccumulator(str(folder), size_guidance={SCALARS: 2000})
        events.Reload()
    finally:
        del os.environ["TF_CPP_MIN_LOG_LEVEL"]
        if before is not None:
            os.environ["TF_CPP_MIN_LOG_LEVEL"] = before
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def curves_picture(curves: Mapping[str, list[tuple[int, float]]]) -> Image.Image | None:
    """The curves that there are, losses and scores apart; None where there is none."""
    from matplotlib.figure import Figure

    panels = [[name for name in names if len(curves.get(name, ())) > 1] for names in CURVES]
    panels = [names for names in panels if names]
    if not panels:
        return None
    figure = Figure(figsize=(4.6 * len(panels), 3.4), layout="constrained")
    for place, names in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        for name in names:
            axes.plot(*zip(*curves[name], strict=True), label=name)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
    return drawn(figure)


def training_sections(folder: Path, settings: Mapping[str, Any]) -> list[Section]:
    """Curves of the run in `folder`, and the settings (key.key → value) that made it."""
    picture = curves_picture(read_curves(folder))
    curves = [Section("Curves", picture=picture)] if picture else []
    return [*curves, settings_section(settings)]


def settings_section(settings: Mapping[str, Any]) -> Section:
    return Section("Settings", table=(["key", "value"], [[name, str(value)] for name, value in settings.items()]))
