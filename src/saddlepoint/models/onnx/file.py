"""From a file to the graph in it, as data: nothing is executed, and nothing beside the file is opened."""

import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from saddlepoint.errors import InputError
from saddlepoint.extras import imported

LARGEST = 2**31 - 1
"""Bytes that a graph may have, the limit of its format."""

_ROOM, _RATIO = 2**27, 32
"""A compressed file may unfold to _ROOM bytes, or to _RATIO times its size; weights shrink by a tenth."""

_EXPECTED = "expected an ONNX file, as torch.onnx.export writes it, or one compressed by gzip"


def read_model(path: Path) -> Any:  # noqa: ANN401 - a ModelProto, which has no types
    """Return the `ModelProto` in a file, which may be compressed by gzip; told by the content, not by its name.

    Raises:
        InputError: there is no such file, it is damaged or too large, or no graph of plain ONNX that is whole.
    """
    data = contents(path)
    onnx = imported("onnx")

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:
        raise InputError(f"it is no ONNX file, or a damaged one ({type(error).__name__}); {_EXPECTED}") from None
    if not model.graph.node and not model.graph.output:
        raise InputError(f"there is no graph in it; {_EXPECTED}")
    if any(isinstance(name, bytes) for name in _names(model)):
        raise InputError(f"it has names that are no text; {_EXPECTED}")
    for tensor in tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise InputError(
                f"the weights {tensor.name[:60]!r} lie in another file; expected all in one: "
                "onnx.save(onnx.load(FILE), NEW, save_as_external_data=False)"
            )
    if model.graph.sparse_initializer:
        raise InputError("it has sparse weights; expected dense ones")
    return model


def contents(path: Path) -> bytes:
    """Return the bytes of an ONNX file, unfolded where it is compressed by gzip.

    Raises:
        InputError: there is no such file, it cannot be read, or it is too large.
    """
    return _unfolded(_bytes(path))


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"there is no such file; {_EXPECTED}")
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror}); {_EXPECTED}") from None
    if len(data) > LARGEST:
        raise InputError(f"it has more than {LARGEST} bytes; {_EXPECTED}")
    return data


def _unfolded(data: bytes) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    import gzip

    most = min(max(_ROOM, _RATIO * len(data)), LARGEST)
    try:
        unfolded = gzip.GzipFile(fileobj=io.BytesIO(data)).read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"its compression by gzip is damaged ({error}); fetch the file again") from None
    if len(unfolded) > most:
        raise InputError(f"it unfolds to more than {most} bytes; unpack it with gunzip if you trust it")
    return unfolded


def tensors(graph: Any) -> Iterator[Any]:  # noqa: ANN401 - a GraphProto, and TensorProtos
    """Yield every tensor in a graph: initializers, and attributes of nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors


def inexact(path: Path) -> str | None:
    """Return the name of a tensor that float32 does not hold exactly, as the importer reads it; None where all are."""
    onnx = imported("onnx")
    numpy_helper = imported("onnx.numpy_helper")

    for tensor in tensors(read_model(path).graph):
        if tensor.data_type == onnx.TensorProto.DOUBLE:
            exact = numpy_helper.to_array(tensor)
            with np.errstate(over="ignore"):
                same = exact.astype(np.float32).astype(np.float64) == exact
            if not bool((same | np.isnan(exact)).all()):
                return str(tensor.name)
    return None


def _names(model: Any) -> Iterator[str | bytes]:  # noqa: ANN401
    """Yield every name that the importer reads; one whose bytes are no UTF-8 comes as bytes."""
    graph = model.graph
    yield from (opset.domain for opset in model.opset_import)
    yield from (value.name for value in (*graph.input, *graph.output, *graph.initializer))
    for entry in graph.input:
        yield from (dim.dim_param for dim in entry.type.tensor_type.shape.dim)
    for node in graph.node:
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
