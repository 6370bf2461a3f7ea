"""The shared backbone: a table of inverted residual blocks and one loop over it.

A picture becomes a map of features, [N,3,64,64] → [N,64,4,4].  The idea is MobileNetV2's ("MobileNetV2:
Inverted Residuals and Linear Bottlenecks", https://arxiv.org/abs/1801.04381), laid out for small pictures:
depthwise convolutions at 32×32 are what costs on a CPU, so the first block already halves the map.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fashion.activation import ReLU6
from fashion.arguments import checked
from fashion.errors import FashionError

FEATURES = 64
"""Channels of every `Backbone`'s last feature map."""

PEERS = ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5")
"""torchvision's networks that can stand in the backbone's place, for comparison."""


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm, ReLU6 (or no activation); keeps the map's size at stride 1."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: bool = True):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            ReLU6() if act else nn.Identity(),
        )


class InvertedResidualBlock(nn.Module):
    """Expand 1×1 → depthwise 3×3 → project 1×1 (linear), with a residual where shapes allow it.

    [N, inputs, H, W] → [N, outputs, ⌈H/stride⌉, ⌈W/stride⌉].
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, expand: int = 6):
        super().__init__()
        hidden = inputs * expand
        self.residual = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            ConvNormAct(inputs, hidden, kernel=1) if expand != 1 else nn.Identity(),
            ConvNormAct(hidden, hidden, stride=stride, groups=hidden),
            ConvNormAct(hidden, outputs, kernel=1, act=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


class Trunk(nn.Module):
    """A sequence of layers that gives two maps: a middle one, and the last.

    The middle one is the last that still has an eighth of the picture's height: 8×8 of 64×64.
    """

    layers: nn.Sequential

    def maps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N,3,H,W] → the middle map and the last one, [N,channels,h,w] each."""
        height = x.shape[2]
        middle = x
        for layer in self.layers:
            x = layer(x)
            middle = x if 8 * x.shape[2] >= height else middle
        return middle, x

    def forward(self, x: Tensor) -> Tensor:
        """The last map."""
        return self.maps(x)[1]

    def channels(self) -> tuple[int, int]:
        """How many channels the middle map and the last one have."""
        with torch.no_grad():
            middle, last = self.eval().maps(torch.zeros(1, 3, 64, 64))
        self.train()
        return middle.shape[1], last.shape[1]


class Backbone(Trunk):
    """[N,3,H,W] → [N,64,H/16,W/16]: a stem of stride 2, the table's blocks, a 1×1 convolution to 64 channels.

    Args:
        stem: channels after the first convolution.
        blocks: rows of (expand, channels, repeats, stride), as in table 2 of the MobileNetV2 paper; the stride is
            the first repeat's.  Strides must multiply to 8, so that 64×64 pictures end as 4×4.

    Raises:
        FashionError: if a row is malformed or the strides do not multiply to 8.
    """

    @checked("model")
    def __init__(self, stem: int, blocks: Sequence[Sequence[int]]):
        super().__init__()
        if stem < 1:
            raise FashionError(f"model.stem is {stem}; it should be 1 at least.")
        check_table(blocks)
        channels = stem
        layers: list[nn.Module] = [ConvNormAct(3, stem, stride=2)]
        for expand, outputs, repeats, stride in blocks:
            for repeat in range(repeats):
                layers.append(InvertedResidualBlock(channels, outputs, stride if repeat == 0 else 1, expand))
                channels = outputs
        layers.append(ConvNormAct(channels, FEATURES, kernel=1))
        self.layers = nn.Sequential(*layers)


def check_table(blocks: Sequence[Sequence[int]]) -> None:
    """Raise FashionError unless `blocks` is a table that `Backbone` can build."""
    stride = 1
    for row in blocks:
        if len(row) != 4 or min(row) < 1:
            raise FashionError(
                f"model.blocks: the row {list(row)} should be four whole numbers above 0: "
                "expand, channels, repeats, stride."
            )
        stride *= row[3]
    if stride != 8:
        raise FashionError(
            f"model.blocks: the strides multiply to {stride}, and should to 8 (with the stem: 64×64 → 4×4)."
        )


class TorchvisionBackbone(Trunk):
    """A torchvision network without its classifier, [N,3,H,W] → [N,channels,h,w], for comparison.

    Args:
        name: one of `PEERS`.
        weights: None (from scratch) or "imagenet", which downloads torchvision's default weights.
    """

    def __init__(self, name: str, weights: str | None = None):
        super().__init__()
        from torchvision.models import get_model

        if weights not in (None, "imagenet"):
            raise FashionError(f"model.weights is {weights!r}; it should be null or imagenet.")
        try:
            net = get_model(name, weights="DEFAULT" if weights else None)
        except OSError as error:  # no network, or the download broke off
            raise FashionError(
                f"The ImageNet weights of {name} could not be downloaded ({error}); "
                "without them: model.weights=null, or baselines that leave imagenet out."
            ) from error
        children = dict(net.named_children())
        outside = ("avgpool", "classifier", "fc")
        kept = children.get("features") or [layer for key, layer in children.items() if key not in outside]
        self.layers = nn.Sequential(*kept)


BACKBONES: dict[str, Callable[..., Trunk]] = {name: partial(TorchvisionBackbone, name) for name in PEERS}
"""`name` → what makes such a backbone from its other settings; any other name stands for a `Backbone`."""


def build_backbone(settings: Mapping[str, Any]) -> Trunk:
    """The backbone that the `model` group describes.

    Settings are data, never a class path: they are read from checkpoints too, and nothing that a checkpoint
    names may be executed.

    Args:
        settings: `name` of one of `BACKBONES` and what that takes, or `name`, `stem` and `blocks` of a `Backbone`.

    Raises:
        FashionError: for a name that is not known, and settings that the backbone does not take.
    """
    options = dict(settings)
    name = options.pop("name", "")
    if name not in BACKBONES and not {"stem", "blocks"} & options.keys():
        raise FashionError(
            f"model.name is {name!r}; choose from {', '.join(BACKBONES)} or give stem and blocks as "
            "conf/model/base.yaml does (a backbone of your own must be in fashion.backbone.BACKBONES)."
        )
    try:
        return BACKBONES.get(name, Backbone)(**options)
    except TypeError as error:
        raise FashionError(f"model={name}: {error}; see the files in conf/model for the settings it takes.") from error
