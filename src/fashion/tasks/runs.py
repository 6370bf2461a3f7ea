"""task=runs: what was run, and which is best."""

import csv
import logging
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

import pyarrow as pa
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from fashion.errors import FashionError
from fashion.files import replacing
from fashion.report.html import Section, write_page
from fashion.report.runs import FIGURES, Row, best_figure, briefly, by_merit, cells, columns_of, over_seeds, read_runs
from fashion.report.tables import plain_table, show
from fashion.search.selecting import select
from fashion.tasks.options import Options, read_options

log = logging.getLogger(__name__)


class RunsOptions(Options):
    folder: str
    filter: str | None
    sort: str | None
    seeds: bool


def run(cfg: DictConfig) -> int:
    """Print the table and write it as runs.csv and runs.html; returns how many rows it has."""
    options = read_options(cfg, RunsOptions)
    if options.seeds and options.sort == "seed":
        raise FashionError("sort is 'seed', and each row is of all seeds; add seeds=false.")
    rows = read_runs(Path(options.folder).expanduser())
    if options.filter and rows:
        rows = chosen(rows, options.filter)
    if not rows:
        raise FashionError(f"{options.folder} holds no such run; train one, or change folder and filter.")
    failed = [row for row in rows if "error" in row]
    done: list[Row] = []
    sorts: dict[str, str | None] = {}
    for task, own in by_task(rows).items():
        sorts[task] = options.sort or best_figure(own, task)
        own = over_seeds(own, sorts[task]) if options.seeds else own
        done += own if options.sort else by_merit(own, sorts[task])
    rows = ordered(done + failed, options.sort) if options.sort else done + failed
    for title, columns, table in tables_of(rows, sorts):
        show(plain_table(title, columns, table))
    folder = Path(HydraConfig.get().runtime.output_dir)
    with replacing(folder / "runs.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        names = columns_of(rows)
        csv.writer(file).writerows([names, *([row.get(name) for name in names] for row in rows)])
    whole = tables_of(rows, sorts, most_failed=len(rows), brief=False)
    write_page(
        folder / "runs.html", "Runs", [Section(title, table=(columns, table)) for title, columns, table in whole]
    )
    log.info("Written: %s and runs.html", folder / "runs.csv")
    return len(rows)


def by_task(rows: list[Row]) -> dict[str, list[Row]]:
    """Task → its runs that did not fail."""
    tasks: dict[str, list[Row]] = {}
    for row in rows:
        if "error" not in row:
            tasks.setdefault(str(row.get("task.name")), []).append(row)
    return tasks


def tables_of(
    rows: list[Row], sorts: Mapping[str, str | None], most_failed: int = 10, brief: bool = True
) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """(title, columns, cells) of one table a task, whose settings are its own, and of the runs that failed.

    Args:
        sorts: task → what its rows are ordered by.
    """
    for task, own in by_task(rows).items():
        columns = [name for name in columns_of(own) if not name.endswith(" sd")]
        own, columns = briefly(own, columns) if brief else (own, columns)
        order = f"best {sorts[task]} first" if sorts[task] in FIGURES else f"by {sorts[task]}"
        yield f"{task}: {len(own)} rows, {order}", columns, [cells(row, columns) for row in own]
    failed = [row for row in rows if "error" in row]
    if failed:
        shown = failed[-most_failed:]
        those = f", the last {len(shown)}" if len(shown) < len(failed) else ""
        columns = ["run", "task.name", "error"]
        yield f"{len(failed)} runs failed or were cut off{those}", columns, [cells(row, columns) for row in shown]


def chosen(rows: list[Row], text: str) -> list[Row]:
    """The rows for which the filter (the language of searches) is true.

    Raises:
        FashionError: if it makes no sense, or names an unknown column.
    """
    names = list(dict.fromkeys(key for row in rows for key in row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except pa.ArrowException:  # numbers in one run and text in another
            columns[name] = pa.array([None if value is None else str(value) for value in values])
    mask = select(text, pa.table(columns))
    return [row for row, kept in zip(rows, mask, strict=True) if kept]


def ordered(rows: list[Row], key: str) -> list[Row]:
    """Best first by a figure, ascending by a setting; rows without it last.

    Raises:
        FashionError: if no row has it.
    """
    having = [row for row in rows if row.get(key) is not None]
    if not having:
        known = columns_of(rows)
        like = [name for name in known if name.endswith(f".{key}")] or get_close_matches(key, known) or known
        raise FashionError(f"sort is {key!r}, which no run has; choose from {', '.join(like)}.")
    if key in FIGURES:
        return by_merit(rows, key)
    numbers = all(isinstance(row[key], int | float) for row in having)
    having.sort(key=lambda row: row[key] if numbers else str(row[key]))
    return having + [row for row in rows if row.get(key) is None]
