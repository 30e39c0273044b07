"""Windows that slide over an image: the arithmetic of padding, shared by convolutions and pools."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from saddlepoint.models.onnx.node import LIMIT, Node


@dataclass(frozen=True, slots=True)
class Window:
    """A window, per spatial dimension: its size, steps, and the padding before and after the image."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def extent(self) -> tuple[int, ...]:
        """How far a window reaches: dilation · (size − 1) + 1."""
        return tuple(d * (k - 1) + 1 for d, k in zip(self.dilation, self.size, strict=True))

    @property
    def symmetric(self) -> bool:
        """Whether the padding is the same on both sides."""
        return self.begin == self.end

    @property
    def pads(self) -> tuple[int, ...]:
        """The padding as `functional.pad` wants it: the last dimension first, before and after."""
        return torch_pads(self.begin, self.end)

    def without_padding(self) -> "Window":
        """Return the same window over the bare image."""
        return replace(self, begin=(0,) * len(self.size), end=(0,) * len(self.size))


def torch_pads(begin: Sequence[int], end: Sequence[int]) -> tuple[int, ...]:
    """Return pads (b₁, …, bₙ), (e₁, …, eₙ) as (bₙ, eₙ, …, b₁, e₁)."""
    return tuple(pad for pair in reversed(list(zip(begin, end, strict=True))) for pad in pair)


def window(node: Node, size: Sequence[int]) -> Window:
    """Return the window of a convolution or pool over the node's first input (B, C, *sizes)."""
    sizes = node.spatial()
    if len(size) != len(sizes) or min(size) < 1:
        raise node.refused(f"its window {tuple(size)} does not fit {len(sizes)} spatial dimensions")
    ones = (1,) * len(size)
    stride, dilation = (tuple(node.attribute(name, ones)) for name in ("strides", "dilations"))
    pads = list(node.attribute("pads", (0,) * (2 * len(size))))
    if {len(stride), len(dilation), len(pads) / 2} != {len(size)} or min((*stride, *dilation)) < 1 or min(pads) < 0:
        raise node.refused(f"strides {stride}, dilations {dilation} or pads {pads} do not fit its window {tuple(size)}")
    bare = Window(tuple(size), stride, dilation, tuple(pads[: len(size)]), tuple(pads[len(size) :]))
    if node.x.shape[1] * math.prod(n + b + e for n, b, e in zip(sizes, bare.begin, bare.end, strict=True)) > LIMIT:
        raise node.refused(f"its pads {pads} make more than {LIMIT} numbers per row")
    auto = auto_pad(node)
    if auto == "NOTSET":
        return bare
    if auto == "VALID":
        return bare.without_padding()
    wanted = [-(-n // s) for n, s in zip(sizes, stride, strict=True)]
    total = [max((out - 1) * s + e - n, 0) for out, s, e, n in zip(wanted, stride, bare.extent, sizes, strict=True)]
    return replace(bare, **dict(zip(("begin", "end"), halves(total, upper=auto == "SAME_UPPER"), strict=True)))


def auto_pad(node: Node) -> str:
    """Return the attribute auto_pad; refuse what is none."""
    auto = node.attribute("auto_pad", "NOTSET") or "NOTSET"
    if auto not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise node.refused(f"auto_pad is {auto!r}; expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    return str(auto)


def halves(total: Sequence[int], *, upper: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Split the padding; the odd one comes after the image if `upper`, before it otherwise."""
    less, more = tuple(pad // 2 for pad in total), tuple(pad - pad // 2 for pad in total)
    return (less, more) if upper else (more, less)


def rounded_up(node: Node, bare: Window) -> Window:
    """Return the window with as much padding after the image as ceil_mode needs.

    A last window that would begin after the image and its padding before it is dropped.
    """
    if not node.attribute("ceil_mode", 0):
        return bare
    end = []
    for n, s, e, before, after in zip(node.spatial(), bare.stride, bare.extent, bare.begin, bare.end, strict=True):
        last = -(-(n + before + after - e) // s)
        last -= last * s >= n + before
        end.append(max(after, last * s + e - n - before))
    return replace(bare, end=tuple(end))
