"""Garments drawn from a seed: a dataset of any size that needs no network.

Ten classes; each product has a cut, colours and a pattern of its own, and each of its views another pose, background
and light.  Classes differ by silhouette alone: colours and patterns say nothing about them.
"""

import colorsys
import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from fashion.arguments import checked
from fashion.data.garments import SHAPES, Point
from fashion.errors import FashionError
from fashion.files import locked, replacing_folder

CLASSES = tuple(SHAPES)
PATTERNS = ("plain", "plain", "stripes", "columns", "checks", "dots", "print", "fade")
SCALE = 2  # drawn at twice the size, then reduced: smooth edges

Colour = tuple[int, int, int]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Product:
    """One garment: its class and its look.  `cut` holds numbers of 0…1 that shape it, each class in its own way."""

    product_id: int
    label: str
    colour: Colour
    second: Colour
    pattern: str
    cut: tuple[float, ...]


def product(product_id: int, seed: int) -> Product:
    """The product with that number: classes take turns, the look is drawn from (seed, product_id) alone."""
    random = np.random.default_rng([seed, product_id])

    def colour() -> Colour:
        red, green, blue = colorsys.hsv_to_rgb(random.random(), random.uniform(0.05, 0.85), random.uniform(0.2, 0.95))
        return int(red * 255), int(green * 255), int(blue * 255)

    return Product(
        product_id,
        CLASSES[product_id % len(CLASSES)],
        colour(),
        colour(),
        PATTERNS[random.integers(len(PATTERNS))],
        tuple(random.random(6).tolist()),
    )


def draw(item: Product, view: int, size: int, seed: int) -> Image.Image:
    """One RGB picture, size×size; (seed, product_id, view) decide pose, background and light."""
    random = np.random.default_rng([seed, item.product_id, view, 1])
    side = size * SCALE
    mask, detail = Image.new("L", (side, side)), Image.new("RGBA", (side, side))
    shapes, lines = SHAPES[item.label](item.cut)
    pose = _pose(random, side)
    pen, marks = ImageDraw.Draw(mask), ImageDraw.Draw(detail)
    for shape in shapes:
        pen.polygon([pose(point) for point in shape], fill=255)
    ink = (0, 0, 0, 110) if sum(item.colour) > 240 else (255, 255, 255, 120)
    for line in lines:
        marks.line([pose(point) for point in line], fill=ink, width=max(side // 90, 1), joint="curve")
    mask = mask.filter(ImageFilter.GaussianBlur(side / 160))
    cloth = Image.alpha_composite(_cloth(item, side, random).convert("RGBA"), detail).convert("RGB")
    picture = _background(side, random)
    drop = side * random.uniform(0.01, 0.04)
    shadow = ImageChops.offset(mask, int(drop), int(drop)).filter(ImageFilter.GaussianBlur(side / 40))
    picture = Image.composite(ImageChops.multiply(picture, Image.new("RGB", picture.size, (120,) * 3)), picture, shadow)
    picture.paste(cloth, mask=mask)
    picture = picture.reduce(SCALE)
    pixels = np.asarray(picture, dtype=np.float32) * random.uniform(0.92, 1.06, 3) * random.uniform(0.75, 1.15)
    pixels += random.normal(0, random.uniform(1, 7), pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _pose(random: np.random.Generator, side: int) -> Callable[[Point], Point]:
    """Garment coordinates (−1…1, y down) → pixels: turned, scaled, moved, perhaps mirrored."""
    angle, scale = random.normal(0, 0.14), side * random.uniform(0.36, 0.47)
    mirror = 1 if random.random() < 0.5 else -1
    squeeze = random.uniform(0.86, 1.1)
    x0, y0 = side * random.uniform(0.45, 0.55), side * random.uniform(0.46, 0.54)
    sine, cosine = math.sin(angle) * scale, math.cos(angle) * scale

    def place(point: Point) -> Point:
        x, y = point[0] * mirror * squeeze, point[1]
        return x0 + cosine * x - sine * y, y0 + sine * x + cosine * y

    return place


def _grid(side: int) -> tuple[Floats, Floats]:
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    return x, y


def _cloth(item: Product, side: int, random: np.random.Generator) -> Image.Image:
    """The fabric, filling the whole square: pattern, folds and shade."""
    x, y = _grid(side)
    period = 0.06 + 0.1 * item.cut[5]
    bands = {"stripes": (y / period) % 1 < 0.4, "columns": (x / period) % 1 < 0.4}
    first: NDArray[Any] = np.zeros_like(x)
    if item.pattern in bands:
        first = bands[item.pattern].astype(np.float32)
    elif item.pattern == "checks":
        first = (bands["stripes"].astype(np.float32) + bands["columns"]) / 2
    elif item.pattern == "dots":
        first = (((x / period) % 1 - 0.5) ** 2 + ((y / period) % 1 - 0.5) ** 2 < 0.06).astype(np.float32)
    elif item.pattern == "print":
        first = ((x - 0.5) ** 2 + (y - 0.42) ** 2 < (0.05 + 0.06 * item.cut[4]) ** 2).astype(np.float32)
    elif item.pattern == "fade":
        first = y
    colours = np.array(item.colour) + first[..., None] * (np.array(item.second) - np.array(item.colour))
    folds = 1 + 0.10 * np.sin(
        (x * random.uniform(3, 9) + y * random.uniform(-4, 4)) * 2 * math.pi + random.uniform(0, 6)
    )
    light = 1 + random.uniform(-0.35, 0.35) * (x - 0.5) + random.uniform(-0.3, 0.3) * (y - 0.5)
    return Image.fromarray((colours * (folds * light)[..., None]).clip(0, 255).astype(np.uint8))


def _background(side: int, random: np.random.Generator) -> Image.Image:
    x, y = _grid(side)
    base = np.array([random.uniform(110, 245)] * 3) + random.normal(0, 14, 3)
    kind = random.integers(4)
    if kind == 0:  # a wall, lit from one side
        texture = 1 + random.uniform(-0.3, 0.3) * x + random.uniform(-0.3, 0.3) * y
    elif kind == 1:  # floor boards
        base = np.array([175, 130, 90]) * random.uniform(0.6, 1.2)
        texture = np.where((x / 0.17) % 1 < 0.05, 0.7, 1) * (1 + 0.06 * np.sin(y * 50 + np.floor(x / 0.17) * 2))
    elif kind == 2:  # tiles
        texture = np.where(((x / 0.26) % 1 < 0.04) | ((y / 0.26) % 1 < 0.04), 0.78, 1)
    else:  # a bed, a carpet
        cells = random.normal(1, 0.09, (24, 24)).clip(0, 2)
        soft = Image.fromarray((cells * 127).astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
        texture = np.asarray(soft, dtype=np.float32) / 127
    picture = Image.fromarray((base * texture[..., None]).clip(0, 255).astype(np.uint8))
    if random.random() < 0.3:  # something else lies at the edge
        pen, at = ImageDraw.Draw(picture), random.choice([-0.08, 0.9]) * side
        other = tuple(int(value) for value in random.integers(30, 230, 3))
        pen.ellipse((at, random.uniform(0, 0.8) * side, at + 0.2 * side, side), fill=other)
    return picture


@checked("data.drawing")
def write_dataset(root: Path, products: int = 300, views: int = 6, seed: int = 0, size: int = 96) -> Path:
    """Draw a dataset: root/<split>/<class>/<product_id>_<view>.jpg and root/items.csv; once, then it is kept.

    All views of a product are in one split, and every split has every class.

    Returns:
        `root`.

    Raises:
        FashionError: if there are too few products, or `root` holds something else.
    """
    made = {"products": products, "views": views, "seed": seed, "size": size, "version": 1}
    if _is_drawn(root, made):
        return root
    if products < 3 * len(CLASSES) or views < 1 or size < 16 or seed < 0:
        raise FashionError(
            f"data.drawing: {products} products in {views} views of {size} pixels, seed {seed}, cannot be; "
            f"draw {3 * len(CLASSES)} products at least, of 16 pixels, and a seed of 0 at least."
        )
    with locked(root.parent / f".{root.name}.lock"):
        if not _is_drawn(root, made):  # another process may have been sooner
            if root.exists() and (not root.is_dir() or any(root.iterdir())):
                raise FashionError(
                    f"{root} holds something other than this drawing; name another folder as data.source."
                )
            _draw_all(root, made)
    return root


def _is_drawn(root: Path, made: Mapping[str, int]) -> bool:
    note = root / "dataset.json"
    return note.is_file() and json.loads(note.read_text(encoding="utf-8")) == made


def _draw_all(root: Path, made: Mapping[str, int]) -> None:
    from rich.progress import track

    products, views, seed = made["products"], made["views"], made["seed"]
    splits = _splits(products)
    with replacing_folder(root) as part:
        rows = []
        for number in track(range(products), f"Drawing {products * views} pictures"):
            item = product(number, seed)
            for view in range(views):
                path = Path(splits[number]) / item.label / f"{number:06d}_{view}.jpg"
                (part / path).parent.mkdir(parents=True, exist_ok=True)
                draw(item, view, made["size"], seed).save(part / path, quality=90)
                rows.append((path.as_posix(), item.label, splits[number], number))
        with (part / "items.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("path", "label", "split", "product_id"), *rows])
        (part / "dataset.json").write_text(json.dumps(made), encoding="utf-8")


def _splits(products: int) -> list[str]:
    """The split of each product: of each class, the last 15% are for test, the 15% before them for validation."""
    rounds = products // len(CLASSES)
    held = max(round(0.15 * rounds), 1)
    ends = {"train": rounds - 2 * held, "validation": rounds - held}
    turns = (number // len(CLASSES) for number in range(products))
    return [next((split for split, end in ends.items() if turn < end), "test") for turn in turns]
