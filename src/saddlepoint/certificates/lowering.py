"""A module as a graph: `torch.export`, decomposed to core ATen operations, each brought to affine ones and ReLUs."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind

from saddlepoint.certificates import aten
from saddlepoint.certificates.aten import RULES, Value
from saddlepoint.certificates.folding import folded
from saddlepoint.certificates.graph import Graph, Input, Node, Operation, pruned
from saddlepoint.errors import ModelError


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
        self, dtype: torch.dtype = torch.float32, *, live: bool = False, instead: Mapping[Tensor, Tensor] | None = None
    ) -> Graph:
        """Return the graph with the module's weights, of real arithmetic: constants are folded in float64.

        Args:
            dtype: of the graph's weights.
            live: whether gradients shall flow to the module's parameters, as training needs it.
            instead: what stands for some of the module's tensors, as a batch's statistics for a batch norm's.
        """
        with torch.set_grad_enabled(live):
            return _Lowering(self, dtype, instead or {}).run()


def export(module: nn.Module, shape: tuple[int, ...], device: torch.device | None = None) -> Program:
    """Return the program of a module in eval mode whose inputs have this shape, without the examples' axis.

    Raises:
        ModelError: torch.export cannot follow the module, or it has an operation that no rule covers, named with the
            list of those that are.
    """
    training = {child: child.training for child in module.modules()}
    try:
        exported = torch.export.export(
            module.eval(),
            (torch.zeros(2, *shape, device=device),),
            dynamic_shapes=({0: Dim.DYNAMIC},),
            strict=False,
        ).run_decompositions(aten.decompositions())
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:160]
        raise ModelError(
            f"torch.export cannot follow {type(module).__name__}: {reason}; expected a module whose computation does "
            "not depend on the values of its input, for any number of examples"
        ) from error
    finally:
        for child, mode in training.items():
            child.training = mode
    tensors, x = _inputs(exported, module)
    _check(exported)
    return Program(exported, tensors, x)


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


def _check(exported: ExportedProgram) -> None:
    for node in exported.graph.nodes:
        if node.op == "call_function" and _name(node.target) not in {*RULES, "getitem"} and _varies(node):
            raise ModelError(
                f"the operation {_name(node.target)} ({node.name}) has no certificate; expected some of: "
                f"{', '.join(sorted(RULES))}"
            )


def _varies(node: torch.fx.Node) -> bool:
    """Tell whether a node may depend on the input: it has a symbolic number of examples."""
    value = node.meta.get("val")
    values = value if isinstance(value, tuple | list) else [value]
    return any(isinstance(v, Tensor) and any(not isinstance(s, int) for s in v.shape) for v in values)


def _name(target: Any) -> str:  # noqa: ANN401 - what fx calls
    """Return the name of an ATen operation without its overload."""
    return str(getattr(target, "overloadpacket", getattr(target, "__name__", target))).removeprefix("aten.")


@dataclass
class _Lowering:
    """The nodes so far, and what each node of the program has become."""

    program: Program
    dtype: torch.dtype
    instead: Mapping[Tensor, Tensor]
    nodes: list[Node] = field(default_factory=list)
    values: dict[torch.fx.Node, Any] = field(default_factory=dict)

    def run(self) -> Graph:
        for node in self.program.exported.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = self._placeholder(node)
            elif node.op == "call_function":
                self.values[node] = self._call(node)
            else:
                kept = pruned(folded(self.nodes), self._output(node), self.dtype)
                nodes = (replace(each, operation=aten.typed(each.operation, self.dtype)) for each in kept.nodes)
                return Graph(tuple(nodes), self.dtype)
        raise ModelError("the exported program returns nothing; expected logits")

    def add(self, operation: Operation, parents: tuple[Value, ...], shape: tuple[int, ...], name: str) -> Value:
        """Append a node."""
        self.nodes.append(Node(name, operation, tuple(p.position for p in parents), shape))
        return Value(len(self.nodes) - 1, shape)

    def _placeholder(self, node: torch.fx.Node) -> object:
        if node.name == self.program.x:
            return self.add(Input(), (), tuple(node.meta["val"].shape[1:]), node.name)
        tensor = self.program.tensors[node.name]
        tensor = self.instead.get(tensor, tensor)
        return tensor.double() if tensor.is_floating_point() else tensor

    def _call(self, node: torch.fx.Node) -> object:
        arguments = torch.fx.map_arg(node.args, lambda n: self.values[n])
        options = torch.fx.map_arg(node.kwargs, lambda n: self.values[n])
        target: Callable[..., object] = node.target  # type: ignore[assignment]
        if target is operator.getitem:
            return arguments[0][arguments[1]]  # type: ignore[index]
        if not _holds(arguments):
            return target(*arguments, **options)
        rule = RULES.get(_name(target))
        if rule is None:
            raise ModelError(f"the operation {_name(target)} ({node.name}) has no certificate")
        return rule(self, node, *arguments, **options)

    def _output(self, node: torch.fx.Node) -> int:
        output = self.values[node.args[0][0]]  # type: ignore[index]
        if not isinstance(output, Value):
            raise ModelError("the module's output does not depend on its input; expected logits")
        return output.position


def _holds(arguments: Any) -> bool:  # noqa: ANN401 - what a call is given
    if isinstance(arguments, tuple | list):
        return any(map(_holds, arguments))
    return isinstance(arguments, Value | aten.Examples)
