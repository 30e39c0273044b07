"""Every operator of the table, in the variants of its opsets, computes what onnxruntime computes.

onnxruntime begins at opset 7: a graph in an older one is compared with the same graph written in a newer one.
"""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.test_onnx import agrees, exported, graph, node, rand
from saddlepoint.models.onnx.ops import OPS

NEWEST, MODERN, IMAGE = 21, 17, (3, 6, 6)
PIXELS = [rand(3, 6, 6) for _ in range(4)]
CHANNELS = [rand(3) for _ in range(4)]
W, LINEAR, COLUMNS, SQUARE = rand(4, 3, 3, 3), rand(108, 5), rand(5), rand(6, 4)
TRANSPOSED = rand(3, 4, 3, 3)


@dataclass(frozen=True)
class Case:
    """Graphs for one operator: a function from an opset to nodes, and the opsets from `since` to `until`."""

    op: str
    nodes: object
    since: int = 1
    until: int = NEWEST
    size: tuple = IMAGE

    def opsets(self):
        """Those in which ONNX changed the operator, the first and the last."""
        changed = {each.since_version for each in onnx.defs.get_all_schemas_with_history() if each.name == self.op}
        return sorted({self.since, self.until, *(v for v in changed if self.since <= v <= self.until)})


def one(op, *inputs, since=1, until=NEWEST, image=IMAGE, **attributes):
    """A node that is written alike in all opsets."""
    return Case(op, lambda v: [node(op, *inputs, **attributes)], since, until, image)


def moved(op, at, since=1, image=IMAGE, until=NEWEST, rest=None, **numbers):
    """A node whose numbers are attributes before an opset, and inputs from there on."""

    def nodes(v):
        if v < at:
            return [node(op, "x", **numbers, **(rest or {}))]
        return [node(op, "x", *map(np.asarray, numbers.values()), **(rest or {}))]

    return Case(op, nodes, since, until, image)


def old(v, **attributes):
    """Attributes that belong to opsets before 7 alone."""
    return attributes if v < 7 else {}


def tensor(value):
    return numpy_helper.from_array(np.asarray(value))


def broadcast(op, b, axis=None):
    """Arithmetic: before opset 7 it says that it broadcasts, and b may begin at an axis of x."""

    def nodes(v):
        if v < 7 and axis is not None:
            return [node(op, "x", b, broadcast=1, axis=axis)]
        trailing = 0 if axis is None else 4 - axis - b.ndim
        return [node(op, "x", b.reshape(*b.shape, *[1] * trailing), **old(v, broadcast=1))]

    return Case(op, nodes)


def norm(v):
    return [node("BatchNormalization", "x", *CHANNELS, epsilon=0.1, **old(v, is_test=1))]


def norm_per_pixel(v):
    """Statistics of each pixel; from opset 9 on there is no such node, and the formula is written out."""
    if v < 9:
        return [node("BatchNormalization", "x", *PIXELS, spatial=0, epsilon=0.1, **old(v, is_test=1))]
    weight, bias, mean, variance = PIXELS
    scale = weight / np.sqrt(variance + np.float32(0.1))
    return [node("Mul", "x", scale, out="m"), node("Add", "m", bias - mean * scale)]


def flat(*nodes):
    """A function from opsets to these nodes behind a Flatten, whose result is "f"."""
    return lambda v: [node("Flatten", "x", out="f"), *(each(v) if callable(each) else each for each in nodes)]


def reshape(v, source, target, out="y"):
    return node("Reshape", source, out=out, shape=target) if v < 5 else node("Reshape", source, target, out=out)


def pad(v, pads, value=None, **mode):
    if v >= 11:
        return [node("Pad", "x", pads, *([] if value is None else [np.float32(value)]), **mode)]
    return [node("Pad", "x", **{"paddings" if v < 2 else "pads": pads}, **({"value": value} if value else {}), **mode)]


POINTWISE = [
    *(one(op, "x") for op in ("Abs", "Exp", "Identity", "Log", "Neg", "Reciprocal", "Relu", "Sigmoid", "Softplus")),
    *(one(op, "x") for op in ("Softsign", "Sqrt", "Tanh")),
    *(one(op, "x", since=7) for op in ("Cos", "Sin")),
    *(one(op, "x", **more) for op in ("LeakyRelu", "Elu") for more in ({}, {"alpha": 0.3})),
    *(one("HardSigmoid", "x", **more) for more in ({}, {"alpha": 0.4, "beta": 0.1})),
    *(one("Selu", "x", since=6, **more) for more in ({}, {"alpha": 1.2, "gamma": 0.7})),
    *(one("Celu", "x", since=12, **more) for more in ({}, {"alpha": 0.3})),
    *(one("Gelu", "x", since=20, **more) for more in ({}, {"approximate": "tanh"})),
    *(one(op, "x", since=v) for op, v in (("HardSwish", 14), ("Mish", 18), ("Erf", 9), ("Clip", 6))),
    *(broadcast(op, rand(*shape)) for op in ("Add", "Sub", "Mul", "Div") for shape in ((1,), (6,), (6, 6), (3, 6, 6))),
    *(broadcast(op, rand(*[3, 6][:rank]), 1) for op in ("Add", "Sub", "Mul", "Div", "Pow") for rank in (1, 2)),
    *(broadcast("Pow", np.float32([exponent])) for exponent in (2, 0.5)),
    *(one(op, "x", "x", rand(3, 1, 1), since=8) for op in ("Max", "Min", "Mean", "Sum")),
    one("Mod", "x", rand(3, 1, 1), since=13, fmod=1),
    moved("Clip", 11, since=6, min=np.float32(0.2), max=np.float32(0.7)),
    Case("Clip", lambda v: [node("Clip", "x", max=0.5) if v < 11 else node("Clip", "x", "", np.float32(0.5))], 6),
    Case("PRelu", lambda v: [node("Log", "x", out="c"),
                             node("PRelu", "c", CHANNELS[0] if v < 7 else CHANNELS[0].reshape(3, 1, 1))]),
    Case("PRelu", lambda v: [node("Log", "x", out="c"), node("PRelu", "c", PIXELS[0])], 7),
    Case("Dropout", lambda v: [node("Dropout", "x", out=["y", "mask"], **old(v, is_test=1))]),
    one("Dropout", "x", np.float32(0.3), np.array(False), since=12),
    Case("Cast", lambda v: [node("Cast", "x", out="d", to=11), node("Cast", "d", to=1)], 6),
    Case("Greater", lambda v: [node("Greater", "x", PIXELS[0], out="c"), node("Cast", "c", to=1)], 9),
    Case("Less", lambda v: [node("Less", "x", PIXELS[0], out="c"), node("Where", "c", "x", rand(3, 1, 1))], 9),
    one("Where", np.array([[[True]], [[False]], [[True]]]), "x", rand(1, 1, 6), since=9),
    Case("Equal", lambda v: [node("Equal", "x", "x", out="c"), node("Where", "c", "x", PIXELS[0])], 11),
]  # fmt: skip

LAYERS = [
    one("Conv", "x", W, rand(4)),
    one("ConvTranspose", "x", TRANSPOSED),
    *(Case("BatchNormalization", norm, since, size=size) for since, size in ((1, IMAGE), (1, (3, 7)), (7, (3,)))),
    Case("BatchNormalization", norm_per_pixel),
    one("InstanceNormalization", "x", *CHANNELS[:2], since=6, epsilon=0.1),
    Case("LRN", lambda v: [node("LRN", "x", size=5, alpha=0.5, beta=0.6, bias=1.5)], size=(7, 3, 3)),
    one("LayerNormalization", "x", rand(6), rand(6), since=17, epsilon=0.1),
    one("LayerNormalization", "x", rand(3, 6, 6), since=17, axis=1),
    Case("Gemm", flat(lambda v: node("Gemm", "f", LINEAR, COLUMNS, alpha=0.5, beta=2.0, **old(v, broadcast=1)))),
    Case("Gemm", flat(node("Gemm", "f", LINEAR.T, np.ones((1, 1), np.float32), transB=1)), 7),
    Case("Gemm", flat(node("Gemm", "f", LINEAR)), 11),
    Case("Gemm", flat(node("Transpose", "f", out="t"), node("Gemm", "t", LINEAR, COLUMNS, transA=1, alpha=0.3)), 7),
    Case("Gemm", flat(node("Transpose", "f", out="t"), node("Gemm", LINEAR, "t", transA=1, out="g"),
                      node("Transpose", "g")), 11),
    one("MatMul", "x", SQUARE),
    *(one("MatMul", *inputs, since=7) for inputs in ((SQUARE.T, "x"), ("x", "x"), ("x", rand(3, 6, 2)))),
]  # fmt: skip

POOLS = [
    *(one(op, "x") for op in ("GlobalAveragePool", "GlobalMaxPool")),
    *(one(op, "x", kernel_shape=[2, 2], strides=[2, 2]) for op in ("AveragePool", "MaxPool")),
    *(one(op, "x", axis=3) for op in ("Softmax", "LogSoftmax")),
    *(one(op, "x", since=13, **more) for op in ("Softmax", "LogSoftmax") for more in ({}, {"axis": 1})),
    *(one(op, "x", until=12, **more) for op in ("Softmax", "LogSoftmax") for more in ({}, {"axis": 2})),
    *(moved(op, 13 if op == "ReduceSum" else 18, axes=axes, rest={"keepdims": keep}, since=1 if min(axes) > 0 else 11)
      for op in ("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")
      for axes, keep in (([2, 3], 0), ([1], 1), ([-1, -2], 1))),
    one("ReduceSum", "x", since=13, noop_with_empty_axes=1),
]  # fmt: skip

SHAPES = [
    Case("Reshape", lambda v: [reshape(v, "x", [0, 9, -1])]),
    one("Reshape", "x", [1, 9, -1], since=14, allowzero=1),
    *(one("Flatten", "x", axis=axis, since=since) for axis, since in ((0, 1), (1, 1), (-3, 11))),
    Case("Flatten", lambda v: [node("Flatten", "x", axis=2, out="f"), reshape(v, "f", [1, -1])]),
    one("Transpose", "x", perm=[0, 3, 1, 2]),
    Case("Transpose", lambda v: [node("Transpose", "x", out="t"), node("Transpose", "t")]),
    moved("Squeeze", 13, axes=[2, 4], image=(3, 1, 6, 1)),
    moved("Squeeze", 13, axes=[-1], image=(3, 1, 6, 1), since=11),
    moved("Unsqueeze", 13, axes=[1, 5]),
    moved("Unsqueeze", 13, axes=[-1, 1], since=11),
    Case("Shape", lambda v: [node("Shape", "x", out="s"), node("Reshape", "x", "s")], 5),
    Case("Shape", lambda v: [node("Shape", "x", out="s", start=1, end=-1), node("Cast", "s", out="c", to=1),
                             node("ReduceMax", "c", out="m", keepdims=0), node("Mul", "x", "m")], 15),
    Case("Size", lambda v: [node("Size", PIXELS[0], out="s"), node("Cast", "s", out="c", to=1),
                            node("Mul", "x", "c")], 7),
    Case("Constant", lambda v: [node("Constant", out="c", value=tensor(PIXELS[0])),
                                node("Mul", "x", "c", **old(v, broadcast=1))]),
    Case("Constant", lambda v: [node("Constant", out="c", value_floats=[1.0, 2.0] * 3), node("Mul", "x", "c")], 12),
    Case("Constant", lambda v: [node("Constant", out="c", value_int=2), node("Gather", "x", "c", axis=1)], 12),
    *(Case("ConstantOfShape", lambda v, shape=shape: [
        node("Shape", "x", out="s"), node("ConstantOfShape", shape, out="c", value=tensor(np.float32([2]))),
        node("Mul", "x", "c")], 9) for shape in ([3, 1, 1], "s")),
    *(one("Expand", "x", target, since=8, image=(3, 1, 6)) for target in ([1, 3, 2, 6], [2, 1])),
]  # fmt: skip

PIECES = [
    moved("Slice", 10, starts=[1, 0, 0], ends=[3, -1, 2**31 - 1], axes=[1, 2, 0]),
    moved("Slice", 10, starts=[0, -2], ends=[1, 2**40]),
    one("Slice", "x", [5, -1], [0, -(2**40)], [2, 3], [-2, -1], since=10),
    one("Gather", "x", [[2, 0], [1, 1]], axis=1),
    one("Gather", "x", np.array(-1), axis=2, since=11),
    one("Concat", "x", "x", axis=1),
    one("Concat", rand(1, 3, 2, 6), "x", axis=2),
    Case("Split", lambda v: [node("Split", "x", out=["a", "b", "c"], axis=1, **({"num_outputs": 3} if v > 17 else {})),
                             node("Concat", "c", "a", axis=1)], 2),
    Case("Split", lambda v: [node("Split", "x", out=["a", "b"], axis=2, split=[2, 4]) if v < 13 else
                             node("Split", "x", [2, 4], out=["a", "b"], axis=2), node("Concat", "b", "a", axis=2)], 2),
    Case("Pad", lambda v: pad(v, [0, 0, 1, 2, 0, 1, 0, 3], 0.5)),
    *(Case("Pad", lambda v, mode=mode: pad(v, [0, 0, 1, 2, 0, 0, 0, 3], mode=mode)) for mode in ("reflect", "edge")),
    Case("Pad", lambda v: pad(v, [0, 0, 0, 2, 0, 0, 0, 3], mode="reflect"), 11),
    one("Pad", "x", [1, 2, 2, 1], "", [2, 3], mode="wrap", since=19),
    one("Pad", "x", [0, 0, -1, 0, 0, 0, 0, -2], since=11),
]  # fmt: skip

CASES = [*POINTWISE, *LAYERS, *POOLS, *SHAPES, *PIECES]


def test_every_operator_has_a_case():
    assert {case.op for case in CASES} == set(OPS)
    assert onnx.defs.onnx_opset_version() >= NEWEST


@pytest.mark.parametrize("case", CASES, ids=[case.op for case in CASES])
def test_an_operator_computes_what_onnxruntime_does(tmp_path, case):
    modern = min(case.until, MODERN)
    for opset in case.opsets():
        oracle = graph(*case.nodes(modern), size=case.size, opset=modern) if opset < 7 else None
        module = agrees(graph(*case.nodes(opset), size=case.size, opset=opset), tmp_path, case.size, oracle)
    exported(module, case.size)
