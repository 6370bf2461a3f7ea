"""The outlines of ten kinds of garments, in coordinates from −1 to 1, y down; `c` holds the cut, six numbers of 0…1."""

import math
from collections.abc import Callable

import numpy as np

Point = tuple[float, float]
Drawn = tuple[list[list[Point]], list[list[Point]]]


def _both(points: list[Point]) -> list[Point]:
    """A symmetric outline from its right half, given from top to bottom."""
    return points + [(-x, y) for x, y in reversed(points)]


def _top(cut: tuple[float, ...], sleeve: float, spread: float, length: float, wide: float) -> list[list[Point]]:
    """A body with two sleeves of length `sleeve` that hang at the angle `spread` (0 down, 1 sideways)."""
    shoulder, hem = 0.42 + 0.1 * wide, 0.38 + 0.14 * wide
    neck = 0.12 + 0.1 * cut[3]
    body = _both([(0, -0.78 + 0.12 * cut[4]), (neck, -0.86), (shoulder, -0.74), (hem - 0.02, -0.3), (hem, length)])
    angle = math.radians(20 + 55 * spread)
    across, down = math.sin(angle), math.cos(angle)
    thick = 0.22 + 0.06 * wide
    tip = (shoulder + sleeve * across, -0.68 + sleeve * down)
    arm = [(shoulder - 0.06, -0.8), (shoulder + 0.04, -0.72), tip,
           (tip[0] - thick * down, tip[1] + thick * across * 0.8), (shoulder - 0.1, -0.72 + thick * 1.7)]  # fmt: skip
    return [body, arm, [(-x, y) for x, y in arm]]


def _dress(c: tuple[float, ...]) -> Drawn:
    waist, hem, end = 0.2 + 0.08 * c[0], 0.38 + 0.3 * c[1], 0.6 + 0.38 * c[2]
    half = [(0, -0.72), (0.14, -0.78), (0.2, -0.95), (0.28, -0.95), (0.32, -0.6), (waist, -0.2), (hem, end)]
    straps = [(0.14, -0.78), (0.2, -0.95)] if c[3] < 0.5 else [(0.24, -0.9)]
    sleeves = _top(c, 0.25, 0.7, -0.3, 0)[1:] if c[4] > 0.6 else []
    return [_both(half), *sleeves], [[(-waist, -0.2), (waist, -0.2)], [(0.1, -0.1), (0.16, end - 0.1)], straps]


def _hat(c: tuple[float, ...]) -> Drawn:
    arc = [math.radians(180 + 180 * step / 12) for step in range(13)]
    width, tall = 0.5 + 0.12 * c[0], 0.55 + 0.4 * c[1]
    crown = [(width * math.cos(a), 0.15 + tall * math.sin(a)) for a in arc]
    if c[2] < 0.5:  # a brim all round
        rim = [(0.95 * math.cos(a), 0.2 + (0.16 + 0.14 * c[3]) * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 24)]
        return [crown, rim], [[(-width, 0.1), (0, 0.2), (width, 0.1)]]
    peak = [(0.2, 0.1), (width, 0.02), (0.98, 0.2), (0.95, 0.3), (0.3, 0.26), (-width, 0.2), (-width, 0.1)]
    return [crown, peak], [[(0.1, 0.15 - tall), (0.14, 0.12)], [(-width, 0.14), (width, 0.1)]]


def _longsleeve(c: tuple[float, ...]) -> Drawn:
    sleeve, length = 1.0 + 0.25 * c[0], 0.5 + 0.3 * c[1]
    return _top(c, sleeve, 0.35 * c[2], length, c[5] * 0.6), [[(-0.4, length - 0.08), (0.4, length - 0.08)]]


def _outwear(c: tuple[float, ...]) -> Drawn:
    length = 0.55 + 0.4 * c[1]
    hood = [_both([(0, -1), (0.22, -0.95), (0.28, -0.74)])] if c[0] > 0.6 else []
    zip_line: list[list[Point]] = [[(0, -0.75), (0, length)], [(0.04, -0.75), (0.04, length)]]
    lapels: list[list[Point]] = [[(-0.2, -0.84), (0, -0.35), (0.2, -0.84)]]
    pockets: list[list[Point]] = [[(0.16, 0.22), (0.36, 0.14)], [(-0.16, 0.22), (-0.36, 0.14)]]
    return _top(c, 1.0 + 0.2 * c[2], 0.25 * c[3], length, 0.9) + hood, zip_line + lapels + pockets


def _legs(c: tuple[float, ...], end: float, flare: float) -> Drawn:
    hip, apart = 0.36 + 0.08 * c[0], 0.04 + 0.12 * c[1]
    cuff = hip * 0.62 + 0.25 * flare
    leg = [(0.3, -0.9), (hip, -0.5), (apart + cuff, end), (apart, end), (0, -0.3), (0, -0.9)]
    return [leg, [(-x, y) for x, y in leg]], [[(-0.32, -0.78), (0.32, -0.78)], [(0, -0.78), (0, -0.35)],
                                              [(0.18, -0.75), (0.33, -0.55)]]  # fmt: skip


def _pants(c: tuple[float, ...]) -> Drawn:
    return _legs(c, 0.75 + 0.24 * c[2], c[3])


def _shorts(c: tuple[float, ...]) -> Drawn:
    shapes, lines = _legs(c, -0.02 + 0.2 * c[2], 0.5 + 0.5 * c[3])
    return [[(x * 1.35, y + 0.4) for x, y in s] for s in shapes], [[(x * 1.35, y + 0.4) for x, y in s] for s in lines]


def _shirt(c: tuple[float, ...]) -> Drawn:
    length = 0.55 + 0.25 * c[1]
    sleeve = 1.05 if c[0] < 0.6 else 0.42
    collar = [[(0, -0.68), (0.2, -0.95), (0.3, -0.78)], [(0, -0.68), (-0.2, -0.95), (-0.3, -0.78)]]
    buttons: list[list[Point]] = [[(-0.03, y), (0.03, y)] for y in np.linspace(-0.55, length - 0.1, 6).tolist()]
    edges: list[list[Point]] = [[(0.07, -0.68), (0.07, length)], [(-0.28, -0.8), (0, -0.62), (0.28, -0.8)]]
    pocket: list[list[Point]] = [[(0.16, -0.3), (0.34, -0.3), (0.34, -0.1), (0.25, -0.05), (0.16, -0.1), (0.16, -0.3)]]
    return _top(c, sleeve, 0.4 * c[2], length, 0.4) + collar, buttons + edges + (pocket if c[3] > 0.4 else [])


def _shoes(c: tuple[float, ...]) -> Drawn:
    ankle, nose = -0.3 - 0.45 * c[0] * (c[1] > 0.5), 0.05 + 0.12 * c[2]
    upper: list[Point] = [(-0.9, ankle), (-0.4, ankle - 0.03), (-0.2, -0.18), (0.45, nose), (0.85, nose + 0.1)]
    shoe = [*upper, (0.92, 0.3), (0.9, 0.4), (-0.92, 0.4), (-0.95, 0.1)]
    lines: list[list[Point]] = [
        [(-0.95, 0.28), (0.9, 0.28)],
        [(-0.3, -0.2), (-0.12, -0.04)],
        [(-0.12, -0.12), (0.06, 0.03)],
    ]
    if c[3] < 0.5:
        return [[(x, y + 0.1) for x, y in shoe]], [[(x, y + 0.1) for x, y in line] for line in lines]
    pair = [[(x * 0.8 + dx, y * 0.8 + dy) for x, y in shoe] for dx, dy in ((-0.14, -0.25), (0.14, 0.4))]
    return pair, [
        [(x * 0.8 + dx, y * 0.8 + dy) for x, y in s] for s in lines for dx, dy in ((-0.14, -0.25), (0.14, 0.4))
    ]


def _skirt(c: tuple[float, ...]) -> Drawn:
    waist, hem, end = 0.3 + 0.08 * c[0], 0.42 + 0.42 * c[1], 0.2 + 0.6 * c[2]
    pleats: list[list[Point]] = [[(waist * x, -0.5), (hem * x, end - 0.05)] for x in (-0.6, -0.2, 0.2, 0.6)]
    half = [
        (waist, -0.7),
        (waist + 0.02, -0.55),
        ((waist + hem) / 2 + 0.04, end / 2 - 0.3),
        (hem, end),
        (0, end + 0.06),
    ]
    return [_both(half)], [[(-waist, -0.56), (waist, -0.56)], *(pleats if c[3] > 0.35 else [])]


def _t_shirt(c: tuple[float, ...]) -> Drawn:
    length = 0.5 + 0.3 * c[1]
    return _top(c, 0.34 + 0.16 * c[0], 0.45 + 0.4 * c[2], length, 0.35 + 0.4 * c[5]), [
        [(-0.2, -0.82), (0, -0.7), (0.2, -0.82)]
    ]


SHAPES: dict[str, Callable[[tuple[float, ...]], Drawn]] = {
    "dress": _dress,
    "hat": _hat,
    "longsleeve": _longsleeve,
    "outwear": _outwear,
    "pants": _pants,
    "shirt": _shirt,
    "shoes": _shoes,
    "shorts": _shorts,
    "skirt": _skirt,
    "t-shirt": _t_shirt,
}
"""Class → its shapes (filled) and its lines (seams, buttons) in garment coordinates."""
