"""One node of a graph, as the functions that translate it see it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from saddlepoint.errors import InputError
from saddlepoint.models.onnx.free_batch import batch_axis, depends, show

LIMIT = 2**28
"""The most numbers that a value may have at the batch size of the file: 1 GiB in float32."""

_INERT = frozenset({"consumed_inputs", "is_test", "saturate", "seed", "stash_type", "storage_order"})
"""Attributes that say nothing about what a node computes from an image in inference."""


class Operand(NamedTuple):
    """An input of a node: its name in the graph, and what is known of it.

    `value` is a tensor without storage if it depends on the image, the value itself if it does not.
    """

    name: str
    value: Tensor


class Node:
    """What a translator may ask: attributes, inputs and sizes. It notes what was asked, so that nothing is overlooked.

    An input that is taken as a constant becomes part of the layer; `operands`, all others, are handed to it at run
    time. Attributes that nobody asked for are refused.

    Args:
        op: the operator.
        title: how to call the node in an error.
        opset: version of the operator set.
        attributes: as Python values; tensors as tensors.
        inputs: None for an optional one that is left out.
        outputs: how many it has.
        entry: the input of the graph.
        fixed: the batch size of the file, None if it is free.
    """

    def __init__(
        self,
        op: str,
        title: str,
        opset: int,
        attributes: Mapping[str, Any],
        inputs: Sequence[Operand | None],
        outputs: int,
        entry: Operand,
        fixed: int | None,
    ) -> None:
        self.op, self.title, self.opset, self.outputs = op, title, opset, outputs
        self.entry, self.fixed = entry, fixed
        self._attributes = dict(attributes)
        self._inputs = list(inputs)
        self._taken: set[int] = set()
        self._asked = set(_INERT)
        self._extra: list[Operand] = []

    @property
    def operands(self) -> list[Operand]:
        """What the layer is called with, in this order."""
        rest = [
            operand for place, operand in enumerate(self._inputs) if operand is not None and place not in self._taken
        ]
        return rest + self._extra

    @property
    def unread(self) -> set[str]:
        """The attributes that nobody asked for."""
        return set(self._attributes) - self._asked

    @property
    def x(self) -> Tensor:
        """The first input."""
        return self.value(0)

    @property
    def batched(self) -> bool:
        """Whether the graph has an axis of the batch."""
        return batch_axis(self.entry.value.shape) is not None

    @property
    def rows_first(self) -> bool:
        """Whether the first axis of the first input is that of the batch, where the graph has one."""
        return not self.batched or batch_axis(self.x.shape) == 0

    def has(self, place: int) -> bool:
        """Whether an input is given."""
        return place < len(self._inputs) and self._inputs[place] is not None

    def value(self, place: int) -> Tensor:
        """Return what is known of an input that remains an operand."""
        operand = self._inputs[place] if place < len(self._inputs) else None
        if operand is None:
            raise self.refused(f"its input {place} is missing")
        return operand.value

    def constant(self, place: int) -> Tensor:
        """Take an input as part of the layer; refuse one that depends on the image."""
        value = self.value(place)
        if depends(value):
            raise self.refused(f"its input {place} depends on the image; expected a constant")
        self._taken.add(place)
        return value

    def optional(self, place: int) -> Tensor | None:
        """Take an input as `constant` does, if it is given."""
        return self.constant(place) if self.has(place) else None

    def integers(self, place: int) -> list[int]:
        """Take an input as a list of integers."""
        value = self.constant(place)
        if value.is_floating_point() or value.ndim > 1:
            raise self.refused(f"its input {place} is no list of integers")
        return [int(number) for number in value.reshape(-1).tolist()]

    def number(self, place: int, attribute: str, since: int, default: float) -> float:
        """Return a number that is an attribute before opset `since`, and an input from there on.

        Args:
            place: the number of the input, from `since` on.
            attribute: the name of the attribute, before.
            since: the opset that made it an input.
            default: the value where neither is there.
        """
        if self.opset < since:
            number: float = self.attribute(attribute, default)
            return number
        value = self.optional(place)
        return default if value is None else value.reshape(()).item()

    def numbers(self, place: int, attribute: str, since: int) -> list[int] | None:
        """Return integers that are an attribute before opset `since`, and an input from there on."""
        if self.opset < since:
            values: list[int] | None = self.attribute(attribute, None)
            return values
        return self.integers(place) if self.has(place) else None

    def attribute(self, name: str, default: Any) -> Any:  # noqa: ANN401 - attributes are of any type
        """Return an attribute."""
        self._asked.add(name)
        return self._attributes.get(name, default)

    def axis(self, axis: int, x: Tensor | None = None, *, rank: int | None = None) -> int:
        """Return an axis counted from the front; refuse that of the batch, along which rows would mix."""
        x = self.x if x is None else x
        rank = x.ndim if rank is None else rank
        if not -rank <= axis < max(rank, 1):
            raise self.refused(f"it works along axis {axis} of a tensor with {rank}")
        axis %= max(rank, 1)
        if depends(x) and rank == x.ndim and axis == batch_axis(x.shape):
            raise self.refused("it works along the batch; expected a network that maps each row by itself")
        return axis

    def axes(self, axes: Iterable[int], x: Tensor | None = None) -> tuple[int, ...]:
        """Return axes counted from the front, sorted; each as `axis` does."""
        return tuple(sorted({self.axis(axis, x) for axis in axes}))

    def spatial(self) -> tuple[int, ...]:
        """Return the spatial sizes of the first input, (B, C, *sizes); refuse an input of another form."""
        if self.x.ndim not in (3, 4, 5) or (depends(self.x) and not self.rows_first):
            raise self.refused("it needs an input (B, C, …) with one to three spatial dimensions")
        return tuple(self.x.shape[2:])

    def with_rows(self) -> None:
        """Hand the graph's input to the layer, too, which tells it the batch size."""
        self._extra.append(self.entry)

    def refused(self, reason: str) -> InputError:
        """Return the error that names this node, its inputs and the reason."""
        shown = [operand and f"{operand.name[:60]!r} {show(operand.value.shape)}" for operand in self._inputs[:8]]
        return InputError(
            f"{self.title} (inputs: {', '.join(operand or 'none' for operand in shown) or 'none'}): {reason}"
        )


class Call(nn.Module):
    """A function of tensors as a layer: function(*tensors, *arguments, **options)."""

    def __init__(self, function: Callable[..., Any], *arguments: object, **options: object) -> None:
        super().__init__()
        self.function, self.arguments, self.options = function, arguments, options

    def forward(self, *tensors: Tensor) -> Any:  # noqa: ANN401 - one tensor, or as many as the node has outputs
        """Return the function's value."""
        return self.function(*tensors, *self.arguments, **self.options)

    def extra_repr(self) -> str:
        """Return the function and what it is called with."""
        name = getattr(self.function, "__name__", repr(self.function)).strip("_")
        rest = [*map(repr, self.arguments), *(f"{key}={value!r}" for key, value in self.options.items())]
        return ", ".join([name, *rest])


def filled(layer: nn.Module, **tensors: Tensor | None) -> nn.Module:
    """Return a layer that was made on the device "meta" with these parameters and buffers.

    So no random numbers are drawn for weights that are given. Each layer has memory of its own.
    """
    layer.load_state_dict({name: tensor.clone() for name, tensor in tensors.items() if tensor is not None}, assign=True)
    return layer


Build = Callable[[Node], nn.Module | Tensor]
"""Translates a node into a layer, called with the node's operands; or into its value, where that is known."""

META = torch.device("meta")
