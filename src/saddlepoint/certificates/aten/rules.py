"""What each core ATen operation is: affine in its varying arguments, or made of affine operations and ReLUs.

A rule gets the lowering, the program's node and the operation's arguments by the names of its schema ("self" and
"input" are `x`), and returns the value of the node's result. Arguments that vary with the input are `Value`s; all
others are constants, tensors of real numbers in float64. An argument that a rule does not name must have its default.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, final, runtime_checkable

import torch
from torch import Tensor

from saddlepoint.certificates.affine import Affine, unrepeated
from saddlepoint.certificates.graph import Operation
from saddlepoint.errors import ModelError


@final
@dataclass(frozen=True)
class Value:
    """The result of a node of the graph: its position, and its shape without the examples' axis."""

    position: int
    shape: tuple[int, ...]


@final
@dataclass(frozen=True)
class Examples:
    """The number of examples, where a program asks for it."""


@runtime_checkable
class Lowering(Protocol):
    """What a rule may do: append a node."""

    def add(self, operation: Operation, parents: tuple[Value, ...], shape: tuple[int, ...], name: str) -> Value:
        """Append a node and return its value.

        Args:
            operation: what the node computes.
            parents: the values that it takes.
            shape: the shape of its result for one example.
            name: what errors and findings call it.
        """


Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}
"""By the name of the ATen operation, without its overload."""

_KEPT = (
    *("silu", "gelu", "softplus", "elu", "hardtanh", "leaky_relu", "_adaptive_avg_pool2d", "reflection_pad1d"),
    *("reflection_pad2d", "replication_pad1d", "replication_pad2d", "upsample_bilinear2d", "matmul"),
)


def decompositions() -> Any:
    """Return torch's table of decompositions, without those of operations that have a rule of their own."""
    table = torch.export.default_decompositions()
    for name in _KEPT:
        packet = getattr(torch.ops.aten, name)
        for overload in packet.overloads():
            table.pop(getattr(packet, overload), None)  # type: ignore[no-untyped-call]
    return table


def typed(operation: Operation, dtype: torch.dtype) -> Operation:
    """Return an operation with its constants in another type."""
    if not isinstance(operation, Affine):
        return operation
    weights = tuple(w.to(dtype) if w.is_floating_point() else w for w in operation.weights)
    offset, parts = (
        None if part is None else unrepeated(part).to(dtype).expand(part.shape)
        for part in (operation.offset, operation.parts)
    )
    return replace(operation, weights=weights, offset=offset, parts=parts)


NEUTRAL = frozenset({"dtype", "device", "layout", "pin_memory", "memory_format", "non_blocking", "copy", "implicit"})
"""Arguments that change no number: what a result's type is, is read from the program's metadata."""


def arguments_of(node: torch.fx.Node, args: Sequence[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an ATen operation by their names, defaults filled in."""
    named: dict[str, Any] = {}
    for place, argument in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        name = "x" if argument.name in ("self", "input") else argument.name
        if place < len(args):
            named[name] = args[place]
        elif argument.name in options:
            named[name] = options[argument.name]
        else:
            named[name] = argument.default_value
    return named


def call(node: torch.fx.Node, named: Mapping[str, Any]) -> Any:
    """Call a node's operation with arguments by their names."""
    arguments = {("x" if a.name in ("self", "input") else a.name): a for a in node.target._schema.arguments}  # type: ignore[union-attr]
    placed = [value for name, value in named.items() if not arguments[name].kwarg_only]
    options = {name: value for name, value in named.items() if arguments[name].kwarg_only}
    return node.target(*placed, **options)  # type: ignore[operator]


def name_of(target: Any) -> str:
    """Return the name of an ATen operation without its overload."""
    return str(getattr(target, "overloadpacket", getattr(target, "__name__", target))).removeprefix("aten.")


def apply(rule: "Rule", low: "Lowering", node: torch.fx.Node, named: Mapping[str, Any]) -> Any:
    """Call a rule with the arguments that it names; refuse others than their defaults among those that it does not.

    Args:
        rule: the function that appends nodes for one ATen operation.
        low: the network under construction.
        node: the call in the exported graph.
        named: its arguments by the names of the operation's schema.

    Raises:
        ModelError: the operation has a setting that its rule does not know.
    """
    parameters = inspect.signature(rule).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return rule(low, node, **named)
    known = {parameter.name for parameter in parameters}
    defaults = {a.name: a.default_value for a in node.target._schema.arguments}  # type: ignore[union-attr]
    for name, value in named.items():
        if name not in known | NEUTRAL and not _alike(value, defaults.get(name)):
            raise ModelError(
                f"the operation {node.target} ({node.name}) has the setting {name} = {value!r}; expected its default, "
                f"{defaults.get(name)!r}"
            )
    return rule(low, node, **{name: value for name, value in named.items() if name in known})


def _alike(value: Any, default: Any) -> bool:
    plain = (bool, int, float, str, list, tuple, type(None))
    if not (isinstance(value, plain) and isinstance(default, plain)):
        return value is default
    return value == default and isinstance(value, bool) == isinstance(default, bool)


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Enter a rule into the table."""

    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return enter


def shape_of(node: torch.fx.Node, part: int | None = None) -> tuple[int, ...]:
    """Return the shape of a node's result without the examples' axis; raise ModelError if that is not the first one."""
    value = node.meta["val"] if part is None else node.meta["val"][part]
    first, rest = value.shape[0] if value.ndim else 1, value.shape[1:]
    if isinstance(first, int) or not all(isinstance(n, int) for n in rest) or not str(first).isidentifier():
        raise ModelError(
            f"the operation {node.target} ({node.name}) gives a result of shape {tuple(value.shape)}; expected the "
            "examples along the first axis, and no other axis that depends on how many there are"
        )
    return tuple(int(n) for n in rest)


def affine(low: Lowering, node: torch.fx.Node, parents: Sequence[Value], operation: Affine) -> Value:
    """Append an affine node.

    Args:
        low: the network under construction.
        node: the call in the exported graph, which gives shape and name.
        parents: the values that the operation takes.
        operation: the affine map.
    """
    return low.add(operation, tuple(parents), shape_of(node), node.name)


def refuse(node: torch.fx.Node, why: str) -> ModelError:
    """Return what is wrong with an operation."""
    return ModelError(f"the operation {node.target} ({node.name}) {why}; expected it to be affine in the input")


def constant(value: Any, x: Value, node: torch.fx.Node) -> Tensor:
    """Return a constant that broadcasts to one result, without the examples' axis."""
    if not isinstance(value, Tensor | int | float):
        raise refuse(node, "computes with the number of examples")
    tensor = torch.as_tensor(value, dtype=torch.float64)
    if tensor.ndim == len(x.shape) + 1 and tensor.shape[0] == 1:
        return tensor[0]
    if tensor.ndim > len(shape_of(node)):
        raise refuse(node, f"has a constant of shape {tuple(tensor.shape)}, which differs between examples")
    return tensor
