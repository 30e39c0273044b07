"""How a search computes logits, how the decision does, and which claims of the first the second must confirm."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from saddlepoint.typing import Logits, Mask, PerExample

Precision = Literal["fp32", "tf32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


ROUNDING, CAUTION = 1e-4, 32
"""A margin needs no confirmation if it exceeds both shares of the largest logit: `ROUNDING`, and `CAUTION` times the
deviation between the fast and the unmodified form that was measured for this module."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """How logits are computed from pixels.

    Attributes:
        precision: of the products; "tf32" differs from "fp32" on CUDA devices only.
        as_given: by the module as it is. If not, by its fastest form; in bf16 always.
    """

    precision: Precision = "fp32"
    as_given: bool = False

    @property
    def low(self) -> bool:
        """Whether products are rounded to bf16."""
        return self.precision == "bf16"

    @property
    def decides(self) -> bool:
        """Whether it is the arithmetic of the decision, so that a claim needs no confirmation."""
        return self == DECISION

    def certain(self, margin: PerExample, logits: Logits, deviation: float) -> Mask:
        """Return which claims the decision is known to share.

        Args:
            margin: of the claims, (B,).
            logits: that they were made from, (B, K).
            deviation: how far logits of the fastest form lie from the module's, as a share of the largest.
        """
        if self.decides or self.precision != "fp32":
            return torch.full_like(margin, self.decides, dtype=torch.bool)
        return margin.abs() > max(ROUNDING, CAUTION * deviation) * logits.abs().amax(1)

    @contextmanager
    def switched(self, device: torch.device) -> Iterator[None]:
        """Let a CUDA device round float32 products to TF32's 10 bits, or not, forward and backward; and repeat itself.

        On every device a caller's autocast is switched off, for it would reach the products of the backward, too.
        """
        with torch.autocast(device.type, enabled=False), ExitStack() as stack:
            if device.type == "cuda":
                for owner, name, value in _switches(tensor_cores=self.precision != "fp32"):
                    stack.callback(setattr, owner, name, getattr(owner, name))
                    setattr(owner, name, value)
            yield


DECISION = Arithmetic(as_given=True)
"""The unmodified module in float32."""


def _switches(*, tensor_cores: bool) -> list[tuple[object, str, object]]:
    """Return what to set where; torch 2.9 renamed the switches of TF32, and refuses to mix old names with new."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    switches: list[tuple[object, str, object]] = [(cudnn, "deterministic", True)]
    if hasattr(cudnn, "conv"):
        mode = "tf32" if tensor_cores else "ieee"
        return [*switches, (matmul, "fp32_precision", mode), (cudnn.conv, "fp32_precision", mode)]
    return [*switches, (matmul, "allow_tf32", tensor_cores), (cudnn, "allow_tf32", tensor_cores)]
