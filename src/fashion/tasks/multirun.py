"""One job of a multirun: skipped if it had finished already, and listed with its error if it fails."""

import hashlib
import json
import logging
import math
import traceback
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from fashion.config import as_dict, flat
from fashion.errors import FashionError
from fashion.files import read_json, write_text
from fashion.tasks import run_task

log = logging.getLogger(__name__)

WORST = 0.0
"""What a failed or diverged job counts for: a sweeper that learns from its jobs must get a number.  All metrics that
jobs return lie between 0 and 1, higher is better."""


def run_job(cfg: DictConfig) -> Any:
    """Run the job's task, unless a multirun of the same `sweep_name` finished it with the same settings."""
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    settings = as_dict(cfg, resolve=False)
    before = read_json(folder / "finished.json")
    if isinstance(before, dict):
        if before["settings"] == json.loads(json.dumps(settings, default=str)):
            log.info("Job %s had finished already; it is skipped.", hydra_config.job.num)
            return before["value"]
        if hydra_config.output_subdir is not None:
            _restore(folder / hydra_config.output_subdir, before)
        raise FashionError(
            f"{folder} holds a finished job of other settings, which would be overwritten; choose another sweep_name, "
            "or delete that folder."
        )
    error_file = folder / "error.txt"
    error_file.unlink(missing_ok=True)
    try:
        value = run_task(cfg)
    except Exception as error:
        # One failing job must not lose the others: it is listed in the final table, with this sentence.
        error_file.write_text(reason(error), encoding="utf-8")
        log.error("%s", error if isinstance(error, FashionError) else traceback.format_exc())
        return WORST
    if isinstance(value, float) and not math.isfinite(value):
        log.warning("The job ended with %s; it counts as %g.", value, WORST)
        value = WORST
    finished = {"settings": settings, "overrides": list(hydra_config.overrides.task), "value": value}
    write_text(folder / "finished.json", json.dumps(finished, default=str) + "\n")
    return value


def _restore(folder: Path, before: dict[str, Any]) -> None:
    """Write a finished job's settings once more: Hydra has written those of the job that is refused."""
    for name, key in {"config": "settings", "overrides": "overrides"}.items():
        if key in before:
            write_text(folder / f"{name}.yaml", OmegaConf.to_yaml(OmegaConf.create(before[key])))


def reason(error: BaseException) -> str:
    """The error in words; where it was raised while another was handled, as in Lightning's clean-up, that one first.

    A FashionError says all there is to say.
    """
    first, said = error, str(error) or repr(error)
    while first.__context__ and not first.__suppress_context__ and not isinstance(first, FashionError):
        first = first.__context__
    return said if first is error else f"{type(first).__name__}: {first} (and then: {said})"


def settings_key(_root_: DictConfig) -> str:
    """A short hash, for the name of a search's study: of which settings it varies, and of the values of all others.

    Trials of one study are compared, and the next are chosen by them, so all else must be equal.
    """
    from fashion.report.runs import UNTOLD

    given = OverridesParser.create().parse_overrides(list(_root_.hydra.overrides.task))
    varies = dict.fromkeys(map(str, _root_.hydra.sweeper.params), True)
    varies |= {one.key_or_group: one.is_sweep_override() for one in given}  # what is given one value varies no more
    swept = sorted(name for name, is_swept in varies.items() if is_swept)
    settings = as_dict(_root_, resolve=False)
    del settings["hydra"]
    kept = {name: value for name, value in flat(settings).items() if name not in (*swept, *UNTOLD)}
    text = json.dumps([swept, kept], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
