"""One sentence for what Hydra refuses: a key or a choice that does not exist, and the nearest that do."""

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import CompactHydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf

from fashion.config import as_dict
from fashion.errors import raised_in


def hint(error: CompactHydraException, conf: Path, overrides: Sequence[str]) -> str:
    """What is wrong with the overrides of a command line, in a sentence that names the way out.

    Args:
        error: what Hydra raised when it composed the configuration.
        conf: the folder of the configuration files.
        overrides: the command line's, `key=value`.
    """
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        asked = error.missing_cfg_file.removesuffix(".yaml")
        group = next((g for g in _parents(asked) if (conf / g).is_dir()), asked.rpartition("/")[0])
        if group.startswith("hydra/"):
            return f"there is no {asked}; the plugins that sweeps need come with the `sweep` extra."
        choice = asked.removeprefix(f"{group}/")
        meant = _meant(choice, error.options) or _asked(_described(choice, conf / group))
        return f"there is no {group}={choice}; {meant}there are {', '.join(error.options)}."
    unknown = re.match("Could not (override|delete from config).? '(.+?)'", str(error))
    if not unknown:
        named = isinstance(error.__cause__, Exception) and uncaught_hint(error.__cause__)
        if named:
            return named
        cause = str(error.__cause__ or "").split("\n")[0]
        return " ".join([*str(error).split(), *cause.split()]) or type(error).__name__
    deleted, key = unknown[1] != "override", unknown[2]
    if (conf / key).is_dir():
        return f"{key} is no part of this task's configuration; --help says what is."
    if key.startswith("hydra."):
        return f"there is no key {key}; --cfg hydra lists those of Hydra."
    cfg = configuration(conf, overrides)
    own, parent = (OmegaConf.select(cfg, one) if cfg else None for one in (key, key.rpartition(".")[0]))
    if isinstance(own, DictConfig) and not own and not deleted:
        return f"{key} is empty, and what is put into it is added: +{key}={{…}}"
    if isinstance(parent, DictConfig) and not parent and not deleted:  # whose keys are the user's to name
        return f"there is no key {key} yet; add it as +{key}=…"
    known = [*_keys(as_dict(cfg, resolve=False))]
    more = f"; an argument of its class that is not listed is added as +{key}=…"
    behind = not deleted and f"{key.rpartition('.')[0]}._target_" in known
    return f"there is no key {key}; {_meant(key, known)}--help lists all{more if behind else ''}."


def uncaught_hint(error: Exception) -> str | None:
    """What is wrong with an override like `model.blocks.width=3`, which gives a part of a list a name, or `loss=null`.

    None: neither.

    Args:
        error: what Hydra let through when it composed the configuration.
    """
    if str(error).startswith("Config group override must be a string"):
        return "a group cannot be null; name one of its choices (--help lists them), or leave it out."
    named = re.match(r"(Index|invalid literal for int\(\) with base 10:) '(.+?)'", str(error))
    if not named or raised_in(error) != "omegaconf":
        return None
    return f"'{named[2]}' is no part of a list; they are numbered from 0, as in model.blocks.0=[…]."


def configuration(conf: Path, overrides: Sequence[str]) -> DictConfig:
    """The configuration that the overrides' choices make, without their values; empty if it cannot be composed."""
    pairs = [text.partition("=") for text in overrides if "=" in text]
    # Of a sweep's choices the first stands for all.
    chosen = [f"{group}={value.split(',')[0]}" for group, _, value in pairs if (conf / group).is_dir()]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
            return compose("config", chosen)
    except CompactHydraException:
        return OmegaConf.create({})


def _keys(settings: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Every key, those of groups too, as key.key."""
    for key, value in settings.items():
        yield f"{before}{key}"
        if isinstance(value, dict):
            yield from _keys(value, f"{before}{key}.")


def _parents(path: str) -> Iterator[str]:
    """a/b/c → a/b, a."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _meant(wrong: str, right: Sequence[str]) -> str:
    """A question that names what is nearest, or nothing."""
    last = wrong.rpartition(".")[2]
    same = [key for key in right if key.rpartition(".")[2] == last]
    ends = {key.rpartition(".")[2]: key for key in right}
    return _asked(same or [ends[end] for end in get_close_matches(last, ends, n=3, cutoff=0.75)])


def _described(word: str, folder: Path) -> list[str]:
    """The one or two choices whose description has this word, as that of index has `sync`.

    A description is the comments above a file's keys.  Short words, and those of more choices, say nothing.
    """
    whole = re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE)
    found = []
    for path in sorted(folder.glob("*.yaml")):
        head = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
        if any(whole.search(line) for line in head if "@package" not in line):
            found.append(path.stem)
    return found if len(word) > 3 and len(found) < 3 else []


def _asked(near: Sequence[str]) -> str:
    return f"did you mean {' or '.join(near[:3])}? " if near else ""
