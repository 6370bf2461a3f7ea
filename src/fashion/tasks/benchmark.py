"""task=benchmark: how fast things are here, as medians and ratios of runs taken in turns."""

import json
import logging
from pathlib import Path
from typing import Any, Literal

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pydantic import Field

from fashion.config import as_dict
from fashion.encoder import load_encoder
from fashion.files import write_text
from fashion.model_files import bundle_of
from fashion.report.pictures import recall_plot, save_picture
from fashion.report.tables import plain_table, show
from fashion.tasks.options import Options, note_unused, read_options
from fashion.versions import machine

log = logging.getLogger(__name__)


class BenchmarkOptions(Options):
    suite: Literal["models", "embedding", "catalog", "approximate", "evaluation", "server"]
    encoder: str
    items: int = Field(ge=1000)
    pictures: int = Field(ge=10)
    queries: int = Field(ge=1)
    rounds: int = Field(ge=3)
    models: list[str] = Field(min_length=1)
    runs: str | None
    image_size: int = Field(ge=32, multiple_of=16)


def run(cfg: DictConfig) -> None:
    """Print the figures, and write them as `benchmark.json` into the run's folder."""
    options = read_options(cfg, BenchmarkOptions)
    note_unused(set().union(*USED.values()) - {*USED[options.suite]}, f"with suite={options.suite}")
    folder = Path(HydraConfig.get().runtime.output_dir)
    figures = SUITES[options.suite](options, folder)
    content = {"suite": options.suite, "settings": options.model_dump(), "machine": machine(), "figures": figures}
    write_text(folder / "benchmark.json", json.dumps(content, indent=2) + "\n")
    log.info("Written: %s", folder / "benchmark.json")


def _models(options: BenchmarkOptions, folder: Path) -> Any:
    from fashion.benchmark import models, quality

    backbones = {name: _backbone(name) for name in options.models}
    learned = quality.learned(Path(options.runs).expanduser(), options.models) if options.runs else {}
    speeds = models.run(backbones, options.image_size, options.rounds)
    figures = {name: learned.get(name, {}) | speeds[name] for name in speeds}
    what = "Accuracy and search in %, milliseconds" if learned else "Milliseconds"
    title = f"{what}, and as multiples of {options.models[0]} in fp32"
    show(plain_table(title, ["figure", *figures], models.rows(figures)))
    if learned:
        save_picture(quality.plot({name: figures[name] for name in learned}), folder / "models.png")
        log.info("Written: %s", folder / "models.png")
    return figures


def _backbone(name: str) -> dict[str, Any]:
    return as_dict(compose("config", ["task=summary", f"model={name}"]).model)


def _embedding(options: BenchmarkOptions, folder: Path) -> Any:
    from fashion.benchmark import embedding

    figures = embedding.run(load_encoder(Path(options.encoder)), options.pictures, options.rounds)
    return _shown(f"Embedding {options.pictures:,} JPEGs", figures)


def _catalog(options: BenchmarkOptions, folder: Path) -> Any:
    from fashion.benchmark import catalog

    figures = catalog.run(Path(options.encoder), options.items, options.rounds)
    return _shown(f"A catalogue of {options.items:,}", figures)


def _approximate(options: BenchmarkOptions, folder: Path) -> Any:
    from fashion.benchmark import catalog

    rows = catalog.approximate(options.items)
    cells = [[str(row["index"]), f"{row['recall@10']:.3f}", f"{row['search_ms']:.3f}"] for row in rows]
    show(plain_table(f"HNSW beside flat, {options.items:,} items", ["index", "recall@10", "one search, ms"], cells))
    save_picture(recall_plot([{k: v for k, v in row.items() if k != "build_s"} for row in rows]), folder / "recall.png")
    log.info("Written: %s", folder / "recall.png")
    return rows


def _evaluation(options: BenchmarkOptions, folder: Path) -> Any:
    from fashion.benchmark import evaluation

    return _shown("All search metrics", evaluation.run(options.items, options.queries))


def _server(options: BenchmarkOptions, folder: Path) -> Any:
    from fashion.benchmark import server

    figures = server.run(bundle_of(Path(options.encoder)), options.items, options.rounds)
    return _shown(f"A server of {options.items:,} items", figures)


def _shown(title: str, figures: dict[str, Any]) -> dict[str, Any]:
    """The figures, printed as a table."""
    rows = [(name, f"{value:,.4g}") for name, value in figures.items()]
    show(plain_table(title, ["figure", "value"], rows))
    return figures


SUITES = {
    "models": _models,
    "embedding": _embedding,
    "catalog": _catalog,
    "approximate": _approximate,
    "evaluation": _evaluation,
    "server": _server,
}

USED = {
    "models": ("models", "image_size", "rounds", "runs"),
    "embedding": ("encoder", "pictures", "rounds"),
    "catalog": ("encoder", "items", "rounds"),
    "approximate": ("items",),
    "evaluation": ("items", "queries"),
    "server": ("encoder", "items", "rounds"),
}
"""Suite → the settings that it reads."""
