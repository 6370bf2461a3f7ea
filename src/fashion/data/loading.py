"""Many pictures through the one loader: in order, on a few threads, a bounded number ahead."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from fashion.data.images import BadPictureError, Picture, load_picture

T = TypeVar("T")

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

THREADS = min(CORES, 8)
"""Decoding keeps a core busy, and more threads than cores are slower; at most 8, as each may hold a huge picture."""

PIECE = 32
"""How many pictures a thread takes at a time: passing each by itself cost a tenth of decoding it."""


def load_pictures(
    sources: Sequence[str | Path | bytes],
    size: int,
    boxes: Sequence[Sequence[float] | None] | None = None,
    centre: float = 1.0,
) -> Iterator[Picture | BadPictureError]:
    """`load_picture` over many, in order, on a few threads; a bad picture is yielded as its error, not raised."""
    return made_of_pictures(lambda pictures: pictures, sources, size, boxes, centre)


def made_of_pictures(
    make: Callable[[list[Picture]], Iterable[T]],
    sources: Sequence[str | Path | bytes],
    size: int,
    boxes: Sequence[Sequence[float] | None] | None = None,
    centre: float = 1.0,
) -> Iterator[T | BadPictureError]:
    """What `make` makes of pictures, in order: on the thread that has just loaded them, whose cache still holds them.

    Only a bounded number of pictures is loaded ahead of the consumer.

    Args:
        make: turns a few pictures, at most `PIECE`, into as many results; is called from several threads at once.
    """
    piece = max(1, min(PIECE, math.ceil(len(sources) / THREADS)))

    def work(start: int) -> list[T | BadPictureError]:
        places = range(start, min(start + piece, len(sources)))
        loaded = [_load(sources[at], size, boxes[at] if boxes else None, centre) for at in places]
        good = [picture for picture in loaded if not isinstance(picture, BadPictureError)]
        results = iter(make(good) if good else ())
        return [picture if isinstance(picture, BadPictureError) else next(results) for picture in loaded]

    with ThreadPoolExecutor(THREADS) as pool:
        ahead: deque[Future[list[T | BadPictureError]]] = deque()
        try:
            for start in range(0, len(sources), piece):
                ahead.append(pool.submit(work, start))
                if len(ahead) > 2 * THREADS:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            for left in ahead:
                left.cancel()


def _load(
    source: str | Path | bytes, size: int, box: Sequence[float] | None, centre: float
) -> Picture | BadPictureError:
    try:
        return load_picture(source, size, box, centre)
    except BadPictureError as error:
        return error


def keep_good(
    results: Iterable[T | BadPictureError],
    policy: str,
    skipped: Callable[[int, BadPictureError], None],
    key: str = "on_bad_image",
) -> Iterator[tuple[int, T]]:
    """(position, picture or what was made of it) of the readable ones.

    A bad one is raised (`fail`) or reported to `skipped` (`skip`).

    Args:
        key: what sets the policy, for the error.
    """
    for at, result in enumerate(results):
        if not isinstance(result, BadPictureError):
            yield at, result
        elif policy == "fail":
            raise BadPictureError(f"{result} ({key}=skip leaves such pictures out)")
        else:
            skipped(at, result)
