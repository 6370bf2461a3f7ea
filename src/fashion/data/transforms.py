"""Augmentation of training pictures with torchvision's v2 transforms.

A v2 transform draws once a call, so a whole batch would share one crop; one call a picture costs four times as much
as calls on eight pictures.  `Augmentation` therefore cuts a batch into small chunks, each with draws of its own; as
batches are shuffled, other pictures share a draw every time.
"""

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from fashion.errors import FashionError


class Augmentation:
    """[B,3,S,S] uint8 → [B,3,size,size] uint8, randomly cropped, mirrored, recoloured and erased.

    Args:
        size: width and height of the result, pixels.
        crop_scale: smallest share of the picture's area that a crop keeps, 0…1; 1 turns cropping off.
        crop_ratio: a crop's aspect ratio lies between 1/crop_ratio and crop_ratio.
        flip: probability of mirroring left and right.
        trivial_augment: one random operation of TrivialAugment a chunk (https://arxiv.org/abs/2103.10158).
        colour: strength of random brightness, contrast and saturation (and a fifth of it of hue), 0…1.
        erasing: probability of greying out a random rectangle.
        chunk: how many pictures share one draw.
    """

    def __init__(
        self,
        size: int,
        *,
        crop_scale: float = 0.4,
        crop_ratio: float = 1.25,
        flip: float = 0.5,
        trivial_augment: bool = True,
        colour: float = 0.0,
        erasing: float = 0.25,
        chunk: int = 8,
    ):
        for name, value in {"crop_scale": crop_scale, "flip": flip, "colour": colour, "erasing": erasing}.items():
            if not 0 <= value <= 1:
                raise FashionError(f"data.augment.{name} is {value}; it should lie between 0 and 1.")
        if crop_ratio < 1 or chunk < 1:
            raise FashionError(f"data.augment: crop_ratio {crop_ratio} and chunk {chunk} should both be at least 1.")
        steps: list[nn.Module] = [v2.Resize((size, size))]
        if crop_scale < 1:
            steps = [v2.RandomResizedCrop(size, scale=(max(crop_scale, 0.01), 1.0), ratio=(1 / crop_ratio, crop_ratio))]
        if flip:
            steps.append(v2.RandomHorizontalFlip(flip))
        if trivial_augment:
            steps.append(v2.TrivialAugmentWide())
        if colour:
            steps.append(v2.ColorJitter(colour, colour, colour, colour / 5))
        if erasing:
            steps.append(v2.RandomErasing(erasing, value=127))
        self.chunk = chunk
        self.transform = v2.Compose(steps)

    def __call__(self, pictures: Tensor) -> Tensor:
        return torch.cat([self.transform(part) for part in torch.split(pictures, self.chunk)])
