"""All runs below a folder as rows, and their means over seeds."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fashion.config import flat
from fashion.files import read_json

Row = dict[str, Any]
UNFINISHED = "it wrote no metrics.json: cut off, or still running"
MEASURED = ("classify", "triplet", "evaluate")
"""Tasks that end in figures; of the others `index` does, where it is approximate."""

HYDRAS = re.compile(r"(^|\.)_(convert|recursive|partial|args)_$")
"""Hydra's own keys that say how something is made; `_target_` says what, such as which loss."""

REFERENCE = re.compile(r"\$\{([\w.]+)\}")
"""To another setting.  What has a colon in it is a resolver, which may read the environment."""

UNTOLD = ("cache_dir", "sweep_name", "resume", "data.cache_dir")
"""Settings that say where things are, not what was done."""

FIGURES = ("accuracy", "f1_macro", "gallery/top1", "gallery/top5", "gallery/map", "loo/top1", "loo/map", "recall@10",
           "search_ms", "train_seconds")  # fmt: skip
SMALLER_IS_BETTER = ("search_ms", "train_seconds")

BEST = {"triplet": "gallery/map", "index": "recall@10"}
"""Task → the figure by which its runs are ordered; accuracy for all others, or what they have instead."""


def read_runs(folder: Path) -> list[Row]:
    """A row for each run: `run` (its folder), settings as key.key, figures, and `error` where it failed."""
    rows = []
    for config in sorted(folder.rglob(".hydra/config.yaml")):
        run = config.parents[1]
        content = read_json(run / "metrics.json")
        row: Row = {"run": run.relative_to(folder).as_posix()}
        try:
            settings = OmegaConf.to_container(OmegaConf.load(config))
        except (OSError, OmegaConfBaseException, ValueError, YAMLError):
            settings = None
            row["error"] = ".hydra/config.yaml cannot be read"
        if isinstance(settings, dict):
            row |= told({str(key): value for key, value in settings.items()}, content)
        row = outcome(run, content) | row
        measured = MEASURED if row.get("error") == UNFINISHED else (*MEASURED, "index", None)  # None: unknown
        if "error" in row and row.get("task.name") not in measured:
            continue  # a task that gives no figures
        rows.append(row)
    return rows


def told(settings: dict[str, Any], content: Any) -> Row:
    """The settings as key.key, less those that say where things are; of the data, what was really used.

    A setting that refers to another has its value; resolvers, which may read the environment, stay as they are written.

    Args:
        content: of the run's `metrics.json`, which may note the `data`: an evaluation takes those of its model's run.
    """
    used = content.get("data") if isinstance(content, dict) else None
    if isinstance(used, dict) and isinstance(settings.get("data"), dict):
        settings = settings | {"data": settings["data"] | used}
    named = flat(settings)
    shown = [key for key in named if key not in UNTOLD and not HYDRAS.search(key)]
    return {key: _plain(_followed(named[key], named)) for key in shown}


def _followed(value: Any, named: Mapping[str, Any]) -> Any:
    """What a plain `${key.key}` refers to; anything else as it is."""
    for _ in range(10):  # it may lead to another such, or in a circle
        reference = REFERENCE.fullmatch(value) if isinstance(value, str) else None
        if reference is None or reference[1] not in named or reference[1] == "seed":  # runs of all seeds have one row
            break
        value = named[reference[1]]
    return value


def outcome(run: Path, content: Any) -> Row:
    """The figures in the content of a run's `metrics.json`, or the `error` for which it has none."""
    error = run / "error.txt"
    if error.exists():  # also where figures had been written before it failed
        return {"error": error.read_text(encoding="utf-8")}
    try:
        values = {**content, **content.get("metrics", {})}
    except (AttributeError, TypeError):
        return {"error": UNFINISHED}
    figures = {name: values[name] for name in FIGURES if is_figure(values.get(name))}
    return figures or {"error": "metrics.json holds no figure"}


def is_figure(value: Any) -> bool:
    """Whether it is a number that can be compared: a diverged run's NaN is none."""
    return isinstance(value, int | float) and math.isfinite(value)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float | str | bool) else json.dumps(value, default=str)


def best_figure(rows: Sequence[Row], task: str) -> str | None:
    """The figure that orders the task's runs: its own, else the first that there is; None where there is none."""
    names = (BEST.get(task, "accuracy"), *FIGURES)
    return next((name for name in names if any(name in row for row in rows)), None)


def by_merit(rows: Sequence[Row], figure: str | None) -> list[Row]:
    """Best first by a figure; rows without it last, as they came."""
    having = [row for row in rows if figure in row]
    having.sort(key=itemgetter(figure), reverse=figure not in SMALLER_IS_BETTER)
    return having + [row for row in rows if figure not in row]


def over_seeds(rows: Sequence[Row], best: str | None = None) -> list[Row]:
    """One row for each setting: figures as mean over seeds, `… sd` (of two seeds and more), and `seeds`.

    Its `run` is the folder of the run that is best by the figure `best`, or by the task's where that is none of its
    figures.  Several runs of one seed count as their mean.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if "error" not in row:
            key = {k: v for k, v in row.items() if k not in (*FIGURES, "run", "seed")}
            groups.setdefault(json.dumps(key, sort_keys=True, default=str), []).append(row)
    return [_mean(group, best) for group in groups.values()]


def _mean(group: Sequence[Row], best: str | None) -> Row:
    first = {key: value for key, value in group[0].items() if key not in (*FIGURES, "seed", "run")}
    known = best in FIGURES and any(best in row for row in group)
    by = best if known else best_figure(group, str(first.get("task.name")))
    mean: Row = {"run": by_merit(group, by)[0]["run"], **first, "seeds": len({row.get("seed") for row in group})}
    for name in FIGURES:
        by_seed: dict[Any, list[float]] = {}
        for row in group:
            if name in row:
                by_seed.setdefault(row.get("seed"), []).append(row[name])
        values = [float(np.mean(own)) for own in by_seed.values()]
        if values:
            mean[name] = float(np.mean(values))
            if len(values) > 1:
                mean[f"{name} sd"] = float(np.std(values, ddof=1))
    return mean


def columns_of(rows: Sequence[Row]) -> list[str]:
    """What a table of these rows shows: the run, the settings that differ, the figures, the error."""
    names = dict.fromkeys(key for row in rows for key in row)
    figures = [name for name in names if name.removesuffix(" sd") in FIGURES]
    settings = [name for name in names if name not in figures and name not in ("run", "error", "seeds")]
    differing = [name for name in settings if len(_values(rows, name)) > 1 and not _told_by_name(rows, name)]
    tail = [name for name in ("error",) if name in names]
    return ["run", *differing, *(["seeds"] if "seeds" in names else []), *figures, *tail]


def briefly(rows: Sequence[Row], columns: Sequence[str]) -> tuple[list[Row], list[str]]:
    """Rows and columns for a terminal: of more than 6 settings one column, with those that few rows have."""
    settings = [
        name for name in columns if name not in ("run", "seeds", "error") and name.removesuffix(" sd") not in FIGURES
    ]
    if len(settings) <= 6:
        return list(rows), list(columns)
    usual = {name: Counter(str(row.get(name)) for row in rows).most_common(1)[0][0] for name in settings}
    short = []
    for row in rows:
        odd = [f"{name}={row[name]}" for name in settings if name in row and str(row[name]) != usual[name]]
        short.append(row | {"settings": " ".join(odd)})
    left = [name for name in columns if name not in settings]
    return short, [left[0], "settings", *left[1:]]


def _values(rows: Sequence[Row], *names: str) -> set[tuple[str, ...]]:
    """What the rows hold in these columns."""
    return {tuple(json.dumps(row.get(name), default=str) for name in names) for row in rows}


def _told_by_name(rows: Sequence[Row], name: str) -> bool:
    """Whether the model's name says it already, as it does of a layout that was not changed."""
    inside = name.startswith("model.") and name != "model.name"
    return inside and len(_values(rows, "model.name", name)) == len(_values(rows, "model.name"))


def cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    """The row's values as text; mean ± sd in one cell."""
    texts = []
    for name in columns:
        value = row.get(name)
        digits = ".3f" if "/" in name or name in ("accuracy", "f1_macro") else ".4g"
        text = "" if value is None else format(value, digits) if isinstance(value, float) else str(value)
        if isinstance(value, float) and f"{name} sd" in row:
            text += f" ± {row[f'{name} sd']:.2g}"
        texts.append(text)
    return texts
