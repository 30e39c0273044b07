"""A module as a graph: `torch.export`, decomposed to core ATen operations, each brought to affine ones and ReLUs."""

import builtins
import logging
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind
from torch.utils._sympy.numbers import int_oo

from saddlepoint.certificates import aten
from saddlepoint.certificates.aten import RULES, Value
from saddlepoint.certificates.aten.moves import repeated
from saddlepoint.certificates.aten.rules import apply, arguments_of, name_of
from saddlepoint.certificates.folding import folded
from saddlepoint.certificates.graph import Graph, Input, Node, Operation, pruned
from saddlepoint.classifier.validation import evaluating
from saddlepoint.errors import ModelError

_REFUSED = (nn.LayerNorm, nn.MultiheadAttention)
"""Layers that divide or multiply by what depends on the input; they are named before an export is tried."""
_LOW = (torch.bfloat16, torch.float16)
_ASSERTIONS = ("_assert_tensor_metadata",)
"""Operations that compute nothing."""


@final
@dataclass(frozen=True, eq=False)
class Program:
    """A module as torch.export sees it: the structure, into which weights are filled when a graph is made.

    Attributes:
        exported: the program, in core ATen operations.
        tensors: its parameters, buffers and constants, by the names of the program's inputs.
        x: the name of the input.
    """

    exported: ExportedProgram
    tensors: Mapping[str, Tensor]
    x: str

    def graph(
        self,
        dtype: torch.dtype = torch.float32,
        *,
        live: bool = False,
        instead: Mapping[Tensor, Tensor] | None = None,
        fold: bool = True,
    ) -> Graph:
        """Return the graph with the module's weights, of real arithmetic: constants are folded in float64.

        Args:
            dtype: of the graph's weights.
            live: whether gradients shall flow to the module's parameters, as training needs it.
            instead: what stands for some of the module's tensors, as a batch's statistics for a batch norm's.
            fold: whether factors of channels are taken into the operations beside them.
        """
        with torch.set_grad_enabled(live):
            return _Lowering(self, dtype, instead or {}, fold).run()


def export(module: nn.Module, shape: tuple[int, ...], device: torch.device | None = None) -> Program:
    """Return the program of a module in eval mode whose inputs have this shape, without the examples' axis.

    Raises:
        ModelError: torch.export cannot follow the module, or it has an operation that no rule covers, named with the
            list of those that are.
    """
    check_layers(module)
    training = {child: child.training for child in module.modules()}
    dtypes = {parameter.dtype for parameter in module.parameters() if parameter.is_floating_point()}
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))  # torch prints the program that it could not export
    try:
        exported = _exported(evaluating(module), torch.zeros(1, *shape, device=device, dtype=dtype))
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:160]
        raise ModelError(
            f"torch.export cannot follow {type(module).__name__}: {reason}; expected a module whose computation does "
            "not depend on the values of its input, for any number of examples"
        ) from error
    finally:
        logging.disable(before)
        for child, mode in training.items():
            child.training = mode
    tensors, x = _inputs(exported, module)
    _check(exported, x)
    return Program(exported, tensors, x)


def _exported(module: nn.Module, one: Tensor) -> ExportedProgram:
    """Return the program for any number of rows, also where Python asks for that number by len(x)."""
    example = (one.new_zeros(2, *one.shape[1:]),)
    dynamic = partial(torch.export.export, module, example, dynamic_shapes=({0: Dim.DYNAMIC},), strict=False)
    try:
        exported = dynamic()
    except Exception as error:
        if "Constraints violated" not in str(error):
            raise
        with _symbolic_len():
            exported = dynamic()
    for symbol, limits in exported.range_constraints.items():
        if not (limits.lower <= len(example[0]) and limits.upper == int_oo):
            raise ValueError(f"it computes otherwise for other numbers of images: {symbol} is {limits}")
    program: ExportedProgram = exported.run_decompositions(aten.decompositions())
    return program


@contextmanager
def _symbolic_len() -> Iterator[None]:
    """Let len of a tensor be its number of rows as torch.export has it, a symbol; Python's own makes it a constant."""
    plain = builtins.len

    def length(value: Any) -> Any:  # noqa: ANN401 - of anything
        return value.shape[0] if isinstance(value, Tensor) and value.ndim else plain(value)

    builtins.len = length
    try:
        yield
    finally:
        builtins.len = plain


def check_layers(module: nn.Module) -> None:
    """Raise ModelError if the module has a layer that cannot be certified, whatever its settings."""
    for name, child in module.named_modules():
        if isinstance(child, torch.jit.ScriptModule):
            raise ModelError("a TorchScript module cannot be certified; expected the module that it was made from")
        dtype = next(
            (parameter.dtype for parameter in child.parameters(recurse=False) if parameter.dtype in _LOW), None
        )
        if dtype is not None:
            raise ModelError(
                f"the module computes in {dtype}, which rounds far more than a certificate allows for; expected "
                "module.float()"
            )
        kind = next((kind for kind in _REFUSED if isinstance(child, kind)), None)
        if kind is not None:
            raise ModelError(f"it uses {kind.__name__} (at {name or type(module).__name__}), which cannot be certified")


def _inputs(exported: ExportedProgram, module: nn.Module) -> tuple[dict[str, Tensor], str]:
    """Return the program's constants by their names, those of the module itself where they are its, and the input's."""
    own = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    held = {**exported.state_dict, **exported.constants}
    tensors, x = {}, ""
    for spec in exported.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            x = spec.arg.name
        else:
            target = str(spec.target)
            tensors[spec.arg.name] = own[target] if target in own else held[target]
    return tensors, x


def _check(exported: ExportedProgram, x: str) -> None:
    """Refuse operations without a rule, results of another type than the input's, and forwards that write buffers."""
    changed = exported.graph_signature.buffers_to_mutate
    if changed:
        raise ModelError(
            f"a forward writes to the buffer {next(iter(changed.values()))!r}; expected the same function twice"
        )
    varying = set[torch.fx.Node]()
    for node in exported.graph.nodes:
        if node.name == x:
            varying.add(node)
            dtype = node.meta["val"].dtype
        if node.op != "call_function" or varying.isdisjoint(node.all_input_nodes) or not _holds_numbers(node):
            continue
        varying.add(node)
        if name_of(node.target) not in {*RULES, "getitem"} and not _is_logarithm(node):
            raise ModelError(f"{_told(node)} has no certificate; docs/certificates.md lists the operations that have")
        value = node.meta["val"]
        if isinstance(value, Tensor) and value.dtype != dtype:
            raise ModelError(
                f"the operation {node.target} ({node.name}) gives {value.dtype}; expected {dtype}, the input's type, "
                "throughout: a certificate knows of no other rounding"
            )


def _told(node: torch.fx.Node) -> str:
    """Return what a node computes, and in which layer."""
    layers = list((node.meta.get("nn_module_stack") or {}).values())
    path, kind = layers[-1] if layers else ("", "")
    name = kind if isinstance(kind, str) else kind.__name__
    place = f"{path or 'the module'}, {name.rpartition('.')[2]}" if layers else node.name
    return f"the operation {name_of(node.target)} ({place})"


def _holds_numbers(node: torch.fx.Node) -> bool:
    """Tell whether a node's result holds tensors: the number of examples is none."""
    value = node.meta.get("val")
    return any(isinstance(item, Tensor) for item in (value if isinstance(value, tuple | list) else [value]))


@dataclass
class _Lowering:
    """The nodes so far, and what each node of the program has become."""

    program: Program
    dtype: torch.dtype
    instead: Mapping[Tensor, Tensor]
    fold: bool
    nodes: list[Node] = field(default_factory=list)
    values: dict[torch.fx.Node, Any] = field(default_factory=dict)

    def run(self) -> Graph:
        for node in self.program.exported.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self._placeholder(node)
            elif node.op == "call_function":
                if name_of(node.target) not in _ASSERTIONS and not _is_logarithm(node):
                    self.values[node] = self._call(node)
            else:
                nodes = folded(self.nodes) if self.fold else self.nodes
                kept = pruned(nodes, self._output(node), self.dtype)
                typed = (replace(node, operation=aten.typed(node.operation, self.dtype)) for node in kept.nodes)
                return Graph(tuple(typed), self.dtype, normalised=_logarithms(node) is not None)
        raise ModelError("the exported program returns nothing; expected logits")

    def add(self, operation: Operation, parents: tuple[Value, ...], shape: tuple[int, ...], name: str) -> Value:
        """Append a node."""
        if not shape:
            raise ModelError(
                f"{name} is one number of each image without an axis of its own; expected results of shape (B, …): "
                "keep the axis, as in x.sum(1, keepdim=True)"
            )
        self.nodes.append(Node(name, operation, tuple(p.position for p in parents), shape))
        return Value(len(self.nodes) - 1, shape)

    def _placeholder(self, node: torch.fx.Node) -> object:
        if node.name == self.program.x:
            return self.add(Input(), (), tuple(node.meta["val"].shape[1:]), node.name)
        tensor = self.program.tensors[node.name]
        tensor = self.instead.get(tensor, tensor)
        return tensor.double() if tensor.is_floating_point() else tensor

    def _call(self, node: torch.fx.Node) -> object:
        arguments: tuple[Any, ...] = torch.fx.map_arg(node.args, lambda n: self.values[n])
        options: dict[str, Any] = torch.fx.map_arg(node.kwargs, lambda n: self.values[n])
        target: Callable[..., object] = node.target  # type: ignore[assignment]
        if target is operator.getitem:
            return _item(node, *arguments)
        everything = [*arguments, *options.values()]
        if not _holds(everything, Value | aten.Examples):
            return _constant(node, arguments, options)
        rule = RULES.get(name_of(target))
        if not isinstance(target, torch._ops.OpOverload):
            raise ModelError(
                f"{name_of(target)} ({node.name}) computes with the number of examples; expected one function of each"
            )
        named = arguments_of(node, arguments, options)
        if not _holds(everything, Value):
            return repeated(node, named)
        if rule is None:
            raise ModelError(f"the operation {name_of(target)} ({node.name}) has no certificate")
        try:
            return apply(rule, self, node, named)
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}".partition("\n")[0][:160]
            raise ModelError(
                f"the operation {target} ({node.name}) is given what its rule cannot read ({reason}); expected "
                "constants and values of each example"
            ) from error

    def _output(self, node: torch.fx.Node) -> int:
        last = _logarithms(node)
        output = self.values[node.args[0][0] if last is None else last.args[0]]  # type: ignore[index]
        if not isinstance(output, Value):
            raise ModelError("the module's output does not depend on its input; expected logits")
        return output.position


def _logarithms(output: torch.fx.Node) -> torch.fx.Node | None:
    """Return the log-softmax over classes that an output is, if it is one: its margins are those of what it is of."""
    node = output.args[0][0]  # type: ignore[index]
    if not isinstance(node, torch.fx.Node) or name_of(node.target) != "_log_softmax" or len(node.users) > 1:
        return None
    dim, half, rank = node.args[1], node.args[2], node.meta["val"].dim()
    return node if rank == 2 and dim in (1, -1) and not half else None


def _is_logarithm(node: torch.fx.Node) -> bool:
    """Tell whether a node is the log-softmax that is the output."""
    return any(user.op == "output" and _logarithms(user) is node for user in node.users)


def _item(node: torch.fx.Node, values: Any, place: Any) -> Any:  # noqa: ANN401 - what a program holds
    """Return one of several results."""
    try:
        return values[place]
    except (IndexError, TypeError):
        raise ModelError(f"result {place} of {node.args[0]} has no certificate; expected its first") from None


def _constant(node: torch.fx.Node, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Compute what does not depend on the input."""
    target: Any = node.target
    if torch.Tag.nondeterministic_seeded in getattr(target, "tags", ()):
        raise ModelError(f"the operation {target} ({node.name}) draws random numbers; expected the same function twice")
    return target(*arguments, **options)


def _holds(arguments: Any, kind: Any) -> bool:  # noqa: ANN401 - what a call is given
    if isinstance(arguments, tuple | list):
        return any(_holds(argument, kind) for argument in arguments)
    return isinstance(arguments, kind)
