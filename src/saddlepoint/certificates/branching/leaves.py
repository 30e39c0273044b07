"""Domains in which every sign is given: there the network is affine, and a linear program has the best multipliers.

    min ⟨r, h(x)⟩   over x in the box with s_j z_j(x) ≥ 0 for every split neuron j

The program is not trusted: its dual variables are multipliers β like any other, and the bound that follows from them is
computed as everywhere. Of an empty domain, the duals of min t with s_j z_j(x) + t ≥ 0 show that it is empty.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saddlepoint.certificates.branching.neurons import Neurons
from saddlepoint.certificates.crown import Relaxation, backward
from saddlepoint.certificates.functionals import units

_Array = NDArray[np.float64]


class Leaf(NamedTuple):
    """Multipliers of the best bound, (P,), and a point where it is attained, (*shape); None of an empty domain."""

    multipliers: Tensor
    point: Tensor | None


@torch.no_grad()
def solved(neurons: Neurons, row: Tensor, signs: Tensor) -> Leaf:
    """Return the multipliers that bound a functional of the output best on a domain.

    Args:
        neurons: in float64.
        row: the functional, (*shape of the output).
        signs: of the domain, (P,), none of them 0.
    """
    from scipy.optimize import linprog  # a third of a second, which few networks need

    low, high = (side.flatten().cpu().numpy() for side in (neurons.region.lower, neurons.region.upper))
    forms = [_forms(neurons, signs, i) for i in neurons.places]
    matrix, offset = np.concatenate([a for a, _ in forms]), np.concatenate([b for _, b in forms])
    sign = signs.double().cpu().numpy()
    cost, constant = _form_of(neurons, signs, row)
    best = linprog(cost, A_ub=-sign[:, None] * matrix, b_ub=sign * offset, bounds=np.stack([low, high], 1))
    if best.status == 0:
        point = torch.from_numpy(best.x).to(row).reshape(neurons.graph.shape)
        return Leaf(torch.from_numpy(-best.ineqlin.marginals).to(row).clamp(min=0), point)
    ends = np.stack([np.append(low, 0.0), np.append(high, np.inf)], 1)
    wide = np.concatenate([-sign[:, None] * matrix, -np.ones((len(sign), 1))], 1)
    empty = linprog(np.append(np.zeros(len(cost)), 1.0), A_ub=wide, b_ub=sign * offset, bounds=ends)
    if empty.status != 0 or not empty.fun > 0:
        return Leaf(row.new_zeros(len(sign)), None)
    least = constant + np.where(cost > 0, cost * low, cost * high).sum()
    share = (1 + 2 * max(0.0, -least)) / empty.fun
    return Leaf(torch.from_numpy(-empty.ineqlin.marginals * share).to(row).clamp(min=0), None)


def _forms(neurons: Neurons, signs: Tensor, position: int) -> tuple[_Array, _Array]:
    """Return the inputs of an activation's split neurons as affine functions of x: (n, inputs) and (n,)."""
    parent = neurons.graph.nodes[position].parents[0]
    start = units(neurons.graph.nodes[parent].shape, neurons.places[position], neurons.known[0][0], 1, (1,))
    functional = backward(neurons.graph, _lines(neurons, signs), parent, start)
    slope = functional.slope(neurons.graph)[0].flatten(1).double().cpu().numpy()
    return slope, functional.constant[0].double().cpu().numpy()


def _form_of(neurons: Neurons, signs: Tensor, row: Tensor) -> tuple[_Array, float]:
    zeros = row.new_zeros(1, neurons.count)
    read = neurons.bound(row[None], signs[None], zeros, zeros, neurons.upper(signs[None]))
    slope = read.slope[0].flatten().double()
    low, high = neurons.region.lower.flatten(), neurons.region.upper.flatten()
    return slope.cpu().numpy(), float(read.least[0] - torch.where(slope > 0, slope * low, slope * high).sum())


def _lines(neurons: Neurons, signs: Tensor) -> Relaxation:
    zeros = neurons.known[0][0].new_zeros(1, neurons.count)
    return neurons.lines(signs[None], zeros, zeros, neurons.upper(signs[None]), None)
