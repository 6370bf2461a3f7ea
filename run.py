"""The entry point: compose the configuration, then run its task.  `python run.py --help` lists what there is."""

import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from fashion.errors import FashionError
from fashion.pipes import outlive
from fashion.quoting import as_typed, as_typed_list, keep_text
from fashion.tasks.alone import run_alone
from fashion.tasks.hints import hint, uncaught_hint
from fashion.tasks.multirun import run_job, settings_key
from fashion.tasks.options import SECRET


def task_file(arguments: list[str]) -> str:
    """The file of the task that is named, whose comments say what its keys are, for `--help`."""
    named = [text.removeprefix("task=") for text in arguments if text.startswith("task=")]
    path = Path(__file__).parent / "conf/task" / f"{named[-1] if named else 'help'}.yaml"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return text.replace("$", "$$").replace("# @package _global_\n", "")  # Hydra fills in what follows a $


def check_flags(arguments: list[str]) -> None:
    """End with a sentence where -m, which makes many runs, meets what is of one run only."""
    many = {"-m", "--multirun"} & {*arguments}
    if many and any(re.fullmatch(r"(-c|--cfg=?)(job|hydra|all)?|(-i|--info=?)[a-z-]*", text) for text in arguments):
        sys.exit("error: --cfg and --info show the configuration of one run, and -m makes many; leave -m out.")
    if many and any(text.startswith("hydra.run.dir=") for text in arguments):
        sys.exit("error: hydra.run.dir is the folder of one run, and -m makes many; name theirs with sweep_name=….")
    if many and "sweep_name=" in arguments:
        sys.exit("error: sweep_name is empty; give the sweep a name, or leave it out.")


def check_single(hydra_config: HydraConf) -> None:
    """Raise FashionError where one run is given what is of many only."""
    sweep = hydra_config.runtime.choices.get("sweep")
    if sweep:
        raise FashionError(f"sweep={sweep} is many runs; add -m.")
    for override in (*hydra_config.overrides.hydra, *hydra_config.overrides.task):
        if re.match(r"\+*(hydra[/.](launcher|sweep)|sweep_name=)", override):
            raise FashionError(f"{override.lstrip('+').partition('=')[0]} is of many runs; add -m, or leave it out.")


def check_overrides(arguments: list[str]) -> None:
    """End with a sentence where Hydra's grammar would stumble over what a shell takes for one plain value."""
    for text in arguments:
        if "=" in text and not text.startswith("-"):
            try:
                OverridesParser.create().parse_override(text)
            except HydraException:
                key, _, value = text.partition("=")
                if key in ("hydra.run.dir", "hydra.sweep.dir") and value.startswith("~"):
                    sys.exit(f"error: {key} is {value}, and Hydra knows no ~; give the whole path.")
                secret = key.split(".")[-1] in SECRET
                typed = as_typed(key, "…" if secret else value)
                if re.fullmatch(r"\[[^][{}]*\]", value) and not secret:  # of a list each by itself
                    typed = as_typed_list(key, [one.strip(" '") for one in value[1:-1].split(",")])
                sys.exit(
                    f"error: the value of {key} cannot be read: letters and signs other than a-z A-Z 0-9 - _ . / * are "
                    f"quoted twice, once for the shell: {typed}"
                )


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg: DictConfig) -> Any:
    try:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return run_job(cfg)
        check_single(HydraConfig.get())
        return run_alone(cfg)
    except FashionError as error:
        sys.exit(f"error: {error}")


def kept(arguments: list[str]) -> str:
    """What is left of an interrupted command, where its task does not say so itself."""
    if {"-m", "--multirun"} & {*arguments}:
        return "the same command with the sweep_name of its folder goes on, and skips the jobs that had finished"
    return "what was finished is kept, and nothing is left half-written"


if __name__ == "__main__":
    outlive(sys.stdout)
    outlive(sys.stderr)
    check_flags(sys.argv[1:])
    check_overrides(sys.argv[1:])
    sys.argv[1:] = map(keep_text, sys.argv[1:])
    OmegaConf.register_new_resolver("task_file", lambda: task_file(sys.argv[1:]))
    OmegaConf.register_new_resolver("settings_key", settings_key)
    if os.environ.get("FASHION_CACHE") == "":  # set to nothing is as good as not set
        del os.environ["FASHION_CACHE"]
    asked = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then leaves it to us to say what it refuses
    try:
        main()
    except KeyboardInterrupt as interrupt:  # caught here, for launchers that wait for jobs in other processes
        print(f"interrupted; {str(interrupt) or kept(sys.argv[1:])}.", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)  # as shells expect
    except CompactHydraException as error:
        if asked:
            raise
        sys.exit(f"error: {hint(error, Path(__file__).parent / 'conf', sys.argv[1:])}")
    except (TypeError, ValueError) as error:
        said = uncaught_hint(error)
        if asked or said is None:
            raise
        sys.exit(f"error: {said}")
