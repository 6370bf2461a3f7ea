"""Which classes are taken for which: the confusion matrix as a picture, and its largest cells as a table."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fashion.report.pictures import drawn

NUMBERED = 40
"""Classes up to which the picture grows, with a number in each cell; with more of them its size stays."""

INCHES = 12
"""Width of the picture of more classes."""


def confusion_picture(matrix: NDArray[np.int64], class_names: Sequence[str]) -> Image.Image:
    """Counts, shaded by their share of the true class; rows are the true classes.

    Of more than 40 classes it shows no numbers, and the names of some.
    """
    from matplotlib.figure import Figure

    count = len(class_names)
    side = 2.5 + 0.62 * count if count <= NUMBERED else INCHES
    figure = Figure(figsize=(side, side * 0.95), layout="constrained")
    axes = figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    named = range(0, count, -(-count // NUMBERED))
    axes.set_xticks(named, [class_names[at] for at in named], rotation=45, ha="right")
    axes.set_yticks(named, [class_names[at] for at in named])
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if count <= NUMBERED:
        for row, column in np.argwhere(matrix):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(matrix[row, column]), ha="center", va="center", color=colour)
    return drawn(figure)


def most_confused(
    matrix: NDArray[np.int64], class_names: Sequence[str], count: int = 12
) -> tuple[list[str], list[list[str]]] | None:
    """Headers and rows of the most frequent confusions; None where nothing is named wrongly."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[: min(count, np.count_nonzero(wrong))]
    rows = [
        [class_names[true], class_names[predicted], f"{wrong[true, predicted]} of {matrix[true].sum()}"]
        for true, predicted in zip(*np.unravel_index(order, wrong.shape), strict=True)
    ]
    return (["true", "predicted", "pictures"], rows) if rows else None
