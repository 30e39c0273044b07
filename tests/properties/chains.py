"""Chains of matrices and ReLUs as ONNX files."""

import numpy as np
import onnx
from onnx import helper, numpy_helper


def written(path, layers, shape, kind=np.float32):
    """Write a chain of (weight, bias) with ReLUs between them as an ONNX file from x of some shape."""
    nodes, arrays, last = [helper.make_node("Flatten", ["x"], ["z0"])], [], "z0"
    for place, (weight, bias) in enumerate(layers, 1):
        names = [f"w{place}", f"b{place}"]
        arrays += [numpy_helper.from_array(np.asarray(a, kind), n) for a, n in zip((weight, bias), names, strict=True)]
        nodes.append(helper.make_node("Gemm", [last, *names], [f"a{place}"], transB=1))
        nodes.append(helper.make_node("Relu", [f"a{place}"], [f"z{place}"]))
        last = f"z{place}"
    nodes.pop()
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    inputs = [helper.make_tensor_value_info("x", element, shape)]
    outputs = [helper.make_tensor_value_info(f"a{len(layers)}", element, None)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, arrays),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, path)
    return path
