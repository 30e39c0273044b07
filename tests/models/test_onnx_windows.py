"""Convolutions and pools of any window, stride, dilation and padding, in one to three dimensions."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.test_onnx import agrees, graph, node

LAW = settings(max_examples=80, deadline=None)
LARGEST = 4


def weights(*shape):
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


@st.composite
def windows(draw, *, dilations=True, dimensions=3):
    """Sizes of an image that the window fits, and the window as attributes.

    onnxruntime's pools want less padding than window, and, under SAME, no stride beyond it.
    """
    rank = draw(st.integers(1, dimensions))

    def each(low, high):
        return draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank))

    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    kernel = each(2, 3)
    attributes = {"kernel_shape": kernel, "strides": each(1, 2 if auto.startswith("SAME") else 3)}
    if auto != "NOTSET":
        return each(3, 7), attributes | {"auto_pad": auto}
    attributes["pads"] = each(0, 1) + each(0, 1)
    if dilations and draw(st.booleans()):
        attributes["dilations"] = each(1, 2)
    return each(5, 8), attributes


def check(folder, op, drawn, channels, opset, *constants, **more):
    sizes, attributes = drawn
    size = (channels, *sizes)
    agrees(graph(node(op, "x", *constants, **attributes, **more), size=size, opset=opset), folder, size)


@LAW
@given(windows(), st.sampled_from([(1, 3), (3, 1), (3, 2)]), st.booleans(), st.sampled_from([7, 9, 11, 21]))
def test_convolutions(tmp_path_factory, drawn, groups, bias, opset):
    group, inputs = groups
    constants = [weights(2 * group, inputs, *drawn[1]["kernel_shape"])] + bias * [weights(2 * group)]
    check(tmp_path_factory.mktemp("onnx"), "Conv", drawn, group * inputs, opset, *constants, group=group)


@LAW
@given(windows(dimensions=2), st.sampled_from([(1, 3), (3, 1)]), st.sampled_from([7, 11, 21]), st.data())
def test_transposed_convolutions(tmp_path_factory, drawn, groups, opset, data):
    (sizes, attributes), (group, outputs), more = drawn, groups, {}
    variant = data.draw(st.sampled_from(["plain", "output_padding", "output_shape"]))
    if variant == "output_padding" and "pads" in attributes:
        more["output_padding"] = [stride - 1 for stride in attributes["strides"]]
    if variant == "output_shape" and "pads" not in attributes:
        longer = data.draw(st.integers(0, 1))
        more["output_shape"] = [n * s + longer for n, s in zip(sizes, attributes["strides"], strict=True)]
    constants = weights(3 * group, outputs, *attributes["kernel_shape"]), weights(outputs * group)
    check(tmp_path_factory.mktemp("onnx"), "ConvTranspose", drawn, 3 * group, opset, *constants, group=group, **more)


@LAW
@given(windows(dilations=False), st.sampled_from([7, 8]))
def test_old_max_pools(tmp_path_factory, drawn, opset):
    check(tmp_path_factory.mktemp("onnx"), "MaxPool", drawn, 2, opset)


@LAW
@given(windows(), st.booleans(), st.sampled_from([10, 11, 12, 21]))
def test_max_pools(tmp_path_factory, drawn, ceil, opset):
    more = {"ceil_mode": int(ceil)} if "pads" in drawn[1] else {}
    check(tmp_path_factory.mktemp("onnx"), "MaxPool", drawn, 2, opset, **more)


@LAW
@given(windows(dilations=False), st.booleans(), st.booleans(), st.sampled_from([7, 10, 11, 19, 21]))
def test_average_pools(tmp_path_factory, drawn, ceil, counted, opset):
    more = {"ceil_mode": int(ceil)} if "pads" in drawn[1] and opset >= 10 else {}
    check(tmp_path_factory.mktemp("onnx"), "AveragePool", drawn, 2, opset, count_include_pad=int(counted), **more)


@LAW
@given(windows(), st.booleans(), st.booleans())
def test_dilated_average_pools(tmp_path_factory, drawn, ceil, counted):
    more = {"ceil_mode": int(ceil)} if "pads" in drawn[1] else {}
    check(tmp_path_factory.mktemp("onnx"), "AveragePool", drawn, 2, 19, count_include_pad=int(counted), **more)
