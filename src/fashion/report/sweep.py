"""The end of a multirun: one table of all its runs, best first, failed ones last with their error."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from fashion.files import write_text
from fashion.report.pictures import recall_plot, save_picture
from fashion.report.runs import is_figure
from fashion.report.tables import runs_table, show

log = logging.getLogger(__name__)

SHOWN = ("accuracy", "gallery/top1", "gallery/map", "train_seconds", "recall@10", "search_ms")

BEST = {"triplet": "gallery/map", "index": "recall@10"}
"""Task → the figure by which its runs are ordered; accuracy for all others."""


class RunsTable(Callback):
    """Hydra's callback that prints the table and writes it as `runs.json` beside the jobs' folders."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        rows = read_runs(folder)
        if not rows:
            return
        task = OmegaConf.select(config, "task.name", default="")
        best = BEST.get(task, "accuracy")
        rows.sort(key=lambda row: (best not in row, -row.get(best, 0)))
        write_text(folder / "runs.json", json.dumps(rows, indent=2) + "\n")
        show(runs_table(rows, sort_by=best))
        if task == "index" and any("search_ms" in row for row in rows):
            try:
                save_picture(recall_plot(rows), folder / "recall.png")
                log.info("Recall against latency: %s", (folder / "recall.png").resolve())
            except ImportError:
                log.info("The plot of recall against latency needs matplotlib: pip install -e '.[train]'")
        log.info("Sweep folder: %s", folder.resolve())
        failed = sum("error" in row for row in rows)
        if failed:
            sys.exit(f"error: {failed} of {len(rows)} runs failed; their reasons stand in the table above.")


def read_runs(folder: Path) -> list[dict[str, Any]]:
    """A row for each job of a sweep: `run`, the overrides that made it, its metrics, or its `error`."""
    rows = []
    for run in sorted(folder.glob("*/.hydra/overrides.yaml")):
        row: dict[str, Any] = {"run": run.parents[1].name}
        for override in OmegaConf.load(run):
            key, _, value = str(override).partition("=")
            row[key] = value
        try:
            content = json.loads((run.parents[1] / "metrics.json").read_text(encoding="utf-8"))
            values = {**content, **content.get("metrics", {})}
            row |= {name: values[name] for name in SHOWN if is_figure(values.get(name))}
        except (OSError, ValueError, AttributeError, TypeError):
            error = run.parents[1] / "error.txt"
            row["error"] = error.read_text(encoding="utf-8") if error.exists() else "it wrote no metrics.json"
        rows.append(row)
    return rows
