"""Pictures that people look at: grids of search results and of pairs, a plot of recall."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from fashion.data.folders import class_name
from fashion.data.images import BadPictureError, open_picture
from fashion.files import replacing
from fashion.report.tables import hits_table, show

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fashion.search.results import Hit, SearchResult

TILE, GAP, TEXT = 128, 10, 34
RIGHT, WRONG, PLAIN = (32, 140, 70), (200, 50, 50), (150, 150, 150)
ROWS, COLUMNS = 40, 12
"""The most queries that a grid draws, and hits of each: a JPEG can be 65,500 pixels wide or tall, no more."""


def for_grid(results: Sequence["SearchResult"]) -> list["SearchResult"]:
    """Those of the results that a grid draws, and of their hits: at most 40 and 12."""
    return [replace(result, hits=result.hits[:COLUMNS]) for result in spread(results, ROWS)]


def spread(results: Sequence["SearchResult"], count: int) -> list["SearchResult"]:
    """At most `count` of the results, evenly spread, so that a few speak for the whole of a sorted folder."""
    kept = min(count, len(results))
    return [results[at * len(results) // kept] for at in range(kept)]


def search_grid(results: Sequence["SearchResult"], class_names: Sequence[str], tile: int = TILE) -> Image.Image:
    """One row a query: the query and what it is taken for, then its hits, best first.

    Where the query lies in a folder named after a class, hits of that class have a green frame and a ✓, others a
    red one and a ✗.  At most 40 queries and 12 hits of each are drawn.

    Args:
        tile: width and height of one picture, pixels.
    """
    results = for_grid(results)
    columns = max((len(result.hits) for result in results), default=0)
    height, first = tile + TEXT + GAP, tile + 3 * GAP
    sheet = Image.new("RGB", (first + columns * (tile + GAP) + GAP, TEXT + max(len(results), 1) * height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((0, 0, first - GAP, sheet.height), fill=(240, 242, 245))
    draw.text((GAP, 9), "query", fill="black", font=_font(15))
    if columns:
        draw.text((first, 9), "most alike, best first", fill="black", font=_font(15))
    for row, result in enumerate(results):
        top = TEXT + row * height
        folder = class_name(Path(result.query).parent.name)
        truth = result.truth or (folder if folder in class_names else None)
        sheet.paste(_tile(result.picture or result.query, tile, result.box), (GAP, top))
        named = "" if result.predicted is None else f"named {result.predicted} {result.probability:.0%}"
        doubt = " – no match" if result.match is False else ""
        _caption(draw, (GAP, top + tile + 2), ((truth or Path(result.query).name) + doubt, named), tile)
        for column, hit in enumerate(result.hits):
            _paste_hit(sheet, draw, hit, truth, (first + column * (tile + GAP), top), tile)
    return sheet


def display_results(
    results: Sequence["SearchResult"], class_names: Sequence[str], path: Path | None = None
) -> Image.Image:
    """Print a table of the hits, and draw them beside their queries; returns (and writes to `path`) the picture."""
    for result in results:
        show(hits_table(result))
    grid = search_grid(results, class_names)
    if path is not None:
        save_picture(grid, path)
    return grid


def _paste_hit(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, hit: "Hit", truth: str | None, at: tuple[int, int], tile: int
) -> None:
    known = truth is not None and hit.label is not None
    colour = (RIGHT if hit.label == truth else WRONG) if known else PLAIN
    mark = ("✓ " if hit.label == truth else "✗ ") if known else ""
    sheet.paste(_tile(hit.path, tile, hit.box), at)
    draw.rectangle((at[0] - 2, at[1] - 2, at[0] + tile + 1, at[1] + tile + 1), outline=colour, width=3)
    _caption(draw, (at[0], at[1] + tile + 2), (f"{mark}{hit.label or ''}", f"{hit.score:.3f}"), tile)


def _tile(path: str, size: int, box: Sequence[float] | None = None) -> Image.Image:
    """The picture (or that part of it), whole, in a square; a grey one that says so if it cannot be read."""
    try:
        return ImageOps.pad(open_picture(path, draft=size, box=box), (size, size), color=(250, 250, 250))
    except BadPictureError:
        grey = Image.new("RGB", (size, size), (225, 225, 225))
        ImageDraw.Draw(grey).text((8, size // 2 - 8), "not readable", fill="black", font=_font(13))
        return grey


def _caption(draw: ImageDraw.ImageDraw, at: tuple[int, int], lines: Sequence[str], width: int) -> None:
    for number, line in enumerate(lines):
        font = _font(13 if number == 0 else 12)
        while line and draw.textlength(line, font=font) > width:
            line = line[:-2].rstrip("…") + "…" if len(line) > 2 else ""
        draw.text((at[0], at[1] + 15 * number), line, fill="black" if number == 0 else (90, 90, 90), font=font)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:
        from matplotlib import get_data_path

        return ImageFont.truetype(str(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)
    except (ImportError, OSError):  # matplotlib belongs to the `train` extra
        return ImageFont.load_default(size)


def pairs_grid(groups: Sequence[tuple[Sequence[str], str]]) -> Image.Image:
    """Small groups of pictures (paths) with a caption each, in four columns."""
    tile, columns = 96, 4
    widest = max(len(paths) for paths, _ in groups)
    width, height = widest * (tile + 2) + 2 * GAP, tile + TEXT
    rows = -(-len(groups) // columns)
    sheet = Image.new("RGB", (min(columns, len(groups)) * width + GAP, rows * height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (paths, caption) in enumerate(groups):
        left, top = GAP + number % columns * width, GAP + number // columns * height
        for place, path in enumerate(paths):
            sheet.paste(_tile(path, tile), (left + place * (tile + 2), top))
        _caption(draw, (left, top + tile + 2), (caption,), widest * (tile + 2))
    return sheet


def recall_plot(rows: Sequence[Mapping[str, Any]]) -> Image.Image:
    """Recall against time; each of `rows` has `recall@10` and `search_ms`, and the settings that name it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    own = ("run", "recall@10", "search_ms", "error")
    for row in rows:
        if "search_ms" in row:
            axes.plot(row["search_ms"], row["recall@10"], "o", color="tab:blue")
            name = " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in row.items() if key not in own)
            place = (row["search_ms"], row["recall@10"])
            axes.annotate(  # slanted: many points lie side by side at a recall of 1
                name, place, xytext=(4, 4), textcoords="offset points", size=8, rotation=35, rotation_mode="anchor"
            )
    log_scale(axes)
    axes.set_xlabel("one search, ms (median)")
    axes.set_ylabel("recall@10")
    axes.grid(alpha=0.3)
    return drawn(figure)


def log_scale(axes: "Axes") -> None:
    """Make the horizontal axis logarithmic, with ticks at 1, 2, 5, 10, …"""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def drawn(figure: "Figure") -> Image.Image:
    """A matplotlib figure as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a class may be named "$5_$10"
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # it draws a box for a letter that it lacks
        canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return Image.fromarray(pixels[:, :, :3].copy())


def save_picture(image: Image.Image, path: Path) -> None:
    """Write the picture in the format of its suffix, whole or not at all."""
    with replacing(path) as part:
        image.save(part)
