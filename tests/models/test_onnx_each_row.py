"""Graphs without an axis of the batch: each row of a batch gives what onnxruntime gives for it alone."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper

from models.test_onnx import exported, graph, node, rand
from saddlepoint.certificates.api import graphs_of
from saddlepoint.classifier import Classifier
from saddlepoint.errors import InputError
from saddlepoint.models import onnx as importer

VECTOR, TABLE = (4,), (2, 3)
TENSOR = helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [2.0])
GRAPHS = {
    "a bias": (VECTOR, [node("Add", "x", rand(4))]),
    "a weight on the left": (VECTOR, [node("MatMul", rand(3, 4), "x", out="a"), node("Relu", "a")]),
    "a weight on the right": (VECTOR, [node("MatMul", "x", rand(4, 3))]),
    "both of a table": (TABLE, [node("MatMul", rand(5, 2), "x", out="a"), node("MatMul", "a", rand(3, 2))]),
    "Gemm, transposed": (TABLE, [node("Gemm", "x", rand(2, 5), rand(5), transA=1, alpha=0.5, beta=2.0)]),
    "Gemm of several rows": (TABLE, [node("Gemm", "x", rand(5, 3), rand(5), transB=1)]),
    "a stack of tables": ((2, 3, 4), [node("MatMul", "x", rand(4, 5), out="a"), node("MatMul", "a", rand(5))]),
    "a sum along the first axis": (TABLE, [node("ReduceSum", "x", [0], keepdims=0)]),
    "a sum along all": (TABLE, [node("ReduceSum", "x", keepdims=0)]),
    "Transpose": (TABLE, [node("Transpose", "x", perm=[1, 0])]),
    "Reshape": (TABLE, [node("Reshape", "x", [3, -1])]),
    "Flatten from the front": (TABLE, [node("Flatten", "x", axis=0)]),
    "Unsqueeze in front": (VECTOR, [node("Unsqueeze", "x", [0])]),
    "with a constant": (TABLE, [node("Concat", "x", rand(1, 3), axis=0)]),
    "Slice along the first axis": (TABLE, [node("Slice", "x", [1], [2], [0])]),
    "Gather along the first axis": (TABLE, [node("Gather", "x", np.array([1, 0, 1]), axis=0)]),
    "Gather a table": (VECTOR, [node("Gather", "x", np.array([[3, 0], [1, -1]]), axis=0)]),
    "one number": (VECTOR, [node("Gather", "x", np.array(2), axis=0)]),
    "Split": (VECTOR, [node("Split", "x", [1, 3], out=["a", "b"]), node("Mul", "a", rand(1), out="y")]),
    "Expand": (VECTOR, [node("Expand", "x", [3, 4])]),
    "made of a size": (VECTOR, [node("ConstantOfShape", [4], out="a", value=TENSOR), node("Add", "x", "a")]),
    "Softmax along the first axis": (TABLE, [node("Softmax", "x", axis=0)]),
    "BatchNormalization": (TABLE, [node("BatchNormalization", "x", rand(3), rand(3), rand(3), rand(3))]),
    "a batch inside": (
        (2, 3, 4, 4),
        [
            node("Conv", "x", rand(2, 3, 3, 3), rand(2), out="a", pads=[1, 0, 0, 1]),
            node("BatchNormalization", "a", rand(2), rand(2), rand(2), rand(2), out="b"),
            node("MaxPool", "b", kernel_shape=[2, 2]),
        ],
    ),
}
UNPROVEN = {"Softmax along the first axis", "a batch inside"}


def opened(size, nodes, folder):
    model = graph(*nodes, size=size[1:], batch=size[0], flat=False)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return importer.load(str(folder / "net.onnx"), None, logits=False, numbers=int(np.prod(size))), model


@pytest.mark.parametrize("name", GRAPHS)
def test_each_row_is_the_graph_of_that_row(tmp_path, name):
    size, nodes = GRAPHS[name]
    classifier, model = opened(size, nodes, tmp_path)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = torch.randn(3, *size)
    expected = torch.tensor(np.stack([session.run(None, {"x": row.numpy()})[0] for row in x])).reshape(3, -1)
    module = classifier.module
    with torch.no_grad():
        for rows in (x, x[:1]):
            torch.testing.assert_close(module(rows), expected[: len(rows)], rtol=1e-5, atol=1e-5)
    exported(module, size)
    if name not in UNPROVEN and expected.shape[1] > 1:
        program, _ = graphs_of(Classifier(module), size)
        assert program.outputs == expected.shape[1]


def test_the_first_axis_is_the_batch_where_nothing_else_is_said(tmp_path):
    nodes = [node("Add", "x", rand(3))]
    classifier, _ = opened((1, 3), nodes, tmp_path)
    assert isinstance(classifier.module, importer.Network)
    (tmp_path / "net.onnx").write_bytes(graph(*nodes, size=(), batch=3, flat=False).SerializeToString())
    with pytest.raises(InputError, match=r"its input 'x' has shape \(3\); expected a batch"):
        importer.load(str(tmp_path / "net.onnx"), None, logits=False)


def test_what_is_no_example_is_named(tmp_path):
    model = graph(node("Slice", "x", [0], [0], [0]), size=(), batch=4, flat=False)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    for numbers, said in ((4, r"it makes the empty tensor \(0,\)"), (5, "its input has 4 numbers; expected 5")):
        with pytest.raises(InputError, match=said):
            importer.load(str(tmp_path / "net.onnx"), None, logits=False, numbers=numbers)


def test_examples_of_another_size_are_refused(tmp_path):
    classifier, _ = opened(*GRAPHS["a bias"], tmp_path)
    with pytest.raises(InputError, match=r"examples of shape \(5,\) do not fit the network's input \(4,\)"):
        classifier.module(torch.zeros(2, 5))
