"""Whether the list is the model: arrays bit by bit, and what an ONNX file computes at random points.

Arrays alone do not say what is done with them: a list may leave out a layer, or read the same weights in another order.
"""

import gzip
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saddlepoint_audit.enclosures import Region
from saddlepoint_audit.files import Array, Refused, arrays_of
from saddlepoint_audit.operations import Network, Values

STRUCTURE = ("index", "row", "column", "value", "scales")
"""Arrays that say what is computed from what, as reshapes and means do: no weights."""
POINTS = 64
"""At which the list is compared with an ONNX file,"""
CLOSE = 1e-4
"""and how far apart the outputs may be, relative to the largest: float32 against float64."""
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
    if not is_onnx(model):
        return arrays_of(model)[0].values()
    graph = _onnx(model).graph
    from onnx import numpy_helper

    constants = [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
    return [numpy_helper.to_array(tensor) for tensor in [*graph.initializer, *constants] if tensor.dims]


def is_onnx(model: Path) -> bool:
    """Return whether a file's name says so; all others are safetensors."""
    return model.suffix in (".onnx", ".gz")


def _onnx(model: Path) -> Any:  # noqa: ANN401 - a ModelProto; onnx is optional
    try:
        import onnx
    except ImportError:
        raise Refused("an ONNX file needs onnx; pip install onnx") from None
    try:
        data = model.read_bytes()
        return onnx.load_from_string(gzip.decompress(data) if model.suffix == ".gz" else data)
    except Exception as error:  # whatever broken bytes lead to
        raise Refused(f"{model.name} cannot be read: {error}") from None


def farthest(network: Network, model: Path, regions: Sequence[Region]) -> float:
    """Return how far the list is from an ONNX file, by onnx's own reference, relative to the largest output.

    The points are drawn anew each time: nobody who made a list can have known them.

    Args:
        network: the list.
        model: the ONNX file.
        regions: boxes; `POINTS` are drawn from them and their corners.

    Raises:
        Refused: the file's network cannot be run, or gives another number of outputs.
    """
    from onnx.reference import ReferenceEvaluator

    proto, points = _onnx(model), _points(regions, np.random.default_rng())
    try:
        held = {tensor.name for tensor in proto.graph.initializer}
        (asked,) = (value for value in proto.graph.input if value.name not in held)
        shape = [max(1, axis.dim_value) for axis in asked.type.tensor_type.shape.dim]
        run = ReferenceEvaluator(proto).run
        told = np.stack([_flat(run(None, {asked.name: x.reshape(shape)})) for x in points]).astype(float)
        return float((np.abs(told - network.output(points.astype(float))) / (1 + np.abs(told).max())).max())
    except Exception as error:  # whatever an operation of the file leads to
        raise Refused(f"{model.name} cannot be compared with the list: {type(error).__name__} {error}") from None


def _flat(outputs: Any) -> Array:  # noqa: ANN401 - a list of what onnx declares as anything
    return np.ravel(outputs[0])


def _points(regions: Sequence[Region], draw: np.random.Generator) -> Array:
    """Return points of random boxes among these, each side at random within it or at one of its ends."""
    chosen = [regions[k] for k in draw.integers(len(regions), size=POINTS)]
    shares = draw.random((POINTS, len(chosen[0].lower)))
    shares[::2] = shares[::2].round()
    drawn: Values = np.array([b.lower + s * (b.upper - b.lower) for b, s in zip(chosen, shares, strict=True)])
    return drawn.astype(np.float32)
