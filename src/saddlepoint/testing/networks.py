"""Networks with unusual settings of every layer: what a certifier must bound rightly, or refuse.

Weights between 10⁻¹² and 10¹², masked classes, shared layers, repeated inputs, other types on the way, operations that
look at the size of the batch. Every network is a function of its seed.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional

Draw = random.Random
Layer = Callable[[Tensor], Tensor]


@final
@dataclass(frozen=True, eq=False)
class Drawn:
    """A network, and one of its inputs.

    Attributes:
        module: in eval mode.
        x: (1, C, H, W), in [0, 1].
        kinds: what it is made of, for a message.
    """

    module: nn.Module
    x: Tensor
    kinds: tuple[str, ...]


class _Part(nn.Module):
    """A function of values as a layer."""

    def __init__(self, function: Layer) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class _Branches(nn.Module):
    """Layers beside each other, joined by a function of their results."""

    def __init__(self, join: Callable[..., Tensor], *branches: nn.Module) -> None:
        super().__init__()
        self.join, self.branches = join, nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(*(branch(x) for branch in self.branches))


def network(seed: int) -> Drawn:
    """Draw a network and an input."""
    draw = Draw(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = (draw.choice([1, 2, 4]), draw.randint(2, 6), draw.randint(2, 6))
        x = torch.rand(1, *shape) if draw.random() < 0.7 else torch.full((1, *shape), draw.random())
        while True:
            layers, kinds, value = list[nn.Module](), list[str](), x.expand(3, -1, -1, -1)
            for _ in range(draw.randint(1, 5)):
                kind, layer = _layer(draw, tuple(value.shape[1:]))
                after = _tried(layer, value)
                if after is not None:
                    layers, kinds, value = [*layers, layer], [*kinds, kind], after
            head = _head(draw, value.flatten(1).shape[1])
            module = nn.Sequential(*layers, nn.Flatten(), *head).eval()
            after = _tried(module, x.expand(3, -1, -1, -1))
            if after is not None and after.shape[1] >= 2 and bool(after.isfinite().all()):
                return Drawn(module, x, (*kinds, *map(str, head)))


def _tried(layer: nn.Module, value: Tensor) -> Tensor | None:
    """Return what a layer makes of a batch; None if it cannot bear it."""
    try:
        with torch.no_grad():
            after: Tensor = layer.eval()(value)
    except Exception:  # sizes that do not fit: another layer is drawn
        return None
    return after if after.ndim >= 2 and len(after) == len(value) and 0 < after.numel() < 50_000 else None


def _scaled(draw: Draw, layer: nn.Module) -> nn.Module:
    """Scale a layer's weights, once in a while beyond reason, and zero or mask some."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(10 ** draw.choice([0, 0, 0, 0, 1, -1, 6, -6, draw.uniform(-12, 12)]))
            if draw.random() < 0.2:
                parameter.mul_((torch.rand_like(parameter) < 0.5).to(parameter))
    return layer


def _layer(draw: Draw, shape: tuple[int, ...]) -> tuple[str, nn.Module]:
    makers: Sequence[Callable[[Draw, tuple[int, ...]], nn.Module]] = (
        (_affine, _activation, _pool, _moved, _joined, _arithmetic, _typed) if len(shape) == 3 else (_flat, _activation)
    )
    weights = (12, 12, 4, 4, 4, 4, 1)[: len(makers)]
    maker = draw.choices(makers, weights)[0]
    made = maker(draw, shape)
    return f"{maker.__name__[1:]}: {made}".replace("\n", " "), made


def _affine(draw: Draw, shape: tuple[int, ...]) -> nn.Module:
    channels, out = shape[0], draw.choice([1, 2, 4])
    if draw.random() < 0.25:
        norm = nn.BatchNorm2d(channels, eps=draw.choice([1e-5, 1e-12, 0.5]), affine=draw.random() < 0.8)
        assert norm.running_mean is not None  # noqa: S101
        assert norm.running_var is not None  # noqa: S101
        norm.running_mean.normal_().mul_(10 ** draw.choice([0, 0, 3]))
        norm.running_var.uniform_(0.1, 2).mul_(10 ** draw.choice([0, 0, -6, 6]))
        return _scaled(draw, norm) if draw.random() < 0.3 else norm
    groups = draw.choice([1, 1, 1, 2])
    sizes: dict[str, Any] = {
        "kernel_size": (draw.randint(1, 3), draw.randint(1, 3)),
        "stride": draw.choice([1, 1, 2, (2, 1), 3]),
        "dilation": draw.choice([1, 1, 2]),
        "groups": groups if channels % groups == 0 == out % groups else 1,
        "bias": draw.random() < 0.7,
    }
    if draw.random() < 0.2:
        return _scaled(draw, nn.ConvTranspose2d(channels, out, output_padding=draw.choice([0, 0, 1]), **sizes))
    sizes["padding_mode"] = draw.choice(["zeros", "zeros", "reflect", "replicate", "circular"])
    sizes["padding"] = draw.choice([0, 1, (1, 0), 2])
    return _scaled(draw, nn.Conv2d(channels, out, **sizes))


def _flat(draw: Draw, shape: tuple[int, ...]) -> nn.Module:
    return _scaled(draw, nn.Linear(shape[-1], draw.randint(2, 8), bias=draw.random() < 0.8))


def _activation(draw: Draw, shape: tuple[int, ...]) -> nn.Module:
    unusual = draw.choice([-3.0, -0.5, 0.0, 0.1, 1.0, 1.5, 20.0])
    known = [
        *(nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.ReLU6(), nn.Sigmoid(), nn.Tanh(), nn.GELU(), nn.SiLU(), nn.ELU()),
        *(nn.LeakyReLU(unusual), nn.LeakyReLU(), nn.Softplus(), nn.Hardtanh(-0.3, 0.2 + abs(unusual)), nn.Dropout()),
        _Part(lambda x: x.clamp(min=unusual)),
        _Part(lambda x: torch.clamp(x, max=torch.tensor(unusual))),
        _Part(torch.abs),
    ]
    others = [
        *(nn.ELU(unusual), nn.GELU("tanh"), nn.Softplus(abs(unusual) + 0.1), nn.Softplus(1, unusual), nn.SELU()),
        *(nn.CELU(unusual or 1.0), nn.Threshold(0.1, unusual), nn.PReLU(1, unusual), nn.Hardsigmoid(), nn.Hardswish()),
        *(nn.LogSigmoid(), nn.Mish(), nn.Softshrink(), nn.Hardshrink(), nn.Tanhshrink(), nn.RReLU(), nn.Softsign()),
    ]
    return draw.choice(known if draw.random() < 0.92 else others)


def _pool(draw: Draw, shape: tuple[int, ...]) -> nn.Module:
    kernel: Any = None
    kernel, stride, padding = draw.choice([1, 2, 3, (1, 2)]), draw.choice([None, 1, 2]), draw.choice([0, 0, 1])
    divisor = draw.choice([None, None, None, None, 1, 7, 7, -2])
    known = [
        nn.MaxPool2d(kernel, stride, padding, draw.choice([1, 1, 2]), ceil_mode=draw.random() < 0.4),
        nn.AvgPool2d(kernel, stride, padding, draw.random() < 0.4, draw.random() < 0.5, divisor),
        nn.AdaptiveAvgPool2d(draw.choice([(1, 1), (2, 2), (1, 3), (5, 5)])),
    ]
    return draw.choice(
        known if draw.random() < 0.95 else [nn.AdaptiveMaxPool2d(draw.choice([1, 2])), nn.LPPool2d(2, 2)]
    )


def _moved(draw: Draw, shape: tuple[int, ...]) -> nn.Module:
    ends = [draw.randint(0, 2) for _ in range(4)]
    pads = (ends[0], ends[1], ends[2], ends[3])
    places = torch.tensor([draw.randrange(shape[2]) for _ in range(draw.randint(1, 40))])
    known = [
        *(nn.ZeroPad2d(pads), nn.ReflectionPad2d(pads), nn.ReplicationPad2d(pads), nn.ConstantPad2d(-1, 0.5)),
        *(nn.ConstantPad2d(pads, draw.uniform(-9, 9)), nn.PixelShuffle(2), nn.PixelUnshuffle(2)),
        *(nn.ChannelShuffle(2), nn.Upsample(scale_factor=draw.choice([1.5, 2, 3]))),
        nn.Upsample(size=(5, 4), mode="bilinear", align_corners=draw.random() < 0.5),
        _Part(lambda x: x.index_select(3, places)),
        _Part(lambda x: x.flip(2)),
        _Part(lambda x: x.transpose(1, 3)),
        _Part(lambda x: x[:, :, ::2]),
        _Part(lambda x: x.repeat(1, 3, 1, 2)),
        _Part(lambda x: x.mean(1, keepdim=True)),
        _Part(lambda x: x.sum((2, 3), keepdim=True)),
    ]
    others = [_Part(lambda x: x.flip(0)), _Part(lambda x: x.roll(1, 0)), _Part(lambda x: x.roll(1, 2))]
    return draw.choice(known if draw.random() < 0.95 else others)


def _joined(draw: Draw, shape: tuple[int, ...]) -> nn.Module:
    shared = _scaled(draw, nn.Conv2d(shape[0], shape[0], 3, padding=1))
    other = _activation(draw, shape)
    constant = torch.randn(1, shape[0], 1, shape[2])
    times = draw.choice([2, 9, 64])
    known = [
        _Branches(lambda a, b: a + b, nn.Identity(), nn.Sequential(shared, other, shared)),
        _Branches(lambda a, b: torch.sub(a, b, alpha=3), shared, other),
        _Branches(torch.maximum, shared, other),
        _Branches(torch.minimum, shared, nn.Identity()),
        _Branches(lambda a, b: torch.cat([a, b, a], 1), shared, nn.Identity()),
        _Part(lambda x: torch.cat([x] * times, 1)),
        _Part(lambda x: torch.cat([x, constant.expand(x.shape[0], -1, 1, -1)], 2)),
        _Part(lambda x: torch.maximum(x, constant)),
        _Part(lambda x: x - x.mean(1, keepdim=True)),
    ]
    return draw.choice(known if draw.random() < 0.97 else [_Part(lambda x: x * x.sigmoid())])


def _arithmetic(draw: Draw, shape: tuple[int, ...]) -> nn.Module:
    number, constant = 10 ** draw.uniform(-12, 12), torch.randn(shape[0], 1, shape[2])
    mode = draw.choice(["floor", "trunc"])
    known = [
        _Part(lambda x: x * number),
        _Part(lambda x: (x * number) / number),
        _Part(lambda x: (x + number) - number),
        _Part(lambda x: number - x),
        _Part(lambda x: x / constant),
        _Part(lambda x: torch.add(constant, x, alpha=-2)),
        _Part(lambda x: x - x.detach()),
    ]
    others = [
        _Part(lambda x: torch.div(x, 0.1, rounding_mode=mode)),
        _Part(lambda x: x * x.shape[0]),
        _Part(lambda x: -x if x.shape[0] == 1 else x),
        _Part(lambda x: x + 1e-4 * torch.rand(1)),
        _Part(lambda x: x.round()),
    ]
    return draw.choice(known if draw.random() < 0.85 else others)


def _typed(draw: Draw, shape: tuple[int, ...]) -> nn.Module:
    other = draw.choice([torch.float16, torch.bfloat16, torch.float64, torch.float32, torch.int64])
    return draw.choice(
        [
            _Part(lambda x: x.to(other).float()),
            _Part(lambda x: x.sum(1, keepdim=True, dtype=other) + torch.zeros(1)),
            _Part(lambda x: x + torch.ones(1, dtype=other)),
            _Part(lambda x: (x * torch.full((1,), 0.3, dtype=torch.float32).to(other)).float()),
        ]
    )


def _head(draw: Draw, size: int) -> list[nn.Module]:
    classes = draw.randint(2, 4)
    mask = torch.zeros(classes)
    mask[-1] = draw.choice([0.0, 0.0, 0.0, -1e3, -1e9])
    hidden = [_scaled(draw, nn.Linear(size, 6)), _activation(draw, (6,))] if draw.random() < 0.5 else []
    last = _scaled(draw, nn.Linear(6 if hidden else size, classes))
    ends = (lambda z: z + mask, lambda z: functional.log_softmax(z, 1), lambda z: z / z.norm())
    return [*hidden, last, _Part(ends[0] if draw.random() < 0.97 else draw.choice(ends))]
