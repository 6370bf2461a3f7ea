"""An int8 version of the exported network, kept only where it is faster and as good."""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from fashion.data.arrays import PictureArray
from fashion.encoder import OnnxEncoder
from fashion.evaluation import evaluate
from fashion.timing import interleaved, ratio

NAME = "encoder.int8.onnx"
CALIBRATION = 1024
"""Training pictures whose activations set the ranges."""

LARGEST_LOSS = 0.005
"""Accuracy and gallery top1 that int8 may cost: half a point."""


@dataclass(frozen=True)
class Verdict:
    """What int8 was measured to do, and whether it was kept; all on validation pictures and this machine.

    speed: how many times as fast as fp32, one picture on one thread.  accuracy, top1: of fp32 and of int8.  difference:
    the largest in a number of an embedding.
    """

    kept: bool
    why: str
    speed: float
    accuracy: tuple[float, float]
    top1: tuple[float, float]
    difference: float


def quantized(model: Path, target: Path, pictures: NDArray[np.uint8]) -> None:
    """Write `model` with int8 weights and activations, whose ranges are taken from `pictures` [N,3,S,S].

    The first convolution and what follows the last one, the embedding and its length, stay in fp32: they are cheap, and
    all that is rounded there reaches the answer.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter([{"pictures": np.ascontiguousarray(pictures[at : at + 32])}
                                 for at in range(0, len(pictures), 32)])  # fmt: skip

        def get_next(self) -> Any:
            return next(self.batches, None)

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # onnxruntime logs its advice there
    try:
        with tempfile.TemporaryDirectory() as scratch:
            prepared = Path(scratch) / "prepared.onnx"
            quant_pre_process(model, prepared, skip_symbolic_shape=True)
            quantize_static(
                prepared, target, Reader(), per_channel=True, weight_type=QuantType.QInt8,
                activation_type=QuantType.QUInt8, nodes_to_exclude=_ends(prepared),
            )  # fmt: skip
    finally:
        root.setLevel(level)


def _ends(model: Path) -> list[str]:
    """Names of the first convolution, and of the nodes after the last one."""
    nodes = onnx.load(model).graph.node
    convolutions = [at for at, node in enumerate(nodes) if node.op_type == "Conv"]
    return [node.name for at, node in enumerate(nodes) if at == convolutions[0] or at > convolutions[-1]]


def judge(folder: Path, validation: PictureArray, train: PictureArray) -> Verdict:
    """Measure the int8 version in a bundle's folder beside fp32, and remove it if it does not pay."""
    encoders = {"fp32": OnnxEncoder(folder), "int8": OnnxEncoder(folder, file=NAME)}
    found = {name: evaluate(one, validation, train, protocols=("gallery",)) for name, one in encoders.items()}
    one = np.ascontiguousarray(validation.pictures[:1])
    times = interleaved({name: lambda encoder=encoder: encoder(one) for name, encoder in encoders.items()}, 100)  # type: ignore[misc]
    speed = ratio(times["fp32"], times["int8"])
    accuracy, top1 = (
        (found["fp32"].metrics[name], found["int8"].metrics[name]) for name in ("accuracy", "gallery/top1")
    )
    loss = max(accuracy[0] - accuracy[1], top1[0] - top1[1])
    difference = float(np.abs(found["fp32"].embeddings - found["int8"].embeddings).max())
    if speed <= 1:
        kept, why = False, f"int8 is not faster here: {speed:.2f} times the speed of fp32"
    elif loss > LARGEST_LOSS:
        kept, why = False, f"int8 costs {100 * loss:.1f} points of accuracy or top1, more than {100 * LARGEST_LOSS:g}"
    else:
        kept, why = True, f"{speed:.2f} times as fast as fp32, and costs {100 * max(loss, 0):.1f} points"
    if not kept:
        (folder / NAME).unlink()
    return Verdict(kept, why, speed, accuracy, top1, difference)


def sample(pictures: PictureArray) -> NDArray[np.uint8]:
    """Evenly spread pictures to take ranges from."""
    at = np.linspace(0, len(pictures.labels) - 1, min(CALIBRATION, len(pictures.labels))).astype(int)
    return np.array(pictures.pictures[at])
