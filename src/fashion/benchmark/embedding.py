"""How fast a folder of JPEGs becomes embeddings, beside decoding and resizing them alone with the same loader."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fashion.data.loading import load_pictures
from fashion.data.synthetic import draw, product
from fashion.encoder import Encoder
from fashion.search.embedding import Journal, embed_pictures
from fashion.search.engine import VisualSearchEngine
from fashion.search.store import Store
from fashion.timing import interleaved, ratio

WIDTH, HEIGHT = 400, 534
"""Of the pictures that are drawn: those of the clothing dataset."""


def draw_photos(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """JPEGs as large, and about as hard to decode, as photos of the clothing dataset: drawn garments under noise."""
    random = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        image = draw(product(number, seed), 0, 96, seed).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        noisy = np.asarray(image, np.int16) + random.normal(0, 6, (HEIGHT, WIDTH, 3)).astype(np.int16)
        path = folder / f"{number:06d}.jpg"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=85)
        paths.append(path)
    return paths


def run(encoder: Encoder, pictures: int, rounds: int) -> dict[str, Any]:
    """The figures by name."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "photos"
        folder.mkdir()
        paths = draw_photos(folder, pictures)
        number = iter(range(10**6))

        def index() -> None:
            engine = VisualSearchEngine(encoder.source)
            store = Store(Path(scratch) / f"catalog{next(number)}")
            with store.writer():
                engine.sync(engine.list_folder(folder), store)

        def embed() -> None:
            embed_pictures(encoder, paths, [str(path) for path in paths], journal=Journal(None, ""))

        def decode() -> None:
            for _ in load_pictures(paths, encoder.image_size, centre=encoder.centre):
                pass

        times = interleaved({"decode": decode, "embed": embed, "index": index}, rounds, warm_up=1)
    figures: dict[str, Any] = {f"{name}: pictures/s": pictures / timing.median for name, timing in times.items()}
    figures["embedding / decoding alone, speed"] = ratio(times["decode"], times["embed"])
    figures["indexing, hashes and files and all / decoding alone, speed"] = ratio(times["decode"], times["index"])
    return figures
