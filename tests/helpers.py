"""What tests share: where things are, a tiny model, and small folders of pictures."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
TINY: dict[str, Any] = {"name": "tiny", "stem": 8, "blocks": [[2, 8, 1, 2], [2, 16, 1, 2], [2, 16, 1, 2]]}
SMALL = ("model=tiny", "data=folder", "data.image_size=32", "data.batch_size=12", "trainer.check_val_every_n_epoch=1")
"""Overrides that make a training quick."""

GPU = pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="needs a GPU")

COLOURS = {
    "dress": (200, 40, 40),
    "hat": (40, 180, 60),
    "shoes": (50, 60, 200),
    "skirt": (200, 180, 40),
    "poncho": (120, 60, 160),
}


def write_pictures(root: Path, counts: dict[str, dict[str, int]], size: int = 40) -> Path:
    """root/<split>/<class>/<n>.png: noise around one colour a class, which the smallest net can tell apart."""
    random = np.random.default_rng(0)
    for split, classes in counts.items():
        for label, count in classes.items():
            folder = root / split / label
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                noise = random.normal(COLOURS[label], 25, (size, size, 3))
                Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return root


def write_checkpoint(path: Path, class_names: tuple[str, ...] = ("dress", "hat", "shoes"), seed: int = 0) -> Path:
    """An untrained tiny model in the form that a training run leaves behind."""
    import torch

    from fashion.network import SiameseEncoder

    torch.manual_seed(seed)
    network = SiameseEncoder(TINY, len(class_names))
    # Batch norm must have seen something, or all pictures get nearly the same embedding.
    for _ in range(20):
        network(torch.rand(32, 3, 1, 1).expand(-1, -1, 64, 64) * 255)
    torch.nn.init.zeros_(network.kind.bias)
    torch.nn.init.zeros_(network.axes.bias)
    path.parent.mkdir(parents=True, exist_ok=True)
    hparams = {"backbone": TINY, "class_names": list(class_names), "image_size": 64}
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": hparams}, path)
    return path


def unit(count: int, seed: int = 0, dim: int = 64) -> np.ndarray:
    """[count,dim] random vectors of length 1."""
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def command(*arguments: str, cwd: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """`python run.py …` in a process of its own."""
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments],
        cwd=cwd,
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def interruptible(*arguments: str, cwd: Path, **settings: Any) -> subprocess.Popen[str]:
    """`python run.py …` in the background, which Ctrl-C ends even where a shell started the tests with it ignored.

    What this process handles is handled as usual by a new program, so nothing is to be done in a forked child, which
    would run what gRPC's threads left half-done and abort one time in sixty.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), *arguments],
            cwd=cwd,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            **settings,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    """Wait for something that happens elsewhere, however busy the machine is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"it has not come about in {seconds:g} s"
        time.sleep(0.02)


def at_once(call: Callable[[], Any], count: int = 3) -> list[Any]:
    """What `call` answers to several who ask at the same time."""
    with ThreadPoolExecutor(count) as pool:
        return [one.result() for one in [pool.submit(call) for _ in range(count)]]


def slowed(patch: pytest.MonkeyPatch, module: Any, name: str) -> list[tuple[Any, ...]]:
    """Make a module's function take so long that others come meanwhile; returns its calls."""
    function, calls = getattr(module, name), []

    def slowly(*arguments: Any) -> Any:
        calls.append(arguments)
        time.sleep(0.3)
        return function(*arguments)

    patch.setattr(module, name, slowly)
    return calls
