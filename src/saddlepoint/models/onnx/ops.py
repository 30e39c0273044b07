"""The operators that the importer knows. To add one, add a line to the table of the file where it belongs."""

from saddlepoint.models.onnx import layers, pieces, pointwise, pools, shapes
from saddlepoint.models.onnx.node import Build

OPS: dict[str, Build] = dict(
    sorted({**layers.TABLE, **pieces.TABLE, **pointwise.TABLE, **pools.TABLE, **shapes.TABLE}.items())
)
"""From the type of a node to the function that translates it."""
