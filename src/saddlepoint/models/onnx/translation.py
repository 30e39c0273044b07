"""From a graph to a `Network`: each node is translated once, and run once on tensors without storage."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from saddlepoint.errors import InputError
from saddlepoint.extras import imported
from saddlepoint.models.onnx.each_row import EachRow
from saddlepoint.models.onnx.free_batch import BATCH, batch_axis, depends, show, size_at
from saddlepoint.models.onnx.network import Network, Step
from saddlepoint.models.onnx.node import LIMIT, META, Node, Operand
from saddlepoint.models.onnx.ops import OPS

_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, slots=True)
class Imported:
    """A graph that was read.

    Attributes:
        network: the module, in eval mode; `EachRow` of one where the graph has no axis of the batch.
        fixed: the batch size of the file; None if it is free.
        ranks: how many dimensions each value of the graph has.
    """

    network: Network | EachRow
    fixed: int | None
    ranks: dict[str, int]


def read_graph(model: Any, *, logits: bool = True, numbers: int | None = None) -> Imported:  # noqa: ANN401 - a ModelProto
    """Translate a graph.

    float64 and float16 weights become float32, and casts between these types nothing; integers become int64.

    Args:
        model: the graph.
        logits: whether the output must be logits; otherwise it may be any numbers for each row.
        numbers: how many one example has. A graph whose whole input are so many has no axis of the batch. None where
            the first axis of the input is that of the batch.

    Raises:
        InputError: naming the first node, input or output that is none of a network from images to logits.
    """
    sizes = [dim.dim_value for dim in _images(model.graph).type.tensor_type.shape.dim]
    whole, row = math.prod(sizes) == numbers, len(sizes) > 1 and math.prod(sizes[1:]) == numbers
    if numbers is not None and len(sizes) == 1 and sizes[0] > 0 and not whole:
        raise InputError(f"its input has {sizes[0]} numbers; expected {numbers}, as the property has")
    try:
        return _read(model, logits=logits, batched=row or not whole)
    except InputError:
        if not (whole and row):
            raise
        # A first axis of size 1 may be any axis: here it does not go through as that of the batch.
        return _read(model, logits=logits, batched=False)


def _read(model: Any, *, logits: bool, batched: bool) -> Imported:  # noqa: ANN401
    graph = model.graph
    reading = _Reading(_opset(model), *_entry(graph, batched=batched))
    for tensor in graph.initializer:
        reading.know(tensor.name, _tensor(tensor))
    for place, proto in enumerate(graph.node):
        reading.node(proto, place)
    result = _result(graph, reading.values, logits=logits, batched=reading.batched)
    used = {name for step in reading.steps for name in step.inputs}
    constants = {name: value for name, value in reading.values.items() if name in used and not depends(value)}
    shape = tuple(reading.entry.value.shape)
    arguments = reading.steps, constants, result
    network = (
        Network(reading.entry.name, shape[1:], *arguments)
        if reading.batched
        else EachRow(Network(reading.entry.name, shape, *arguments, batched=False))
    )
    return Imported(network.eval(), reading.fixed, {name: value.ndim for name, value in reading.values.items()})


@dataclass(slots=True)
class _Reading:
    """What is known so far: values by name, and the steps that compute those that depend on the image."""

    opset: int
    entry: Operand
    fixed: int | None
    values: dict[str, Tensor] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    made: int = 0

    def __post_init__(self) -> None:
        self.know(*self.entry)

    @property
    def batched(self) -> bool:
        return batch_axis(self.entry.value.shape) is not None

    def know(self, name: str, value: Tensor) -> None:
        if name in self.values:
            raise InputError(f"the value {name[:60]!r} is defined twice; expected each name once")
        self.values[name] = value

    def make(self, node: Node, count: int) -> None:
        """Count numbers that constants are made of, before they are made: it is their sum that fills a memory."""
        self.made += count
        if self.made > LIMIT:
            raise node.refused(f"constants of {self.made} numbers are made until here; expected at most {LIMIT}")

    def node(self, proto: Any, place: int) -> None:  # noqa: ANN401 - a NodeProto
        node = self._opened(proto, place)
        build = OPS.get(node.op)
        if build is None:
            raise node.refused(f"this operator is not supported; the importer knows {', '.join(OPS)}")
        try:
            layer = build(node)
            results = self._known(node, layer) if isinstance(layer, Tensor) else self._run(node, layer)
        except InputError:
            raise
        except Exception as error:  # whatever torch says of sizes that do not fit, or of attributes of another type
            reason = " ".join(str(error).split())[:160]
            raise node.refused(f"it cannot be computed ({type(error).__name__}: {reason})") from None
        if node.unread:
            raise node.refused(f"its attribute {min(node.unread)[:60]!r} is not supported")
        for name, value in zip(proto.output, results, strict=False):
            if name:
                self.know(name, value)
        if isinstance(layer, nn.Module) and any(map(depends, results)):
            inputs = tuple(operand.name for operand in node.operands)
            self.steps.append(Step(_name(proto, layer, place), layer, inputs, tuple(proto.output)))

    def _opened(self, proto: Any, place: int) -> Node:  # noqa: ANN401
        title = f"node {place} {proto.op_type[:60]!r}" + (f" named {proto.name[:80]!r}" if proto.name else "")
        if proto.domain not in _DOMAINS:
            raise InputError(f"{title} is of the domain {proto.domain[:60]!r}; expected operators of ONNX itself")
        inputs: list[Operand | None] = []
        for name in proto.input:
            if name and name not in self.values:
                raise InputError(f"{title} needs {name[:60]!r}, which no node before it computes")
            inputs.append(Operand(name, self.values[name]) if name else None)
        attributes = {attribute.name: _attribute(attribute, title) for attribute in proto.attribute}
        return Node(proto.op_type, title, self.opset, attributes, inputs, len(proto.output), self.entry, self.fixed)

    def _known(self, node: Node, value: Tensor) -> tuple[Tensor, ...]:
        if node.op != "Constant":  # whose numbers are in the file
            self.make(node, value.numel())
        return (value,)

    @torch.no_grad()
    def _run(self, node: Node, layer: nn.Module) -> tuple[Tensor, ...]:
        """Return the results of a layer: without storage first, so that nothing too large is ever made."""
        operands = [operand.value for operand in node.operands]
        state = {name: tensor.to(META) for name, tensor in (*layer.named_parameters(), *layer.named_buffers())}
        layer.eval()
        results = functional_call(layer, state, tuple(value.to(META) for value in operands))
        results = results if isinstance(results, tuple) else (results,)
        of_images = any(map(depends, operands))
        for value in results:
            _check(node, value, of_images)
        if of_images:
            return results
        self.make(node, sum(value.numel() for value in results))
        known = layer(*operands)
        return known if isinstance(known, tuple) else (known,)


def _check(node: Node, value: Tensor, of_images: bool) -> None:
    """Refuse a result without one axis of the batch, if it depends on the images; and one too large for any memory."""
    if of_images and 0 in value.shape:
        raise node.refused(f"it makes the empty tensor {show(value.shape)} of the images; expected numbers")
    if of_images and node.batched and batch_axis(value.shape) is None:
        raise node.refused(f"it makes a tensor {show(value.shape)} of the images; expected one axis B of the batch")
    if math.prod(size_at(node.fixed or 1, size) for size in value.shape) > LIMIT:
        raise node.refused(f"it makes a tensor {show(value.shape)}; expected at most {LIMIT} numbers")


def _name(proto: Any, layer: nn.Module, place: int) -> str:  # noqa: ANN401
    """Return how to call a layer: as its weight if that says so, as its node, or as its operator."""
    stems = [name.removesuffix(".weight") for name in proto.input if name.endswith(".weight")]
    return stems[0] if stems and any(True for _ in layer.parameters()) else proto.name or f"{proto.op_type}_{place}"


def _opset(model: Any) -> int:  # noqa: ANN401
    versions = [opset.version for opset in model.opset_import if opset.domain in _DOMAINS]
    if not versions and model.opset_import:
        raise InputError("it uses no operator set of ONNX itself; expected one with the domain ''")
    return max(versions, default=1)


def _entry(graph: Any, *, batched: bool) -> tuple[Operand, int | None]:  # noqa: ANN401
    """Return the graph's input, with `BATCH` rows if it has an axis of the batch, and the batch size of the file."""
    entry = _images(graph)
    kind = entry.type.tensor_type
    if kind.elem_type not in (1, 10, 11):
        raise InputError(f"its input {entry.name[:60]!r} has ONNX type {kind.elem_type}; expected floating point")
    sizes = [dim.dim_value for dim in kind.shape.dim]
    if not batched:
        return Operand(entry.name, torch.empty(*sizes, device=META)), 1
    if len(sizes) < 2 or min(sizes[1:]) < 1:
        shown = ", ".join(str(dim.dim_value or dim.dim_param[:20] or "?") for dim in kind.shape.dim[:8])
        raise InputError(
            f"its input {entry.name[:60]!r} has shape ({shown}); expected a batch of a fixed shape per example, such "
            "as (N, 3, 32, 32): fix free sizes with onnx.tools.update_model_dims.update_inputs_outputs_dims"
        )
    fixed = sizes[0] if sizes[0] > 0 else None
    if (fixed or 1) * math.prod(sizes[1:]) > LIMIT:
        raise InputError(f"its input has {(fixed or 1) * math.prod(sizes[1:])} numbers; expected at most {LIMIT}")
    return Operand(entry.name, torch.empty(BATCH, *sizes[1:], device=META)), fixed


def _images(graph: Any) -> Any:  # noqa: ANN401
    known = {initializer.name for initializer in graph.initializer}
    inputs = [value for value in graph.input if value.name not in known]
    if len(inputs) != 1:
        names = ", ".join(repr(value.name[:60]) for value in inputs[:8])
        raise InputError(f"it has {len(inputs)} inputs ({names}); expected one, the images")
    return inputs[0]


def _result(graph: Any, values: dict[str, Tensor], *, logits: bool, batched: bool) -> str:  # noqa: ANN401
    """Return the name of the output: logits are (B, K) but for axes of size 1."""
    names = [value.name for value in graph.output]
    if len(names) != 1:
        shown = ", ".join(repr(name[:60]) for name in names[:8])
        raise InputError(f"it has {len(names)} outputs ({shown}); expected one, the logits")
    (name,) = names
    if name not in values or not depends(values[name]):
        raise InputError(f"its output {name[:60]!r} does not depend on the images; expected logits")
    shape = values[name].shape
    count, flat = math.prod(shape[1:]), math.prod(shape[1:]) == max(shape[1:], default=0)
    if batched and (shape[0] != BATCH or (logits and (not flat or count < 2))):
        raise InputError(f"its output {name[:60]!r} has shape {show(shape)}; expected logits (B, K ≥ 2)")
    return str(name)


def _attribute(proto: Any, title: str) -> Any:  # noqa: ANN401
    onnx = imported("onnx")
    helper = imported("onnx.helper")

    if proto.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS, onnx.AttributeProto.SPARSE_TENSOR):
        raise InputError(f"{title} has a subgraph or sparse tensor, {proto.name[:60]!r}; expected a plain operator")
    value = helper.get_attribute_value(proto)
    if proto.type == onnx.AttributeProto.TENSOR:
        return _tensor(value)
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _tensor(proto: Any) -> Tensor:  # noqa: ANN401 - a TensorProto
    """Return the tensor: float32, int64 or bool."""
    onnx = imported("onnx")
    numpy_helper = imported("onnx.numpy_helper")

    kinds = {
        **dict.fromkeys((onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE), "float32"),
        **dict.fromkeys((onnx.TensorProto.INT32, onnx.TensorProto.INT64), "int64"),
        onnx.TensorProto.BOOL: "bool",
    }
    if proto.data_type not in kinds:
        raise InputError(
            f"the tensor {proto.name[:60]!r} has ONNX type {proto.data_type}; expected float16, float32, float64, "
            "int32, int64 or bool: quantized networks are not supported"
        )
    try:
        return torch.tensor(numpy_helper.to_array(proto).astype(kinds[proto.data_type]))
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"the tensor {proto.name[:60]!r} is damaged ({' '.join(str(error).split())[:120]})") from None
