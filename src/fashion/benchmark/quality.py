"""What finished runs learned, model by model: the figures that stand beside the speeds."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from fashion.errors import FashionError
from fashion.report.pictures import drawn, log_scale
from fashion.report.runs import over_seeds, read_runs

LEARNED = ("accuracy", "gallery/top1", "gallery/top5", "gallery/map", "loo/top1", "loo/map")
TRAININGS = ("classify", "triplet")


def learned(folder: Path, models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """model → figure → its mean over the seeds of the trainings below `folder`, with `… sd` of two seeds and more.

    Raises:
        FashionError: if there is no training of these models, or a model was trained with several settings.
    """
    rows = [row for row in read_runs(folder) if row.get("task.name") in TRAININGS and row.get("model.name") in models]
    found: dict[str, dict[str, Any]] = {}
    for row in over_seeds(rows):
        name = row["model.name"]
        if name in found:
            raise FashionError(
                f"{folder} holds trainings of {name} with several settings, such as {row['run']}; give runs= a folder "
                f"where each model has one, with any number of seeds (python run.py task=runs folder={folder} lists "
                "them)."
            )
        found[name] = {key: row[key] for key in (*LEARNED, *(f"{one} sd" for one in LEARNED)) if key in row}
    if not found:
        raise FashionError(f"{folder} holds no finished training of {', '.join(models)}; change runs, or leave it out.")
    return found


def plot(table: Mapping[str, Mapping[str, Any]]) -> Image.Image:
    """Accuracy against the time for one picture, where both are known; a larger dot has more parameters."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, values in table.items():
        if "accuracy" not in values:
            continue
        place = (values["ONNX, 1 threads, one picture ms"], 100 * values["accuracy"])
        spread = 100 * values.get("accuracy sd", 0)
        size = math.sqrt(values["parameters"]) / 100
        axes.errorbar(*place, yerr=spread or None, fmt="o", markersize=size, color="tab:blue", alpha=0.8)
        axes.annotate(name, place, xytext=(6, 6), textcoords="offset points", size=9)
    log_scale(axes)
    axes.margins(x=0.15, y=0.1)
    axes.set_xlabel("one picture, ms (ONNX Runtime, one thread, median)")
    axes.set_ylabel("accuracy, %")
    axes.grid(alpha=0.3)
    return drawn(figure)


def cell(values: Mapping[str, Any], figure: str) -> str:
    """One of them in %, with its standard deviation over seeds; empty where it is not known."""
    if figure not in values:
        return ""
    spread = f" ± {100 * values[f'{figure} sd']:.1f}" if f"{figure} sd" in values else ""
    return f"{100 * values[figure]:.1f}{spread}"
