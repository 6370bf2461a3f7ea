"""One sentence for what Hydra refuses: a key or a choice that does not exist, and the nearest that do."""

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import CompactHydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf


def hint(error: CompactHydraException, conf: Path, overrides: Sequence[str]) -> str:
    """What is wrong with the overrides of a command line, in a sentence that names the way out.

    Args:
        error: what Hydra raised when it composed the configuration.
        conf: the folder of the configuration files.
        overrides: the command line's, `key=value`.
    """
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.removesuffix(".yaml").rpartition("/")
        options = [*error.options]
        return f"there is no {group}={choice}; {_meant(choice, options)}there are {', '.join(options)}."
    unknown = re.match("Could not (?:override|delete from config.) '(.+?)'", str(error))
    if not unknown:
        return " ".join(str(error).split())
    key, known = unknown[1], keys(conf, overrides)
    extra = f"; an argument of its class that is not listed is added as +{key}=…"
    behind = f"{key.rpartition('.')[0]}._target_" in known
    return f"there is no key {key}; {_meant(key, known)}--help lists all{extra if behind else ''}."


def keys(conf: Path, overrides: Sequence[str]) -> list[str]:
    """The keys, key.key, of the configuration that the overrides choose; none if their choices cannot be composed."""
    chosen = [text for text in overrides if (conf / text.partition("=")[0]).is_dir()]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf.resolve()), version_base=None):
            return [*_flat(compose("config", chosen))]
    except CompactHydraException:
        return []


def _flat(cfg: DictConfig, before: str = "") -> Iterator[str]:
    for key in cfg:
        yield f"{before}{key}"
        if OmegaConf.is_dict(cfg) and not OmegaConf.is_missing(cfg, key):
            value = cfg._get_node(key)  # unresolved: interpolations are values, not keys
            if isinstance(value, DictConfig) and not value._is_none() and not value._is_interpolation():
                yield from _flat(value, f"{before}{key}.")


def _meant(wrong: str, right: Sequence[str]) -> str:
    """A question that names what is nearest, or nothing."""
    last = wrong.rpartition(".")[2]
    same = [key for key in right if key.rpartition(".")[2] == last]
    ends = {key.rpartition(".")[2]: key for key in right}
    near = same or [ends[end] for end in get_close_matches(last, ends, n=3, cutoff=0.75)]
    return f"did you mean {' or '.join(near[:3])}? " if near else ""
