"""The network as an audit reads it: a list of operations and their arrays, as the module holds them, nothing folded.

What only moves numbers becomes the places that they come from, and other sums without weights, such as means, the
entries of their matrix: both are found by asking the operation itself.
"""

import copy
import json
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from saddlepoint.certificates.affine import Affine, Form, unrepeated
from saddlepoint.certificates.graph import Graph, Input, Node
from saddlepoint.certificates.kept import state_of
from saddlepoint.certificates.lowering import export
from saddlepoint.certificates.relu import ReLU
from saddlepoint.classifier import Classifier
from saddlepoint.errors import ModelError
from saddlepoint.results.folder.documents import make_folder, write_bytes
from saddlepoint_audit.enclosures import FLOAT32, Enclosure, Region
from saddlepoint_audit.operations import Network

Listed = tuple[list[dict[str, Any]], dict[str, Tensor]]
"""The operations, and their arrays by `{position}/{name}`."""

_ENTRIES = 2**28
"""Coefficients of a matrix that are looked at, at most."""
_ROWS = 2**22
"""Numbers that are pushed through an operation at once."""
_POINTS = 3
"""At which a list is held against the module."""


@torch.no_grad()
def listed(graph: Graph) -> Listed:
    """Return the operations of an unfolded graph in float64, and their arrays, in float32 where that is exact.

    Raises:
        ModelError: an operation is neither affine nor a ReLU, which no audit knows.
    """
    entries, arrays = list[dict[str, Any]](), dict[str, Tensor]()
    for i, node in enumerate(graph.nodes):
        entry: dict[str, Any] = {"kind": "input", "parents": list(node.parents), "shape": list(node.shape)}
        operation = node.operation
        if isinstance(operation, Affine):
            form = operation.form or _asked(node, operation)
            entry |= {"kind": form.kind, **_plain(form.settings)}
            own = dict(form.arrays)
            if operation.offset is not None and not form.whole:
                own["offset"] = unrepeated(operation.offset)
            arrays |= {f"{i}/{name}": _stored(tensor) for name, tensor in own.items()}
        elif isinstance(operation, ReLU):
            entry["kind"] = "relu"
        elif not isinstance(operation, Input):
            kind = type(operation).__name__
            raise ModelError(f"{kind} ({node.name}) is not known to the audit; expected ReLUs, or no evidence")
        entries.append(entry)
    return entries, arrays


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, list | tuple) else value for name, value in settings.items()}


def _stored(tensor: Tensor) -> Tensor:
    """Return a tensor as it is stored: in float32 where that holds the same numbers."""
    tensor = tensor.detach().cpu().contiguous()
    single = tensor.float() if tensor.dtype == torch.float64 else tensor
    return single if torch.equal(single.double(), tensor.double()) and tensor.is_floating_point() else tensor


def _asked(node: Node, operation: Affine) -> Form:
    """Return where each number comes from, or the entries of L."""
    sizes = [torch.Size(shape).numel() for shape in operation.shapes]
    ends = [0, *torch.tensor(sizes).cumsum(0).tolist()]
    numbers = [
        torch.arange(begin + 1, begin + 1 + size, dtype=torch.float64).reshape(1, *shape)
        for begin, size, shape in zip(ends[:-1], sizes, operation.shapes, strict=True)
    ]
    # Numbered from 1, so that 0 is what comes from nowhere.
    if operation.exact:
        index = operation.linear(*numbers, *operation.weights).flatten().long() - 1
        return Form("gather", {"index": index.to(torch.int32) if ends[-1] < 2**31 else index})
    if sum(sizes) * node.size > _ENTRIES:
        raise ModelError(f"{node.name} has too many coefficients for a list of them; expected less than {_ENTRIES}")
    rows, columns, values = list[Tensor](), list[Tensor](), list[Tensor]()
    for parent, size in enumerate(sizes):
        for part in torch.split(torch.arange(size), max(1, _ROWS // (size + node.size))):
            units = [torch.zeros(len(part), *shape, dtype=torch.float64) for shape in operation.shapes]
            units[parent].flatten(1)[torch.arange(len(part)), part] = 1.0
            image = operation.linear(*units, *operation.weights).flatten(1)
            place, row = image.nonzero(as_tuple=True)
            rows.append(row)
            columns.append(part[place] + ends[parent])
            values.append(image[place, row])
    whole = {"row": torch.cat(rows).to(torch.int32), "column": torch.cat(columns).to(torch.int32)}
    return Form("sparse", {**whole, "value": torch.cat(values)})


@final
@dataclass(frozen=True, eq=False)
class Listing:
    """The list and its arrays, as `saddlepoint_audit.operations.Network` reads them."""

    entries: list[dict[str, Any]]
    arrays: Mapping[str, Tensor]

    @cached_property
    def network(self) -> Network:
        """The network as the audit has it."""
        return Network.of(self.entries, {name: tensor.numpy() for name, tensor in self.arrays.items()})

    def save(self, folder: Path) -> None:
        """Write `network.json` and `network.safetensors`."""
        from safetensors.torch import save

        make_folder(folder)
        write_bytes(folder / "network.safetensors", save(dict(self.arrays)))
        write_bytes(folder / "network.json", json.dumps(self.entries, indent=1).encode())


_last: list[tuple[weakref.ref[Classifier], tuple[object, ...], Listing]] = []


def listing_of(classifier: Classifier, shape: tuple[int, ...]) -> Listing:
    """Return the list of a classifier for images of this shape; that of the last call, while it is of the same weights.

    Raises:
        ModelError: an operation is not known to the audit, or the list is not the module.
    """
    key = (shape, state_of(classifier))
    for of, known, listing in _last:
        if of() is classifier and known == key:
            return listing
    # What only moves numbers is asked for on the CPU, whatever the weights lie on.
    host = classifier if classifier.device.type == "cpu" else copy.deepcopy(classifier).cpu()
    listing = Listing(*listed(export(host, shape).graph(torch.float64, fold=False)))
    _compare(listing.network, host, shape)
    _last[:] = [(weakref.ref(classifier, lambda _: _last.clear()), key, listing)]
    return listing


def _compare(network: Network, classifier: Classifier, shape: tuple[int, ...]) -> None:
    """Raise ModelError unless the module's logits at random pixels lie where every float32 execution of the list does.

    Differences of logits are compared: a module may return their logarithms as probabilities.
    """
    x = torch.rand(_POINTS, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), classifier.frozen() as model:
        logits = model.logits(x).double().numpy()
    for one, reached in zip(x.numpy(), logits, strict=True):
        enclosure = Enclosure(network, Region.around(one, 0.0, "linf", None), FLOAT32)
        for _ in network.operations[1:]:
            enclosure.step()
        low, high = enclosure.lower[-1], enclosure.upper[-1]
        apart = (reached - reached[0]) - ((low + high) - (low + high)[0]) / 2
        if not (abs(apart) <= (high - low).max() + 1e-5 * (1 + abs(reached).max())).all():
            raise ModelError(
                f"the list of operations for an audit is not the module: logits differ by {abs(apart).max():.3g}; "
                "this is a defect of saddlepoint: please report it"
            )
