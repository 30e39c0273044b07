"""An ONNX file as onnxruntime computes it, untouched: what a counterexample is held against."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saddlepoint.errors import InputError
from saddlepoint.extras import imported
from saddlepoint.models.onnx.file import contents

Run = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""From one flattened input to the flattened output."""

_TYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


def replay(path: Path) -> Run:
    """Return the function that onnxruntime computes for a file, one input at a time, on the CPU.

    Raises:
        InputError: onnxruntime cannot run the file, or it has several inputs.
    """
    onnxruntime = imported("onnxruntime")

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 4
    try:
        session = onnxruntime.InferenceSession(contents(path), options, providers=["CPUExecutionProvider"])
    except InputError:
        raise
    except Exception as error:  # its own classes, which it does not export
        raise InputError(f"onnxruntime cannot run it ({' '.join(str(error).split())[:200]})") from None
    weights = {value.name for value in session.get_overridable_initializers()}
    entries = [entry for entry in session.get_inputs() if entry.name not in weights]
    if len(entries) != 1 or entries[0].type not in _TYPES:
        raise InputError(f"it has {len(entries)} inputs, or one of integers; expected one of floats")
    (entry,) = entries
    shape = [size if isinstance(size, int) and size > 0 else 1 for size in entry.shape]

    def run(x: NDArray[np.float32]) -> NDArray[np.float64]:
        one = x.astype(_TYPES[entry.type])
        # A batch size that is burnt in is filled with copies: the first row is the answer.
        rows = max(1, int(np.prod(shape, dtype=np.int64)) // max(1, one.size))
        (output, *_) = session.run(None, {entry.name: np.tile(one, rows).reshape(shape)})
        flat = np.asarray(output, dtype=np.float64).ravel()
        return flat[: len(flat) // rows]

    return run
