"""An ONNX graph as a module: a plain loop over its nodes."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from saddlepoint.errors import InputError

_CHANNELS = (1, 3, 4)
"""Of images, which a network with channels last tells from other shapes."""


@dataclass(frozen=True, slots=True)
class Step:
    """One node: `outputs = layer(*inputs)`; the inputs and outputs are names of values in the graph."""

    name: str
    layer: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class _Move(NamedTuple):
    """A step as the network keeps it: the layer by its name, and the values that are let go after it."""

    layer: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    done: tuple[str, ...]


class Network(nn.Module):
    """Maps pixels (B, C, H, W) to (B, K), row by row: a row's result does not depend on its neighbours.

    Args:
        entry: name of the value that the images become.
        input_shape: of one example in the graph. Images (C, H, W) become (H, W, C) where it says so; where it is a
            vector, or differs by axes of size 1 only, they are reshaped in row-major order.
        steps: in an order in which every input is known.
        constants: the values that depend on no image; they become buffers.
        result: name of the value to return.
        batched: whether the graph has an axis of the batch; without it, it maps one example (see `EachRow`).
    """

    def __init__(
        self,
        entry: str,
        input_shape: tuple[int, ...],
        steps: Sequence[Step],
        constants: Mapping[str, Tensor],
        result: str,
        *,
        batched: bool = True,
    ) -> None:
        super().__init__()
        self.input_shape, self._batched = input_shape, batched
        self._entry, self._result = entry, result
        self._buffers_of: dict[str, str] = {}
        for value, tensor in constants.items():
            self._buffers_of[value] = self._free(value)
            # Indices are part of the graph, not of what was learnt.
            self.register_buffer(self._buffers_of[value], tensor.clone(), persistent=tensor.is_floating_point())
        self._moves: list[_Move] = []
        for step, done in zip(steps, _last_uses(steps, {*constants, result}), strict=True):
            name = self._free(step.name)
            self.add_module(name, step.layer)
            self._moves.append(_Move(name, step.inputs, step.outputs, done))

    def forward(self, x: Tensor) -> Tensor:
        """Return the graph's output for images; values are let go after their last use."""
        values: dict[str, Tensor] = {value: getattr(self, buffer) for value, buffer in self._buffers_of.items()}
        values[self._entry] = self._shaped(x) if self._batched else x
        for move in self._moves:
            made = getattr(self, move.layer)(*[values[name] for name in move.inputs])
            # Outputs that a layer does not make, such as the mask of a Dropout, are asked for by nobody.
            values.update(zip(move.outputs, made if isinstance(made, tuple) else (made,), strict=False))
            for name in move.done:
                values.pop(name, None)
        result = values[self._result]
        return result.flatten(1) if result.ndim > 1 else result.unsqueeze(-1)

    def extra_repr(self) -> str:
        """Return the shape of one example, and which values each layer reads and makes: it is part of what this is."""
        wiring = "; ".join(f"{', '.join(m.outputs)} = {m.layer}({', '.join(m.inputs)})" for m in self._moves)
        constants = ", ".join(f"{value} = {name}" for value, name in self._buffers_of.items())
        return f"input_shape={self.input_shape}, {self._entry} → {self._result}: {wiring}; {constants}"

    def _shaped(self, x: Tensor) -> Tensor:
        shape, wanted = tuple(x.shape[1:]), self.input_shape
        if shape == wanted:
            return x
        if math.prod(shape) != math.prod(wanted):
            raise InputError(
                f"images of shape {shape} do not fit the network's input, {wanted} per example; expected "
                f"{math.prod(wanted)} numbers: resize or convert the images"
            )
        if len(shape) == 3 and shape[0] in _CHANNELS and wanted == (*shape[1:], shape[0]):
            return x.permute(0, 2, 3, 1)
        if len(_long(wanted)) > 1 and _long(wanted) != _long(shape):
            raise InputError(
                f"images of shape {shape} do not fit the network's input, {wanted} per example, though both have "
                f"{math.prod(wanted)} numbers; expected {wanted}: bring the images into that shape"
            )
        return x.reshape(-1, *wanted)

    def _free(self, wanted: str) -> str:
        """Return a name for a part of this module that is valid and not taken."""
        name = re.sub(r"\W+", "_", wanted).strip("_")[:80] or "value"
        name = f"_{name}" if name[0].isdigit() else name
        tries = (f"{name}_{count}" if count else name for count in range(2**31))
        return next(name for name in tries if not hasattr(self, name))


def _long(shape: tuple[int, ...]) -> list[int]:
    """Return the axes along which there is more than one number."""
    return [size for size in shape if size != 1]


def _last_uses(steps: Sequence[Step], kept: set[str]) -> list[tuple[str, ...]]:
    """Return, for each step, the values that no later step needs."""
    needed, done = set(kept), []
    for step in reversed(steps):
        here = dict.fromkeys((*step.inputs, *step.outputs))
        done.append(tuple(name for name in here if name not in needed))
        needed.update(here)
    return done[::-1]
