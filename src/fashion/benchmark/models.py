"""Our backbones beside torchvision's at the same picture size: size, speed of training, latency and throughput."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from fashion.benchmark.timing import Timing, interleaved, ratio
from fashion.export.onnx import export_onnx
from fashion.network import SiameseEncoder
from fashion.tasks.summary import count

BATCH = 64
CLASSES = 10


def run(backbones: Mapping[str, Mapping[str, Any]], image_size: int, rounds: int) -> dict[str, dict[str, float]]:
    """model → figure → value; times are medians of runs taken in turns, ratios are to the first model's.

    Args:
        backbones: name → settings of the `model` group.
    """
    torch.manual_seed(0)
    networks = {name: SiameseEncoder(settings, CLASSES).eval() for name, settings in backbones.items()}
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (BATCH, 3, image_size, image_size), dtype=np.uint8)
    sizes = {name: count(network, image_size) for name, network in networks.items()}
    table: dict[str, dict[str, float]] = {
        name: {"parameters": parameters, "multiply-accumulates": macs} for name, (parameters, macs) in sizes.items()
    }
    with tempfile.TemporaryDirectory() as scratch:
        paths = {name: Path(scratch) / f"{name}.onnx" for name in networks}
        for name, network in networks.items():
            export_onnx(network, image_size, paths[name])
            network.to(memory_format=torch.channels_last)
        for threads in (1, 2):
            sessions = {name: _session(path, threads) for name, path in paths.items()}
            for number, what in ((1, "one picture ms"), (BATCH, f"batch of {BATCH} ms")):
                some = pictures[:number]
                _note(table, f"ONNX, {threads} threads, {what}", _onnx_times(sessions, some, rounds))
                _note(table, f"torch, {threads} threads, {what}", _torch_times(networks, some, rounds, threads))
    _note(table, f"training step of {BATCH} ms", _training_times(networks, pictures, max(rounds // 10, 3)))
    return table


def _note(table: dict[str, dict[str, float]], figure: str, times: Mapping[str, Timing]) -> None:
    first = next(iter(times.values()))
    for name, timing in times.items():
        table[name][figure] = 1000 * timing.median
        table[name][f"{figure.removesuffix(' ms')}, as a multiple"] = ratio(timing, first)


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
        optimizer = torch.optim.AdamW(network.train().parameters(), fused=True)

        def step() -> None:
            torch.nn.functional.cross_entropy(network(batch)[1], labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()

        return step

    return interleaved({name: runner(network) for name, network in networks.items()}, rounds)


def rows(table: Mapping[str, Mapping[str, float]], figures: Sequence[str]) -> list[list[str]]:
    """A row a model: name, parameters, multiply-accumulates, then the figures asked for."""
    return [
        [name, f"{values['parameters']:,.0f}", f"{values['multiply-accumulates'] / 1e6:.2f} M"]
        + [f"{values[figure]:.2f}" for figure in figures]
        for name, values in table.items()
    ]
