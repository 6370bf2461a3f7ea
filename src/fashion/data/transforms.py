"""Augmentation of whole batches as tensors, where every picture has draws of its own.

A transform of torchvision draws once a call, so a batch would share one crop, and a call a picture is slow.  Here all
that moves pixels is one affine map a picture, sampled once, and all that recolours is one 3×3 matrix a picture.
"""

import math
from contextlib import nullcontext
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import resize

from fashion.arguments import checked
from fashion.errors import FashionError

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in brightness (ITU-R BT.601)."""


class Augmentation:
    """[B,3,S,S] uint8 → [B,3,size,size] uint8, randomly cropped, mirrored, turned, recoloured, sharpened and erased.

    Args:
        size: width and height of the result, pixels.
        crop_scale: smallest share of the picture's area that a crop keeps, above 0.  (A stretched crop that would be
            longer than the largest is narrowed, and so keeps a little less.)
        crop_largest: largest share, 1…4; above 1 a picture may be shrunk, and its mirror image fills what lies around
            it.  Both at 1 turn cropping off.
        crop_ratio: a crop's aspect ratio lies between 1/crop_ratio and crop_ratio.
        flip: probability of mirroring left and right.
        rotate: largest turn, degrees; what comes in at the edges is the picture mirrored.
        colour: strength of random brightness, contrast, saturation and white balance, 0…1; hue turns by up to a
            quarter of a circle times it.
        grey: probability of losing all colour but the tint of the white balance.
        sharpness: strength of random blur and sharpening, 0…1.
        erasing: probability that a random rectangle becomes grey.

    Raises:
        FashionError: for a value outside its range.
    """

    @checked("data.augment")
    def __init__(
        self,
        size: int,
        *,
        crop_scale: float = 0.4,
        crop_largest: float = 1.3,
        crop_ratio: float = 1.25,
        flip: float = 0.5,
        rotate: float = 15.0,
        colour: float = 0.4,
        grey: float = 0.1,
        sharpness: float = 0.5,
        erasing: float = 0.25,
    ):
        shares = {"crop_scale": crop_scale, "flip": flip, "colour": colour, "grey": grey, "sharpness": sharpness,
                  "erasing": erasing}  # fmt: skip
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise FashionError(f"data.augment.{name} is {value}; it should lie between 0 and 1.")
        if crop_scale == 0:
            raise FashionError("data.augment.crop_scale is 0; it should be above 0, and 1 to crop nothing off.")
        if crop_ratio < 1 or not 0 <= rotate <= 180 or not 1 <= crop_largest <= 4:
            raise FashionError(
                f"data.augment: crop_ratio {crop_ratio} should be at least 1, rotate {rotate} between 0 and 180, and "
                f"crop_largest {crop_largest} between 1 and 4."
            )
        self.size, self.crop_scale, self.crop_largest, self.crop_ratio = size, crop_scale, crop_largest, crop_ratio
        self.flip, self.rotate, self.erasing = flip, rotate, erasing
        self.colour, self.grey, self.sharpness = colour, grey, sharpness

    def __call__(self, pictures: Tensor) -> Tensor:
        # Random numbers are drawn on the pictures' device; on a CPU that mode would cost a seventh of the time.
        with nullcontext() if pictures.is_cpu else pictures.device:
            return self._augmented(pictures)

    def _augmented(self, pictures: Tensor) -> Tensor:
        maps = affine_maps(len(pictures), self.crop_scale, self.crop_largest, self.crop_ratio, self.flip, self.rotate)
        grid = F.affine_grid(maps, [len(pictures), 3, self.size, self.size], align_corners=False)
        x = F.grid_sample(pictures.float(), grid, padding_mode="reflection", align_corners=False)
        if self.colour or self.grey:
            x = recoloured(x, self.colour, self.grey)
        if self.sharpness:
            x = x + self.sharpness * _between(-1, 1, len(x))[:, None, None, None] * (x - blurred(x))
        if self.erasing:
            x = erased(x, self.erasing)
        return x.round_().clamp_(0, 255).to(torch.uint8)


def _between(low: float, high: float, count: int) -> Tensor:
    return low + (high - low) * torch.rand(count)


def affine_maps(
    count: int, crop_scale: float, crop_largest: float, crop_ratio: float, flip: float, rotate: float
) -> Tensor:
    """[count,2,3]: where each pixel of the result comes from, in coordinates from -1 to 1 across the picture.

    `rotate` is in degrees; the rest as in `Augmentation`.
    """
    area = _between(crop_scale, crop_largest, count)
    stretch = math.log(crop_ratio) if crop_scale < crop_largest else 0.0
    longest = math.sqrt(crop_largest)
    ratio = _between(-stretch, stretch, count).exp().sqrt()
    width, height = (area.sqrt() * ratio).clamp(max=longest), (area.sqrt() / ratio).clamp(max=longest)
    mirror = 1 - 2 * (torch.rand(count) < flip).float()
    angle = _between(-1, 1, count) * math.radians(rotate)
    cos, sin = angle.cos(), angle.sin()
    left, top = _between(-1, 1, count) * (1 - width), _between(-1, 1, count) * (1 - height)
    rows = [width * cos * mirror, -height * sin, left, width * sin * mirror, height * cos, top]
    return torch.stack(rows, dim=1).view(count, 2, 3)


def recoloured(pictures: Tensor, colour: float, grey: float) -> Tensor:
    """[B,3,H,W] of values 0…255 → the same, each picture by one matrix: colours turned, stretched, and shifted."""
    count = len(pictures)
    hue = _between(-1, 1, count) * colour * math.pi / 2
    saturation = _between(1 - colour, 1 + colour, count).masked_fill(torch.rand(count) < grey, 0.0)
    balance = 1 + _between(-1, 1, 3 * count).view(count, 3) * colour / 4
    gain = _between(1 - colour, 1 + colour, count)  # contrast, about the picture's own mean
    light = _between(1 - colour, 1 + colour, count)  # brightness
    # A turn about the grey axis (Rodrigues' formula), then towards or away from grey, then each channel's gain.
    cross, greying = _about_grey(pictures.device)
    cos, sin = hue.cos()[:, None, None], hue.sin()[:, None, None]
    turn = cos * torch.eye(3) + sin * cross + (1 - cos) / 3
    s = saturation[:, None, None]
    matrix = (s * torch.eye(3) + (1 - s) * greying) @ turn
    matrix = matrix * (balance * light[:, None])[:, :, None]
    flat = torch.bmm(matrix, pictures.flatten(2))
    mean = flat.mean(dim=(1, 2), keepdim=True)
    return ((flat - mean) * gain[:, None, None] + mean).view_as(pictures)


@cache
def _about_grey(device: torch.device) -> tuple[Tensor, Tensor]:
    """The cross product with the grey axis, and what makes a colour grey, [3,3]; made once, as a GPU waits for it."""
    axis = 1 / math.sqrt(3)
    cross = torch.tensor([[0.0, -axis, axis], [axis, 0.0, -axis], [-axis, axis, 0.0]], device=device)
    return cross, torch.tensor(LUMA, device=device).expand(3, 3)


def blurred(pictures: Tensor) -> Tensor:
    """[B,3,H,W] → the mean of each pixel's 3×3 neighbours; sums of slices, seven times as fast as pooling here."""
    x = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    x = x[..., :-2] + x[..., 1:-1] + x[..., 2:]
    return (x[..., :-2, :] + x[..., 1:-1, :] + x[..., 2:, :]) / 9


def erased(pictures: Tensor, share: float) -> Tensor:
    """[B,3,H,W] → the same, where in a share of pictures a rectangle of 2 to 33% of the area is mid-grey."""
    count, _, height, width = pictures.shape
    area = _between(0.02, 0.33, count)
    ratio = _between(-math.log(3.3), math.log(3.3), count).exp().sqrt()
    tall, wide = (height * area.sqrt() * ratio).clamp(max=height), (width * area.sqrt() / ratio).clamp(max=width)
    top, left = torch.rand(count) * (height - tall), torch.rand(count) * (width - wide)
    y, x = torch.arange(height), torch.arange(width)
    rows = (y >= top[:, None]) & (y < (top + tall)[:, None])
    columns = (x >= left[:, None]) & (x < (left + wide)[:, None])
    hole = rows[:, :, None] & columns[:, None, :] & (torch.rand(count) < share)[:, None, None]
    return pictures.masked_fill(hole[:, None], 127.0)


def shrunk(pictures: Tensor, size: int) -> Tensor:
    """[B,3,S,S] → [B,3,size,size] of the same type, smoothed as it is shrunk; S = size: unchanged."""
    if pictures.shape[-1] == size:
        return pictures
    return resize(pictures, [size, size], antialias=True)
