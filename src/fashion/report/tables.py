"""Tables for the terminal."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fashion.search.values import plain

if TYPE_CHECKING:
    from fashion.search.results import SearchResult


def show(what: RenderableType) -> None:
    """Print to standard output; where that is no terminal, wide enough that nothing is cut."""
    Console(width=None if sys.stdout.isatty() else 160).print(what)


def hits_table(result: "SearchResult", columns: Sequence[str] = ()) -> Group:
    """Rank, score, label, `columns` and name of a query's hits, under the query and what the model takes it for.

    Where items have other names than the paths of their pictures, the paths are the last column.
    """
    doubt = " — no match: nothing in the catalogue is near enough" if result.match is False else ""
    title = f"{result.query}: {result.named}{doubt}"
    table = Table()
    for name in ("rank", "score"):
        table.add_column(name, justify="right")
    for name in ("label", *columns):
        table.add_column(Text(name))
    paths = [str(hit.item.get("path", hit.path)) for hit in result.hits]
    named = "path" in columns or all(path == hit.name for path, hit in zip(paths, result.hits, strict=True))
    for name in ("item",) if named else ("item", "path"):
        table.add_column(name, overflow="fold")
    for hit, path in zip(result.hits, paths, strict=True):
        said = (as_cell(hit.item.get(name)) for name in columns)
        add(table, str(hit.rank), f"{hit.score:.3f}", hit.label or "–", *said, hit.name, *([] if named else [path]))
    return Group(Text(title, overflow="fold"), table)  # a table's own title would be broken at the table's width


def as_cell(value: Any) -> str:
    """What a column says of an item."""
    return "–" if value is None else str(plain(value))


def plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Text in the first column, figures in the others."""
    table = Table(title=Text(title), title_justify="left")
    for number, column in enumerate(columns):
        header = Text(column.replace("/", "/\n").replace(".", ".\n"))  # in two lines where it has two parts
        table.add_column(header, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        add(table, *row)
    return table


def add(table: Table, *cells: str) -> None:
    """Add a row of plain text: brackets in a shop's names are no markup."""
    table.add_row(*map(Text, cells))


def metrics_table(title: str, metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> Table:
    """Figures with their 95% intervals where they have one."""
    table = Table(title=Text(title), title_justify="left")
    table.add_column("metric")
    table.add_column("value (95% interval)", justify="right")
    for name, value in metrics.items():
        interval = intervals.get(name)
        table.add_row(name, _with_interval(value, interval) if interval else f"{value:.3f}")
    return table


def search_table(
    metrics: Mapping[str, float], intervals: Mapping[str, tuple[float, float]], searched: str = "training gallery"
) -> Table:
    """Search metrics by protocol: micro mean with its 95% interval, and macro mean over classes.

    Args:
        searched: what the gallery protocol searched, in words.
    """
    protocols = {"gallery": searched, "loo": "leave-one-out", "filtered": "filtered by the named class"}
    table = Table(title="Search", title_justify="left")
    table.add_column("metric")
    shown = [prefix for prefix in protocols if any(name.startswith(f"{prefix}/") for name in metrics)]
    for prefix in shown:
        table.add_column(protocols[prefix], justify="right")
        table.add_column("macro", justify="right")
    names = dict.fromkeys(name.partition("/")[2].removeprefix("macro_") for name in metrics if "/" in name)
    for name in names:
        row = [name]
        for prefix in shown:
            key, macro = f"{prefix}/{name}", metrics.get(f"{prefix}/macro_{name}")
            row += [_with_interval(metrics.get(key), intervals.get(key)), "" if macro is None else f"{macro:.3f}"]
        table.add_row(*row)
    return table


def _with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None:
        return ""
    if interval:
        return f"{value:.3f} ({interval[0]:.3f} – {interval[1]:.3f})"
    return f"{value:.0f}" if value.is_integer() else f"{value:.3f}"  # a count, or all queries are of one group
