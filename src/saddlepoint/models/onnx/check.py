"""No import is believed: it has to agree with onnxruntime, and to map each row by itself."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saddlepoint.errors import InputError, ModelError
from saddlepoint.extras import imported
from saddlepoint.models.onnx.file import tensors
from saddlepoint.models.onnx.modern import modern
from saddlepoint.models.onnx.translation import Imported

ABSOLUTE, RELATIVE = 1e-5, 1e-4
"""Logits a agree with b if |a − b| ≤ ABSOLUTE + RELATIVE · max |b|: rounding in float32, and no more."""

HALF = 100.0
"""By what both are multiplied where the file computes in float16, which the network does in float32."""

_TYPES = {1: np.float32, 10: np.float16, 11: np.float64}
_FLOAT16 = 10

_Run = Callable[[Tensor], Tensor]


def check(imported: Imported, model: Any) -> None:  # noqa: ANN401 - a ModelProto
    """Compare the network with onnxruntime at random images, and a row with itself among others.

    At the batch size of the file, or, where that is free, at one and three; images uniform in [0, 1], and normal.

    Raises:
        InputError: onnxruntime cannot run the file.
        ModelError: they differ, with the largest difference.
    """
    network, fixed, run = imported.network, imported.fixed, _session(model, imported.ranks)
    slack = HALF if _is_half(model) else 1.0
    shape = (fixed * math.ceil(3 / fixed) if fixed else 3, *network.input_shape)
    # The same images each time: a file is refused always, or never.
    generator = torch.Generator().manual_seed(0)
    for images in (torch.rand(shape, generator=generator), torch.randn(shape, generator=generator)):
        with torch.no_grad():
            logits, alone = network(images), network(images[:1])
        _agree("its first row, alone and among others,", alone, logits[:1], slack)
        singly = torch.cat([run(part) for part in torch.split(images, fixed or 1)])
        _agree("it and onnxruntime", logits, singly, slack)
        if fixed is None:
            _agree("it and onnxruntime, at three rows,", logits, _together(run, images, singly), slack)


def _together(run: _Run, images: Tensor, singly: Tensor) -> Tensor:
    """Return the file's logits for all rows at once; those of single rows if it declares a free batch but has none."""
    try:
        return run(images)
    except InputError:
        return singly


def _agree(what: str, logits: Tensor, expected: Tensor, slack: float) -> None:
    if logits.shape != expected.shape:
        raise ModelError(f"{what} give logits of shapes {tuple(logits.shape)} and {tuple(expected.shape)}")
    same = (logits == expected) | (logits.isnan() & expected.isnan())
    gap = torch.where(same, 0.0, (logits - expected).abs()).max().item()
    allowed = slack * (ABSOLUTE + RELATIVE * torch.where(expected.isfinite(), expected, 0.0).abs().max().item())
    if not gap <= allowed:
        raise ModelError(
            f"{what} differ by up to {gap:.3g}, where rounding explains {allowed:.3g}; expected the same logits: "
            "report this network, or export it again with another opset"
        )


def _session(model: Any, ranks: dict[str, int]) -> _Run:  # noqa: ANN401
    """Return onnxruntime's forward: the graph as it is, without optimisations."""
    onnxruntime = imported("onnxruntime")

    options = onnxruntime.SessionOptions()
    # The graph as it is written: the oracle's own rewriting could hide a difference, or make one.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 4
    data = _tried(lambda: modern(model, ranks).SerializeToString())
    session = _tried(lambda: onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]))
    entry = session.get_inputs()[0].name
    kind = _TYPES[next(value.type.tensor_type.elem_type for value in model.graph.input if value.name == entry)]

    def run(images: Tensor) -> Tensor:
        (logits,) = _tried(lambda: session.run(None, {entry: _shaped(images, ranks[entry]).numpy().astype(kind)}))
        return torch.tensor(np.asarray(logits, dtype=np.float32)).reshape(len(images), -1)

    return run


def _shaped(images: Tensor, rank: int) -> Tensor:
    """Return what the file takes: where it has no axis of the batch, one image without it."""
    return images.reshape(images.shape[images.ndim - rank :])


def _tried(action: Callable[[], Any]) -> Any:  # noqa: ANN401
    try:
        return action()
    except Exception as error:  # its own classes, which it does not export
        reason = " ".join(str(error).split())[:240]
        raise InputError(f"onnxruntime, by which each import is checked, cannot run it ({reason})") from None


def _is_half(model: Any) -> bool:  # noqa: ANN401
    casts = (attribute.i for node in model.graph.node if node.op_type == "Cast" for attribute in node.attribute)
    kinds = (tensor.data_type for tensor in tensors(model.graph))
    entries = (value.type.tensor_type.elem_type for value in model.graph.input)
    return _FLOAT16 in (*casts, *kinds, *entries)
