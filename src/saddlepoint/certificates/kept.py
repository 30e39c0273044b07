"""The graph of the classifier that was certified last: an export takes half a second, a look at it 40 ms."""

import hashlib
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from saddlepoint.certificates.agreement import compare_anywhere
from saddlepoint.certificates.graph import Graph
from saddlepoint.classifier import Classifier
from saddlepoint.classifier.forms import tensors_in
from saddlepoint.classifier.model import absorb
from saddlepoint.errors import ModelError

Graphs = tuple[Graph, Graph]
"""In float32 and in float64."""


@final
@dataclass(frozen=True, eq=False)
class _Kept:
    """What was exported last: of one classifier, lest the weights of many stay in memory."""

    classifier: weakref.ref[Classifier]
    key: tuple[object, ...]
    did: str
    graphs: Graphs


_last: list[_Kept] = []


def kept(classifier: Classifier, shape: tuple[int, ...], make: Callable[[], Graphs]) -> Graphs:
    """Return the graphs of a classifier, made anew unless they were made of it as it is now.

    Weights, modes, settings, hooks and code are compared by content. So is what the module does for some pixels, for it
    may read what is none of its own: each operation with its numbers, each tensor that is no weight, the answer's bits.

    Args:
        classifier: whose graphs.
        shape: of an image.
        make: exports; the module is held against what it returns (`compare_anywhere`).

    Raises:
        ModelError: module and graph are not one function.
    """
    key = (shape, classifier.device, state_of(classifier))
    for entry in _last[:]:
        if entry.classifier() is classifier and entry.key == key and _does(entry.graphs, classifier) == entry.did:
            return entry.graphs
    _last.clear()  # before memory is taken for another
    graphs = make()
    did = compare_anywhere(graphs[1], classifier)
    if did is not None:  # a dead classifier's graph goes with it
        _last[:] = [_Kept(weakref.ref(classifier, lambda _: _last.clear()), key, did, graphs)]
    return graphs


def _does(graphs: Graphs, classifier: Classifier) -> str | None:
    """Return what the module does now, None if that is something else than its graph says."""
    try:
        return compare_anywhere(graphs[1], classifier)
    except ModelError:
        return None


def state_of(classifier: Classifier) -> str:
    """Return a hash of all that a forward may read of its modules: tensors, modes, settings, hooks, code."""
    total = hashlib.sha256(classifier.digest().encode())
    for name, module in classifier.named_modules():
        code = getattr(type(module).forward, "__code__", None)
        told = None if code is None else (code.co_code, code.co_consts, code.co_names)
        total.update(f"{name} {type(module)!r} {module.training} {told!r}".encode())
        for key, value in sorted(vars(module).items()):
            if key in ("_parameters", "_buffers", "_modules"):
                continue  # these are in the digest
            total.update(f"{key} {value!r}".encode())
            for tensor in tensors_in(value):  # no parameter and no buffer, so that the digest does not know it
                absorb(total, key, tensor)
    return total.hexdigest()
