"""Printing into a pipe whose reader may end, such as `| head`: the work goes on, and writes its files."""

import os
from collections.abc import Callable
from typing import Any, TextIO


def outlive(stream: TextIO) -> None:
    """Let what is printed to `stream` go nowhere once its reader is gone, in place of an error at any line of code."""
    for name in ("write", "flush"):
        setattr(stream, name, _guarded(getattr(stream, name), stream))


def _guarded(method: Callable[..., Any], stream: TextIO) -> Callable[..., Any]:
    def guarded(*arguments: Any) -> Any:
        try:
            return method(*arguments)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            return None

    return guarded
