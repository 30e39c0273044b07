"""Old files for onnxruntime, which runs opset 7 and newer; the importer itself reads them as they are.

The package onnx converts them, but for three changes that it leaves out or gets wrong, made here before.
"""

from collections.abc import Mapping
from typing import Any

from saddlepoint.extras import imported

_OLDEST, _TARGET = 7, 8

_ALIGNED = ("Add", "Sub", "Mul", "Div", "Pow")


def modern(model: Any, ranks: Mapping[str, int]) -> Any:  # noqa: ANN401 - a ModelProto
    """Return the same network in an opset that onnxruntime runs; the model itself where it is one.

    Args:
        model: the model, which is not changed.
        ranks: how many dimensions each value of its graph has.
    """
    onnx = imported("onnx")
    helper = imported("onnx.helper")
    version_converter = imported("onnx.version_converter")

    if any(opset.domain in ("", "ai.onnx") and opset.version >= _OLDEST for opset in model.opset_import):
        return model
    old = onnx.ModelProto()
    old.CopyFrom(model)
    old.ir_version = max(old.ir_version, 3)
    if not old.opset_import:
        old.opset_import.append(helper.make_opsetid("", 1))
    _rename_paddings(old)
    _spell_axes_out(old.graph, ranks)
    new = version_converter.convert_version(old, _TARGET)
    del new.graph.value_info[:]  # it knows no types for the nodes that it added, and says so wrongly
    return new


def _rename_paddings(model: Any) -> None:  # noqa: ANN401
    """A Pad of opset 1 differs from one of opset 2 in the name of an attribute."""
    pads = [node for node in model.graph.node if node.op_type == "Pad"]
    for node in pads:
        for attribute in node.attribute:
            attribute.name = attribute.name.replace("paddings", "pads")
    if pads and model.opset_import[0].version == 1:
        model.opset_import[0].version = 2


def _spell_axes_out(graph: Any, ranks: Mapping[str, int]) -> None:  # noqa: ANN401
    """Where the second input is aligned with an axis of the first, let an Unsqueeze do it."""
    helper = imported("onnx.helper")

    nodes = []
    for place, node in enumerate(graph.node):
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), None)
        if node.op_type == "PRelu" and ranks[node.input[1]] == 1:
            axis = 1
        if node.op_type in (*_ALIGNED, "PRelu") and axis is not None:
            first, second = (ranks[name] for name in node.input)
            trailing = first - second - axis % first
            if trailing > 0:
                name, axes = f"{node.input[1]} of node {place}", list(range(second, second + trailing))
                nodes.append(helper.make_node("Unsqueeze", [node.input[1]], [name], axes=axes))
                node.input[1] = name
            kept = [attribute for attribute in node.attribute if attribute.name != "axis"]
            del node.attribute[:]
            node.attribute.extend(kept)
        nodes.append(node)
    # A copy: the nodes belong to the list that is emptied.
    nodes = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(nodes)
