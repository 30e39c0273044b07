"""What proves a bound, kept as hints for an audit that shares no code with the search that found them.

Hints hold no bounds: they say which neurons are bounded by functionals of their own, and the slopes of lines, in steps
of 1/128 (`saddlepoint_audit.proofs`). What they prove is what an audit computes from them, in float64, with allowances
for rounding; a certificate has evidence only where that was tried and came to a proof.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from saddlepoint.certificates.bounds import Bounds
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.intermediate import Neurons
from saddlepoint.certificates.slopes import Slopes
from saddlepoint.results.folder.documents import write_bytes
from saddlepoint_audit.proofs import STEPS, VERSION, Hints, Pass


def hints_of(graph: Graph, known: Bounds, passes: Sequence[Neurons], slopes: Slopes) -> Hints:
    """Return the hints of one example.

    Args:
        graph: of the network.
        known: the bounds of every node that the last pass came to.
        passes: neurons with slopes of their own; none in a pass at default slopes over all neurons that are open.
        slopes: for margins, by the activation's position, (K − 1, *shape).
    """
    place = {i: k for k, i in enumerate(graph.activations)}
    reader = {graph.nodes[i].parents[0]: k for i, k in reversed(place.items())}
    open_ = {
        i: ((low < 0) & (high > 0)).flatten().nonzero().squeeze(1)
        for i in graph.activations
        for low, high in [known[graph.nodes[i].parents[0]]]
    }

    def kept(own: Slopes) -> dict[int, np.ndarray]:
        return {place[i]: _steps(slope.flatten(1)[:, open_[i]]) for i, slope in own.items()}

    made = tuple(
        Pass(
            {reader[i]: _numpy(rows) for i, (rows, _) in neurons.items()} if neurons else None,
            {reader[i]: kept(own) for i, (_, own) in neurons.items()},
        )
        for neurons in passes
    )
    needed = bool(slopes) or any(neurons for neurons in passes)
    return Hints(made, {place[i]: _numpy(rows) for i, rows in open_.items()} if needed else {}, kept(slopes))


def _steps(slope: Tensor) -> np.ndarray:
    return (slope.detach().cpu().double() * STEPS).round().clamp(0, STEPS).to(torch.uint8).numpy()


def _numpy(rows: Tensor) -> np.ndarray:
    return rows.cpu().to(torch.int32).numpy()


def save_hints(path: Path, hints: Hints) -> None:
    """Write hints to one safetensors file, for `Hints.read`."""
    from safetensors.numpy import save

    arrays = {f"neurons/{place}": rows for place, rows in hints.neurons.items()}
    arrays |= {f"slopes/{place}": steps for place, steps in hints.slopes.items()}
    for k, own in enumerate(hints.passes):
        arrays |= {f"rows/{k}/{place}": rows for place, rows in (own.rows or {}).items()}
        arrays |= {
            f"slopes/{k}/{place}/{before}": steps
            for place, slopes in own.slopes.items()
            for before, steps in slopes.items()
        }
    about = {"saddlepoint-proof": VERSION, "passes": str(len(hints.passes))}
    write_bytes(path.absolute(), save({name: np.ascontiguousarray(a) for name, a in arrays.items()}, about))
