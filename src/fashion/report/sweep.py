"""The end of a multirun: one table of all its runs, best first, failed ones last with their error."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from fashion.files import read_json, write_text
from fashion.report.pictures import recall_plot, save_picture
from fashion.report.runs import UNFINISHED, Row, best_figure, by_merit, cells, columns_of, outcome
from fashion.report.tables import plain_table, show

log = logging.getLogger(__name__)


class RunsTable(Callback):
    """Hydra's callback that prints the table and writes it as `runs.json` beside the jobs' folders."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        rows = read_jobs(folder)
        if not rows:
            return
        task = OmegaConf.select(config, "task.name", default="")
        best = best_figure(rows, task)
        rows = by_merit(rows, best)
        write_text(folder / "runs.json", json.dumps(rows, indent=2) + "\n")
        columns = columns_of(rows)
        title = f"{len(rows)} runs" + (f", best {best} first" if best else "")
        show(plain_table(title, columns, [cells(row, columns) for row in rows]))
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


def read_jobs(folder: Path) -> list[Row]:
    """A row for each job of a sweep: `run`, the overrides that made it, its figures, or its `error`."""
    rows = []
    for overrides in sorted(folder.glob("*/.hydra/overrides.yaml")):
        run = overrides.parents[1]
        pairs = (str(override).partition("=") for override in OmegaConf.load(overrides))
        figures = outcome(run, read_json(run / "metrics.json"))
        if figures.get("error") == UNFINISHED and (run / "finished.json").exists():
            figures = {}  # of a task that gives none
        rows.append({"run": run.name} | {key: value for key, _, value in pairs} | figures)
    return rows
