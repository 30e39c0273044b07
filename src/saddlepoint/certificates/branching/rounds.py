"""The whole search: split at the signs of neurons; where what is open grows, tighten the neurons and begin again."""

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from torch import Tensor

from saddlepoint.certificates.bounds import Bounds
from saddlepoint.certificates.branching.neurons import Neurons
from saddlepoint.certificates.branching.splitting import Look, Searched, Targets, search, started
from saddlepoint.certificates.branching.tightening import bounded, tightened
from saddlepoint.certificates.effort import Effort
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.sets import InputSet

FIRST, LATER = 4000, 4
"""Domains for the neurons' own bounds after the first search, and how many times as many after each later one."""
DEEPEST = 6
"""How often the domain of a neuron's bound is halved at most."""


def branch(
    graphs: tuple[Graph, Graph],
    region: InputSet,
    known: Bounds,
    targets: Targets,
    least: Tensor,
    slopes: Mapping[int, Tensor],
    effort: Effort,
    look: Look,
    *,
    keep: bool = False,
) -> Searched:
    """Split one set until every target is positive on every part, or the effort is spent.

    Args:
        graphs: the network in float32 and in float64.
        region: the set.
        known: bounds of every node over it.
        targets: what has to be positive.
        least: the bounds of these over the whole set, (T,), float64.
        slopes: that they rest on, by the activation's position, (T, *shape); default ones where there are none.
        effort: memory, time and domains.
        look: for counterexamples.
        keep: whether to return what was refuted; not where neurons' bounds were tightened on the way.
    """
    spent, depth, share = 0, 0, FIRST
    while True:
        neurons = Neurons(graphs[0], region, known)
        double = partial(neurons.double, graphs[1])
        begin = started(neurons, double, targets, least, slopes)
        own, least = replace(effort, domains=effort.domains - spent), begin.least
        count = bounded(graphs[0], known)
        # At least once more than before. Of the domains that are left, half are for neurons, a quarter for a trial.
        deeper = min(max(depth + 1, _depth(count, share)), _depth(count, own.domains / 2))
        trial = own.domains / 4 if deeper > depth else 0
        begun = time.monotonic()
        ended = search(neurons, double, targets, begin, own, look, trial=trial, keep=keep and depth == 0)
        spent += ended.domains
        # A batch of neurons' bounds takes about as long as a search that was given up, and is not interrupted.
        late = effort.left < 2 * (time.monotonic() - begun)
        if not ended.growing or late:
            return replace(ended, domains=spent, expired=ended.expired or (ended.growing and late))
        half = replace(effort, deadline=time.monotonic() + effort.left / 2)
        known, domains = tightened(graphs, region, known, deeper, half)
        depth, share, spent = deeper, share * LATER, spent + domains


def _depth(count: int, domains: float) -> int:
    """Return how often each of `count` domains can be halved: 1 + 2 + 4 + … of each are bounded on the way."""
    return max((depth for depth in range(DEEPEST + 1) if count * ((2 << depth) - 1) <= domains), default=0)
