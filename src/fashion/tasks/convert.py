"""task=convert: a public dataset's list files → a table for data=table."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from fashion.data.convert import convert
from fashion.quoting import as_typed
from fashion.tasks.options import Options, read_options

log = logging.getLogger(__name__)


class ConvertOptions(Options):
    format: str
    folder: str
    table: str | None


def run(cfg: DictConfig) -> int:
    """Write the table; returns its number of rows."""
    options = read_options(cfg, ConvertOptions)
    folder = Path(options.folder).expanduser()
    table = Path(options.table).expanduser() if options.table else folder / "items.csv"
    count = convert(options.format, folder, table)
    log.info("%d pictures: python run.py task=classify data=table %s", count, as_typed("data.source", table))
    return count
