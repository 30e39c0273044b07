"""Whether the arrays of the list are those of the model: compared bit by bit with a file that somebody else holds."""

import gzip
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from saddlepoint_audit.files import Array, Refused, arrays_of

STRUCTURE = ("index", "row", "column", "value", "scales")
"""Arrays that say what is computed from what, as reshapes and means do: no weights."""
FEW = 16
"""Arrays of so many numbers are told, not asked for: means and deviations of pixels stand in code, not in files."""


def compared(arrays: Mapping[str, Array], model: Path) -> tuple[int, list[str], list[str]]:
    """Return how many arrays of the list the model's file holds, the few constants it does not, and what is foreign.

    Args:
        arrays: of the list.
        model: a safetensors or an ONNX file.

    Raises:
        Refused: a file cannot be read.
    """
    held = {_digest(array) for array in _held(model)}
    same, told, foreign = 0, list[str](), list[str]()
    for name, array in _weights(arrays).items():
        if _digest(array) in held or (array.ndim > 1 and _digest(array.T) in held):
            same += 1
        elif array.size <= FEW or np.unique(array).size == 1:
            told.append(f"{name} {np.unique(array) if array.size > FEW else array.ravel()}")
        else:
            foreign.append(f"array {name} of the network is none of {model.name}")
    return same, told, foreign


def _weights(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array for name, array in arrays.items() if name.partition("/")[2] not in STRUCTURE}


def _digest(array: Array) -> bytes:
    """Return a digest of the numbers, whatever their shape: lists hold a bias as a column."""
    return hashlib.sha256(array.dtype.str.encode() + np.ascontiguousarray(array).tobytes()).digest()


def _held(model: Path) -> Iterable[Array]:
    if model.suffix not in (".onnx", ".gz"):
        return arrays_of(model)[0].values()
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise Refused("an ONNX file needs onnx; pip install onnx") from None
    try:
        data = model.read_bytes()
        graph = onnx.load_from_string(gzip.decompress(data) if model.suffix == ".gz" else data).graph
    except Exception as error:  # whatever broken bytes lead to
        raise Refused(f"{model.name} cannot be read: {error}") from None
    constants = [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
    return [numpy_helper.to_array(tensor) for tensor in [*graph.initializer, *constants] if tensor.dims]
