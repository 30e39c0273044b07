"""What proves a bound, kept as hints for an audit that shares no code with the search that found them.

Hints hold no bounds: they say which neurons are bounded by functionals of their own, and the slopes of lines, in steps
of 1/128 (`saddlepoint_audit.proofs`). What they prove is what an audit computes from them, in float64, with allowances
for rounding; a certificate has evidence only where that was tried and came to a proof.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from saddlepoint.certificates.bounds import Bounds
from saddlepoint.certificates.branching.splitting import Rows
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.intermediate import Neurons
from saddlepoint.certificates.slopes import Slopes
from saddlepoint.results.folder.documents import write_bytes
from saddlepoint.results.records.record import proves
from saddlepoint_audit.enclosures import FLOAT32, REAL, Region
from saddlepoint_audit.files import Refused
from saddlepoint_audit.operations import Network
from saddlepoint_audit.proofs import LEAVES, STEPS, VERSION, Branches, Hints, margin_of


def hints_of(
    graph: Graph, known: Bounds, neurons: Neurons | None, slopes: Slopes, refuted: Rows | None = None
) -> Hints:
    """Return the hints of one example.

    Args:
        graph: of the network.
        known: the bounds of every node that the search came to.
        neurons: those with slopes of their own; None where bounds are intervals.
        slopes: for margins, by the activation's position, (K − 1, *shape).
        refuted: domains that cover the set, if it was split.
    """
    place = {i: k for k, i in enumerate(graph.activations)}
    reader = {graph.nodes[i].parents[0]: k for i, k in reversed(place.items())}
    open_ = {
        i: ((low < 0) & (high > 0)).flatten().nonzero().squeeze(1)
        for i in graph.activations
        for low, high in [known[graph.nodes[i].parents[0]]]
    }

    def kept(own: Slopes) -> dict[int, np.ndarray]:
        return {place[i]: steps_of(slope.flatten(1)[:, open_[i]]) for i, slope in own.items()}

    own = neurons or {}
    needed = bool(slopes or own) or refuted is not None
    return Hints(
        bounded=neurons is not None,
        rows={reader[i]: _numpy(rows) for i, (rows, _) in own.items()},
        bent={reader[i]: kept(bent) for i, (_, bent) in own.items()},
        neurons={place[i]: _numpy(rows) for i, rows in open_.items()} if needed else {},
        slopes=kept(slopes),
        branches=None if refuted is None else _branches(refuted),
    )


def kept_of(network: Network, region: Region, label: int, hints: Hints) -> Hints | None:
    """Return the fewest of the hints from which the audit comes to a proof; None where all do not suffice.

    Slopes of neurons' own bounds are most of what there is, and often not needed. A proof of every float32 execution
    is worth more than fewer hints.

    Args:
        network: as the audit has it.
        region: the set of inputs.
        label: y.
        hints: of the search.
    """
    fewer = [replace(hints, rows={}, bent={})] if hints.rows else []
    for unit in (FLOAT32, REAL):
        for some in (*fewer, hints):
            try:
                if proves(margin_of(network, region, label, some, unit)):
                    return some
            except Refused:
                continue
    return None


def _branches(refuted: Rows) -> Branches:
    """Return what proves a margin on each domain, and for each margin the tree whose leaves they are."""
    signs, target = refuted.signs.cpu().numpy(), refuted.target.cpu().numpy()
    which, neuron = np.nonzero(signs)
    literals = (neuron + 1) * signs[which, neuron]
    ends = np.searchsorted(which, np.arange(len(signs) + 1))
    return Branches(
        trees={int(m): _tree(signs, np.flatnonzero(target == m)) for m in np.unique(target)},
        margins=target.astype(np.int32),
        ends=ends.astype(np.int32),
        literals=literals.astype(np.int32),
        multipliers=refuted.multipliers.cpu().numpy()[which, neuron].astype(np.float32),
        slopes=steps_of(refuted.slopes),
    )


def _tree(signs: np.ndarray, leaves: np.ndarray) -> np.ndarray:
    """Return the tree of some domains that cover a set, in preorder: a neuron, its active part, its inactive part.

    A neuron whose sign every one of them has is where they were split first, or may have been.
    """
    preorder, todo = list[int](), [(leaves, np.zeros(signs.shape[1], bool))]
    while todo:
        own, path = todo.pop()
        if len(own) == 1:
            preorder.append(-1 - int(own[0]))
            continue
        # Restricted to one sign, a decision tree is one: whichever such neuron comes first, the rest still covers.
        neuron = int(np.flatnonzero((signs[own] != 0).all(0) & ~path)[0])
        below = path.copy()
        below[neuron] = True
        preorder.append(neuron)
        todo += [(own[signs[own, neuron] == sign], below) for sign in (-1, 1)]
    return np.array(preorder, np.int32)


def steps_of(slope: Tensor) -> np.ndarray:
    """Return slopes in the steps of the audit."""
    return (slope.detach().cpu().double() * STEPS).round().clamp(0, STEPS).to(torch.uint8).numpy()


def _numpy(rows: Tensor) -> np.ndarray:
    return rows.cpu().to(torch.int32).numpy()


def save_hints(path: Path, hints: Hints) -> None:
    """Write hints to one safetensors file, for `Hints.read`."""
    from safetensors.numpy import save

    about = {"saddlepoint-proof": VERSION, "bounded": str(int(hints.bounded))}
    write_bytes(path.absolute(), save(arrays_of_hints(hints), about))


def arrays_of_hints(hints: Hints) -> dict[str, np.ndarray]:
    """Return the arrays of hints by the names that `Hints.of` reads."""
    arrays = {f"neurons/{place}": rows for place, rows in hints.neurons.items()}
    arrays |= {f"slopes/{place}": steps for place, steps in hints.slopes.items()}
    arrays |= {f"rows/{place}": rows for place, rows in hints.rows.items()}
    arrays |= {f"bent/{place}/{j}": steps for place, slopes in hints.bent.items() for j, steps in slopes.items()}
    if (branches := hints.branches) is not None:
        arrays |= {f"tree/{margin}": tree for margin, tree in branches.trees.items()}
        arrays |= {f"leaves/{name}": getattr(branches, name) for name in LEAVES}
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}
