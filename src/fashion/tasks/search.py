"""task=search: which garments of a catalogue look like this picture?"""

import contextlib
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from pydantic import Field

from fashion.data.folders import expand
from fashion.errors import FashionError
from fashion.files import write_text
from fashion.report.pictures import COLUMNS, ROWS, for_grid, save_picture, search_grid, spread
from fashion.report.tables import as_cell, hits_table, show
from fashion.search.engine import VisualSearchEngine
from fashion.search.filters import columns_of, parse
from fashion.search.remote import RemoteEngine
from fashion.search.results import SearchResult
from fashion.tasks.options import Options, named, read_options, refuse_ignored

log = logging.getLogger(__name__)

LOCAL = ("catalog", "encoder", "mmap")
"""Options that a server has chosen for itself."""


class SearchOptions(Options):
    catalog: str
    encoder: str | None
    query: str | list[str] | None
    k: int = Field(ge=1)
    filter: str | None
    group_by: str | None
    score_threshold: float | None = Field(ge=-1, le=1)
    fold_duplicates: bool
    together: bool
    like: int | str | None
    mmap: bool
    server: str | None
    rows: int = Field(ge=1)

    def how(self) -> dict[str, Any]:
        """Arguments of `VisualSearchEngine.search` and `like_item`."""
        names = ("k", "filter", "group_by", "score_threshold", "fold_duplicates")
        return {name: getattr(self, name) for name in names}

    def columns(self) -> list[str]:
        """The columns that the filter and the group name, which are shown beside the hits' label and external_id."""
        names = columns_of(parse(self.filter)) if self.filter else []
        names += [self.group_by] if self.group_by else []
        return [name for name in dict.fromkeys(names) if name not in ("label", "external_id")]


def run(cfg: DictConfig) -> int:
    """Search and show; returns the number of queries."""
    options = read_options(cfg, SearchOptions)
    folder = Path(HydraConfig.get().runtime.output_dir)
    engine: VisualSearchEngine | RemoteEngine
    _check_together(options)
    if options.server:
        engine = RemoteEngine(options.server, folder / "pictures")
    else:
        engine = VisualSearchEngine(options.encoder or options.catalog, options.catalog, mmap=options.mmap)
    if options.like is not None:
        results = [_like(engine, options)]
    elif options.query is None:
        return _ask(engine, options, folder)
    else:
        results = engine.search(expand(options.query), together=options.together, **options.how())
    write_results(engine, results, options.rows, folder, options.columns())
    if options.filter and not any(result.hits for result in results):
        log.info("No item passes the filter %s", options.filter)
    return len(results)


def _check_together(options: SearchOptions) -> None:
    """Refuse options of which one would be ignored.

    Raises:
        FashionError: that names them.
    """
    if options.like is not None and options.query is not None:
        raise FashionError("Give query=PICTURE or like=ITEM, not both.")
    if options.like is not None and options.together:
        raise FashionError("together=true is for the pictures of a query, and like=ITEM has none; leave out one.")
    if options.server:
        refuse_ignored(named().intersection(LOCAL), "server")


def _like(engine: VisualSearchEngine | RemoteEngine, options: SearchOptions) -> SearchResult:
    assert options.like is not None
    number = engine.item_number(options.like) if isinstance(options.like, str) else options.like
    return engine.like_item(number, **options.how())


def write_results(
    engine: VisualSearchEngine | RemoteEngine,
    results: Sequence[SearchResult],
    rows: int,
    folder: Path,
    columns: Sequence[str] = (),
) -> None:
    """Print the hits, and write `results.json`, the grid `results.png` and the page `results.html`.

    Args:
        columns: the items' columns that the tables show.
    """
    from fashion.report.html import Section, write_page

    shown = spread(results, rows)
    for result in shown:
        show(hits_table(result, columns))
    grid = search_grid([_pictured(engine, result) for result in for_grid(shown)], engine.class_names)
    save_picture(grid, folder / "results.png")
    write_text(folder / "results.json", json.dumps([result.to_dict() for result in results], indent=2) + "\n")
    table = [
        [
            Path(result.query).name,
            (result.predicted or "–") + (" (no match)" if result.match is False else ""),
            f"{hit.rank}",
            f"{hit.score:.3f}",
            hit.label or "",
            *(as_cell(hit.item.get(name)) for name in columns),
            hit.name,
        ]
        for result in shown
        for hit in result.hits
    ]
    caption = "Left the query; right what is most alike, best first."
    if len(shown) > ROWS or any(len(result.hits) > COLUMNS for result in shown):
        caption += f" At most {ROWS} queries and {COLUMNS} hits of each are drawn; the table lists the others too."
    note = f"{len(results)} queries in a catalogue of {engine.size} pictures."
    write_page(
        folder / "results.html",
        "What looks like this?",
        [
            Section("Results", text=note, picture=grid, caption=caption),
            Section("As a table", table=(["query", "named", "rank", "score", "label", *columns, "item"], table)),
        ],
    )
    if len(shown) < len(results):
        log.info("%d of %d queries are shown; results.json holds all.", len(shown), len(results))
    for name in ("results.png", "results.html", "results.json"):
        log.info("Written: %s", folder / name)


def _pictured(engine: VisualSearchEngine | RemoteEngine, result: SearchResult) -> SearchResult:
    """The result with paths of pictures that are here; of one that is gone the grid says so."""
    hits = []
    for hit in result.hits:
        if isinstance(engine, RemoteEngine):
            hit = replace(hit, item={})  # a server has cut its bbox out already
        with contextlib.suppress(FashionError):
            hit = replace(hit, path=str(engine.item_picture(hit.id)))
        hits.append(hit)
    return replace(result, hits=hits)


def _ask(engine: VisualSearchEngine | RemoteEngine, options: SearchOptions, folder: Path) -> int:
    """Ask for pictures until told to quit; a bad one is explained, and asked again."""
    count = 0
    while True:
        try:
            text = input("Picture to search for (quit to end): ").strip().strip("'\"")
        except EOFError:
            break
        if text.lower() in ("quit", "q", "exit"):
            break
        if not text:
            continue
        try:
            results = engine.search(expand(text), together=options.together, **options.how())
        except FashionError as error:
            print(error)
            continue
        count += len(results)
        write_results(engine, results, options.rows, folder / f"{count:03d}", options.columns())
    return count
