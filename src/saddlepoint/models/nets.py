"""Architectures of the field by name, `net:NAME[-WIDTH]:CxHxW:K`: what `train` makes, and a model folder can rebuild.

linear              x ↦ Wx + b
small               two 4×4 convolutions of stride 2 and a hidden layer of 100: 166k parameters on MNIST
(Wong, Rice & Kolter 2020)
cnn7-WIDTH          five 3×3 convolutions and two linear layers, batch norm (Shi et al. 2021); width 64 unless given
preact-resnet-18    He et al. 2016b, for images of about 32 pixels
wrn-28-10           Zagoruyko & Komodakis 2016; wrn-DEPTH-WIDTH
"""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from saddlepoint.classifier import Classifier
from saddlepoint.errors import InputError
from saddlepoint.models.weights import fit, read_weights

FORM = "net:NAME:CxHxW:CLASSES"
NAMES = ("linear", "small", "cnn7", "preact-resnet-18", "wrn-28-10")
_PLACE = re.compile(r"([a-z0-9-]+):(\d+)x(\d+)x(\d+):(\d+)")

Shape = tuple[int, int, int]


def reference(name: str, shape: Shape, classes: int) -> str:
    """Return the reference to an architecture for images (C, H, W) and so many classes."""
    return f"net:{name}:{'x'.join(map(str, shape))}:{classes}"


def load(place: str | None, weights: Path | None) -> Classifier:
    """Return an architecture, untrained unless weights are given."""
    match = _PLACE.fullmatch(place or "")
    if match is None:
        raise InputError(f"unknown architecture 'net:{place or ''}'; expected {FORM}, such as net:small:1x28x28:10")
    channels, height, width, classes = map(int, match.groups()[1:])
    module = make(match.group(1), (channels, height, width), classes)
    if weights is not None:
        fit(module, read_weights(weights), str(weights))
    return Classifier(module)


def make(name: str, shape: Shape, classes: int) -> nn.Module:
    """Return an architecture with fresh weights from torch's global generator.

    Raises:
        InputError: there is none of this name, or it does not fit images of this shape.
    """
    kind, numbers = re.sub(r"(-\d+)+$", "", name), [int(n) for n in re.findall(r"-(\d+)", name)]
    try:
        if kind == "linear" and not numbers:
            return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))
        if kind == "small" and not numbers:
            return _small(shape, classes)
        if kind == "cnn7" and len(numbers) < 2:
            return _cnn7(shape, classes, *(numbers or [64]))
        if kind == "preact-resnet" and numbers == [18]:
            return PreActResNet(shape[0], classes, (2, 2, 2, 2), (64, 128, 256, 512), stem=64)
        if kind == "wrn" and len(numbers) == 2 and (numbers[0] - 4) % 6 == 0:
            blocks, wide = (numbers[0] - 4) // 6, numbers[1]
            return PreActResNet(shape[0], classes, (blocks,) * 3, (16 * wide, 32 * wide, 64 * wide), stem=16)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"the architecture {name!r} does not fit images of shape {shape}: {error}") from None
    raise InputError(f"unknown architecture {name!r}; expected one of {', '.join(NAMES)}, timm:NAME or FILE.py:FACTORY")


def _small(shape: Shape, classes: int) -> nn.Module:
    features = nn.Sequential(
        nn.Conv2d(shape[0], 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
    )
    return nn.Sequential(*features, nn.Linear(_size(features, shape), 100), nn.ReLU(), nn.Linear(100, classes))


def _cnn7(shape: Shape, classes: int, width: int) -> nn.Module:
    layers: list[nn.Module] = []
    channels = shape[0]
    for wider, stride in ((1, 1), (1, 1), (2, 2), (2, 1), (2, 1)):
        out = width * wider
        layers += [nn.Conv2d(channels, out, 3, stride=stride, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
        channels = out
    features = nn.Sequential(*layers, nn.Flatten())
    head = (nn.Linear(_size(features, shape), 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, classes))
    return nn.Sequential(*features, *head)


def _size(features: nn.Module, shape: Shape) -> int:
    """Return how many numbers the features of one image are; no random number is drawn, no statistic is moved."""
    was = features.training
    with torch.no_grad():
        size = features.eval()(torch.zeros(1, *shape)).shape[1]
    features.train(was)
    return int(size)


class _Block(nn.Module):
    """x + conv(relu(bn(conv(relu(bn(x)))))), with a 1×1 convolution beside where the shape changes."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(out), nn.Conv2d(out, out, 3, 1, 1, bias=False)
        same = stride == 1 and channels == out
        self.shortcut = None if same else nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's result."""
        ready = torch.relu(self.bn1(x))
        beside = x if self.shortcut is None else self.shortcut(ready)
        inner: Tensor = self.conv2(torch.relu(self.bn2(self.conv1(ready))))
        return inner + beside


class PreActResNet(nn.Module):
    """A pre-activation ResNet: a stem, stages of blocks that halve the image but for the first, mean, linear."""

    def __init__(
        self, channels: int, classes: int, blocks: tuple[int, ...], widths: tuple[int, ...], stem: int
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, stem, 3, 1, 1, bias=False)
        layers, before = list[nn.Module](), stem
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            for number in range(count):
                layers.append(_Block(before, width, 2 if stage and number == 0 else 1))
                before = width
        self.blocks, self.bn, self.linear = nn.Sequential(*layers), nn.BatchNorm2d(before), nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        features = torch.relu(self.bn(self.blocks(self.stem(x))))
        logits: Tensor = self.linear(features.mean((2, 3)))
        return logits
