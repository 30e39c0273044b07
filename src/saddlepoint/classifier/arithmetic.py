"""How products are rounded: the precisions of a search, and the switches of torch that they need."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal, get_args

import torch

Precision = Literal["fp32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Let a CUDA device round float32 products to TF32's 10 bits, or not, forward and backward; and repeat itself.

    On every device a caller's autocast is switched off, for it would reach the products of the backward, too.
    """
    with torch.autocast(device.type, enabled=False), ExitStack() as stack:
        if device.type == "cuda":
            for owner, name, value in _switches(tensor_cores=precision != "fp32"):
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, value)
        yield


def _switches(*, tensor_cores: bool) -> list[tuple[object, str, object]]:
    """Return what to set where; torch 2.9 renamed the switches of TF32, and refuses to mix old names with new."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    switches: list[tuple[object, str, object]] = [(cudnn, "deterministic", True)]
    if hasattr(cudnn, "conv"):
        mode = "tf32" if tensor_cores else "ieee"
        return [*switches, (matmul, "fp32_precision", mode), (cudnn.conv, "fp32_precision", mode)]
    return [*switches, (matmul, "allow_tf32", tensor_cores), (cudnn, "allow_tf32", tensor_cores)]
