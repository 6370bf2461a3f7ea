"""Our backbones beside torchvision's at the same picture size: size, speed of training, latency and throughput."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from fashion.benchmark import quality
from fashion.export.int8 import quantized
from fashion.export.onnx import export_onnx
from fashion.network import SiameseEncoder, parameters_and_macs
from fashion.optim import optimizer
from fashion.timing import Timing, interleaved, ratio

BATCH = 64
CLASSES = 10
INT8 = ".int8.onnx"


def run(backbones: Mapping[str, Mapping[str, Any]], image_size: int, rounds: int) -> dict[str, dict[str, float]]:
    """model → figure → value; times are medians of runs taken in turns, ratios are to the first model's in fp32.

    Args:
        backbones: name → settings of the `model` group.
    """
    torch.manual_seed(0)
    networks = {name: SiameseEncoder(settings, CLASSES).eval() for name, settings in backbones.items()}
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (BATCH, 3, image_size, image_size), dtype=np.uint8)
    sizes = {name: parameters_and_macs(network, image_size) for name, network in networks.items()}
    table: dict[str, dict[str, float]] = {
        name: {"parameters": parameters, "multiply-accumulates": macs} for name, (parameters, macs) in sizes.items()
    }
    with tempfile.TemporaryDirectory() as scratch:
        paths = {name: Path(scratch) / f"{name}.onnx" for name in networks}
        for name, network in networks.items():
            export_onnx(network, image_size, paths[name])
            network.to(memory_format=torch.channels_last)
            quantized(paths[name], paths[name].with_suffix(INT8), pictures)
        for threads in (1, 2):
            sessions = {name: _session(path, threads) for name, path in paths.items()}
            in_int8 = {f"{name} int8": _session(path.with_suffix(INT8), threads) for name, path in paths.items()}
            for number, what in ((1, "one picture ms"), (BATCH, f"batch of {BATCH} ms")):
                some = pictures[:number]
                times = _onnx_times(sessions | in_int8, some, rounds)
                first = next(iter(times.values()))
                _note(table, f"ONNX, {threads} threads, {what}", {name: times[name] for name in sessions}, first)
                small = {name: times[f"{name} int8"] for name in sessions}
                _note(table, f"ONNX int8, {threads} threads, {what}", small, first)
                _note(table, f"torch, {threads} threads, {what}", _torch_times(networks, some, rounds, threads))
    steps = _training_times(networks, pictures, max(rounds // 10, 3))
    _note(table, f"training step of {BATCH} ms", steps)
    for name, timing in steps.items():
        table[name]["training, pictures/s"] = BATCH / timing.median
    return table


def _note(
    table: dict[str, dict[str, float]], figure: str, times: Mapping[str, Timing], first: Timing | None = None
) -> None:
    first = first or next(iter(times.values()))
    for name, timing in times.items():
        table[name][figure] = 1000 * timing.median
        table[name][_multiple(figure)] = ratio(timing, first)


def _session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _onnx_times(
    sessions: Mapping[str, ort.InferenceSession], pictures: NDArray[np.uint8], rounds: int
) -> dict[str, Timing]:
    def runner(session: ort.InferenceSession) -> Callable[[], object]:
        return lambda: session.run(None, {"pictures": pictures})

    return interleaved({name: runner(session) for name, session in sessions.items()}, rounds)


def _torch_times(
    networks: Mapping[str, SiameseEncoder], pictures: NDArray[np.uint8], rounds: int, threads: int
) -> dict[str, Timing]:
    batch = torch.from_numpy(pictures)

    def runner(network: SiameseEncoder) -> Callable[[], object]:
        return lambda: network(batch)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            return interleaved({name: runner(network) for name, network in networks.items()}, rounds)
    finally:
        torch.set_num_threads(before)


def _training_times(
    networks: Mapping[str, SiameseEncoder], pictures: NDArray[np.uint8], rounds: int
) -> dict[str, Timing]:
    batch, labels = torch.from_numpy(pictures), torch.arange(len(pictures)) % CLASSES

    def runner(network: SiameseEncoder) -> Callable[[], object]:
        steps = optimizer(network.train(), lr=1e-3, weight_decay=0.05, muon=2.0)

        def step() -> None:
            torch.nn.functional.cross_entropy(network(batch)[1], labels).backward()  # type: ignore[no-untyped-call]
            steps.step()
            steps.zero_grad()

        return step

    return interleaved({name: runner(network) for name, network in networks.items()}, rounds)


def rows(table: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """A row a figure: its name, then each model's value, times with their multiple of the first model's.

    Args:
        table: as `run` gives it; with what `quality.learned` gives, if at hand.
    """
    names = dict.fromkeys(name for values in table.values() for name in values if not name.endswith("multiple"))
    learned = [name for name in quality.LEARNED if name in names]
    figures = learned + [name for name in names if name.removesuffix(" sd") not in quality.LEARNED]
    return [[figure, *(_cell(values, figure) for values in table.values())] for figure in figures]


def _cell(values: Mapping[str, Any], figure: str) -> str:
    if figure in quality.LEARNED:
        return quality.cell(values, figure)
    if not figure.endswith(" ms"):
        return f"{values[figure]:,.0f}"
    return f"{values[figure]:.2f} ({values[_multiple(figure)]:.2f}×)"


def _multiple(figure: str) -> str:
    return f"{figure.removesuffix(' ms')}, as a multiple"
