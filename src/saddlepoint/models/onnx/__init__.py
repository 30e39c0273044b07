"""Networks in ONNX files as torch modules: a small importer of our own.

    file     bytes → the graph as data
    reader   the graph → a `Network`: each node translated by the table in `ops`, its shapes known by running it once
             on tensors without storage, the batch size freed (`batch`)
    network  the module: a loop over layers
    check    the network against onnxruntime

To add an operator, write a function of a `Node` (see `node`) that returns a layer, and put it into the table of its
file; `tests/models/test_onnx.py` wants a graph for each.
"""

from pathlib import Path

from saddlepoint.classifier import Classifier, Preprocessing
from saddlepoint.errors import InputError, ModelError
from saddlepoint.models.onnx.check import check
from saddlepoint.models.onnx.each_row import EachRow
from saddlepoint.models.onnx.file import inexact, read_model
from saddlepoint.models.onnx.network import Network
from saddlepoint.models.onnx.translation import read_graph
from saddlepoint.models.weights import fit, read_weights

__all__ = ["EachRow", "Network", "inexact", "load"]

FORM = "onnx:FILE[.gz]"


def load(place: str | None, weights: Path | None, *, logits: bool = True, numbers: int | None = None) -> Classifier:
    """Return the network in an ONNX file as a classifier of pixels, checked against onnxruntime.

    Its module is a `Network`, which maps any number of images (B, C, H, W) to logits (B, K), whatever batch size is
    burnt into the file. `module.input_shape` is what the graph wants of one example: for (H, W, C) the channels move
    last; for a vector images are reshaped in row-major order. Weights are float32, also where the file has float64 or
    float16.

    Args:
        place: the file, which may be compressed by gzip.
        weights: None for the file's own, or a file with others, such as those of a model folder.
        logits: whether the output must be logits, of two classes at least; otherwise it may be any numbers of a row.
        numbers: how many one example has, where that is known: a graph whose whole input are so many has no axis of
            the batch, and is applied to each row.

    Raises:
        InputError: no such file, a damaged one, or one that is no network from one batch of images to logits, each row
            by itself; the first node that is not supported is named.
        WeightsError: the weights cannot be read or fitted.
        ModelError: the import does not compute what onnxruntime does, with the largest difference.
    """
    if not place:
        raise InputError(f"the model 'onnx:' names no file; expected {FORM}")
    try:
        model = read_model(Path(place))
        imported = read_graph(model, logits=logits, numbers=numbers)
        check(imported, model)
    except (InputError, ModelError) as error:
        raise type(error)(f"cannot use ONNX file {place!r}: {error}") from None
    if weights is not None:
        fit(imported.network, read_weights(weights), str(weights))
    return Classifier(imported.network, preprocessing=_preprocessing(imported.network.input_shape))


def _preprocessing(shape: tuple[int, ...]) -> Preprocessing | None:
    """Return what makes a photograph a square of the size that the graph wants; None where it wants no such image."""
    match shape:
        case (3, height, width) | (height, width, 3) if height == width:
            return Preprocessing(resize=height, crop=height)
    return None
