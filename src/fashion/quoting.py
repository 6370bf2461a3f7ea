"""Overrides as they are typed, for commands in messages: a shell reads them first, and then Hydra."""

import re
from collections.abc import Iterable

PLAIN = re.compile(r"[A-Za-z0-9_./*-]+")
"""What neither a shell nor Hydra takes for anything but itself."""


def as_typed(key: str, value: object) -> str:
    """key=value."""
    return f"{key}={value}" if PLAIN.fullmatch(str(value)) else _for_shell(f"{key}={_for_hydra(str(value))}")


def as_typed_list(key: str, values: Iterable[str]) -> str:
    """key=[value,…]."""
    return _for_shell(f"{key}=[{','.join(map(_for_hydra, values))}]")


def _for_hydra(value: str) -> str:
    return value if PLAIN.fullmatch(value) else "'{}'".format(value.replace("'", r"\'"))


def _for_shell(text: str) -> str:
    return '"{}"'.format(re.sub(r'(["$`])', r"\\\1", text))
