"""Overrides as they are typed, which a shell reads first and then Hydra; and lists of names in messages."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

PLAIN = re.compile(r"[A-Za-z0-9_./*-]+")
"""Text that neither a shell nor Hydra interprets."""

PARTS = re.compile(r"""'(?:\\.|[^'])*'|"(?:\\.|[^"])*"|[^][,'"]+""")
"""The values of a list, or the only one: quoted, or plain."""

TEXT = {
    "add", "api_key", "baselines", "bundle", "cache_dir", "catalog", "classes", "columns", "delete", "dir",
    "embeddings", "encoder", "external_id", "filter", "folder", "format", "group_by", "host", "like", "metrics",
    "models", "note", "pictures", "pretrained", "query", "relevance", "resume", "root_path", "run", "run_b", "runs",
    "server", "shard", "sort", "source", "sweep_name", "table", "teacher", "update",
}  # fmt: skip
"""Last parts of keys that take text."""

NAMED = 5
"""Names that a sentence lists; of more it says how many."""

CHOICES = 20
"""As many where one of them is to be chosen, or the difference is to be seen."""


def briefly(names: Collection[str], most: int = NAMED) -> str:
    """The first of the names, and how many others there are."""
    more = len(names) - most
    return ", ".join([*names][:most]) + (f" and {more} more" if more > 0 else "")


def as_typed(key: str, value: object) -> str:
    """key=value; text that Hydra would read as a number or as true, false or null is quoted too."""
    quoted = _for_hydra(value) if isinstance(value, str | Path) else str(value)
    return f"{key}={quoted}" if PLAIN.fullmatch(quoted) else _for_shell(f"{key}={quoted}")


def as_typed_list(key: str, values: Iterable[str]) -> str:
    """key=[value,…]."""
    return _for_shell(f"{key}=[{','.join(map(_for_hydra, values))}]")


def keep_text(override: str) -> str:
    """The override as Hydra should get it: `12_3` or `true` is quoted where text is expected, so it is not 123 or True.

    Numbers that Hydra prints as they were typed stay numbers.
    """
    key, equals, value = override.partition("=")
    if not equals or key.startswith("-") or key.split(".")[-1] not in TEXT:
        return override
    return f"{key}={PARTS.sub(_quoted_if_changed, value)}"


def _quoted_if_changed(part: re.Match[str]) -> str:
    text = part[0].strip()
    return f"'{text}'" if _prints_otherwise(text) else part[0]


def _prints_otherwise(text: str) -> bool:
    """Whether Hydra reads a number or a truth value, and would not print it as it was typed."""
    if text.lower() in ("true", "false"):
        return True
    for kind in (int, float):
        try:
            return str(kind(text)) != text
        except ValueError:
            pass
    return False


def _for_hydra(value: str | Path) -> str:
    text = str(value)
    if PLAIN.fullmatch(text) and not _is_other(text):
        return text
    escaped = re.sub(r"(\\*)('|$)", lambda match: 2 * match[1] + match[2].replace("'", r"\'"), text)
    return f"'{escaped}'"  # Hydra keeps a backslash, except before a quote


def _is_other(text: str) -> bool:
    """Whether Hydra reads it as something other than text."""
    try:
        float(text)
    except ValueError:
        return text.lower() in ("true", "false", "null")
    return True


def _for_shell(text: str) -> str:
    return '"{}"'.format(re.sub(r'([\\"$`])', r"\\\1", text))
