"""Pictures cut into 16×16 blocks, of which the means are looked at."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 16


def in_blocks(pictures: NDArray[np.uint8]) -> NDArray[Any]:
    """[N,C,S,S] → [N,C,16,S//16,16,S//16], whose axes 3 and 5 lie inside a block; what is left over is cut off."""
    count, channels, size, _ = pictures.shape
    step = size // SIDE
    cut = pictures[:, :, : SIDE * step, : SIDE * step]
    return cut.reshape(count, channels, SIDE, step, SIDE, step)
