"""Lᵀ of a convolution of stride s as a plain convolution with s² as many channels, laid out side by side.

    L      y_i = Σ_k w_k x_{si − p + k}
    Lᵀ     x_{sm + r} = Σ_t w_{st + r + p} y_{m − t}            0 ≤ r < s

The usual loops over a transposed convolution take twice the time for it on a CPU (Shi et al. 2016 have the layout).
"""

import torch
from torch import Tensor
from torch.nn import functional


def transposed(y: Tensor, w: Tensor, stride: int, padding: int, size: tuple[int, ...]) -> Tensor:
    """Return Lᵀ y, (N, C, *size), for y of (N, C', h, w) and kernels w of (C', C, k, l); no groups, no dilation.

    Args:
        y: the values to pull back, (N, C', h, w).
        w: the kernels of the convolution, (C', C, k, l).
        stride: s, along both axes.
        padding: p, along both axes.
        size: height and width of the convolution's input.
    """
    kernel, taps, pads = w, list[int](), list[int]()
    for axis in (3, 2):  # as `pad` counts, from the last
        length, places = w.shape[axis], y.shape[axis]
        first, last = -((stride - 1 + padding) // stride), (length - 1 - padding) // stride
        count = last - first + 1
        begin = -(stride * first + padding)
        ends = [begin, count * stride - begin - length]
        kernel = functional.pad(kernel, ends if axis == 3 else [0, 0, *ends])
        blocks = -(-size[axis - 2] // stride)
        taps.append(count)
        pads += [last, blocks - first - places]
    wide, high = taps
    channels = (w.shape[1], w.shape[0])
    cut = kernel.reshape(channels[1], channels[0], high, stride, wide, stride).flip(2, 4)
    dense = cut.permute(1, 3, 5, 0, 2, 4).reshape(channels[0] * stride**2, channels[1], high, wide)
    image = functional.pixel_shuffle(torch.conv2d(functional.pad(y, pads), dense), stride)
    return image[:, :, : size[0], : size[1]]
