"""Branch and bound over the signs of ReLUs, with bounds by optimised slopes and multipliers (Wang et al. 2021).

A pool of domains is worked off in batches: each domain of a batch is split at the neuron that promises most, both
halves are bounded, and what is not refuted goes back. Half of a batch are the domains nearest to being refuted, which
keeps the pool small; half are the farthest, where a counterexample would be.
"""

import bisect
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Tensor

from saddlepoint.certificates.branching.leaves import solved
from saddlepoint.certificates.branching.neurons import Neurons
from saddlepoint.certificates.effort import Effort
from saddlepoint.certificates.slopes import start

BATCH = 32
"""Domains that are split together: their halves fill the caches, and a larger batch prunes too late."""
CANDIDATES = 8
"""Neurons whose halves are bounded before one is chosen: a third of the time, and the tree is 2 to 4 times smaller."""
STEPS = 10
"""Of ascent for a new domain, which begins with its parent's slopes and multipliers."""
_RATES, _DECAY = (0.1, 0.3), 0.97
"""Of Adam for α and β: few large steps; β must grow from 0 to the size of a functional's entries."""
_EARLY = 500
"""Domains after which it shows whether a search will end: half of them are open where nothing is refuted."""
_COMPACT = 0.75
"""The share of open rows below which the refuted ones leave a batch."""


@final
@dataclass(frozen=True, eq=False)
class Rows:
    """N domains as rows of flat tensors.

    Attributes:
        target: which functional is bounded on it, (N,).
        signs: (N, P), int8.
        slopes: α, (N, P).
        multipliers: β, (N, P).
        least: the bound so far, (N,), float64.
        score: by how much the neurons' open signs cost the bound, (N, P).
    """

    target: Tensor
    signs: Tensor
    slopes: Tensor
    multipliers: Tensor
    least: Tensor
    score: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def take(self, places: Tensor) -> "Rows":
        """Return some of them."""
        return Rows(*(getattr(self, name)[places] for name in _FIELDS))

    @staticmethod
    def joined(parts: Sequence["Rows"]) -> "Rows":
        """Return the domains of all parts, one after the other."""
        return Rows(*(torch.cat([getattr(part, name) for part in parts]) for name in _FIELDS))


_FIELDS = ("target", "signs", "slopes", "multipliers", "least", "score")


@final
@dataclass(frozen=True, eq=False)
class Targets:
    """T functionals of the output that have to be positive.

    Attributes:
        rows: (T, *shape of the output), numbers of the graph's type without rounding.
        thresholds: what each must exceed, (T,), float64.
    """

    rows: Tensor
    thresholds: Tensor


Look = Callable[[Tensor, Tensor], bool]
"""Told points of the set, (N, *shape), and the target of each: whether a counterexample was found from there."""


@final
@dataclass(eq=False)
class Pool:
    """Open domains, by their bounds."""

    entries: list[tuple[float, int, Rows]] = field(default_factory=list)
    added: int = 0

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def least(self) -> float:
        """The least bound."""
        return self.entries[0][0] if self.entries else math.inf

    def add(self, rows: Rows) -> None:
        """Put domains in."""
        for place, bound in enumerate(rows.least.tolist()):
            own = Rows(*(getattr(rows, name)[place : place + 1].clone() for name in _FIELDS))
            self.added += 1
            bisect.insort(self.entries, (bound, self.added, own), key=lambda entry: entry[:2])

    def draw(self, count: int) -> Rows:
        """Take out half of them from either end."""
        high = min(len(self), count - count // 2)
        drawn = [self.entries.pop() for _ in range(high)]
        low = min(len(self), count // 2)
        drawn += self.entries[:low]
        del self.entries[:low]
        return Rows.joined([rows for _, _, rows in drawn])


@final
@dataclass(frozen=True, slots=True)
class Searched:
    """How a search ended.

    Attributes:
        least: the least bound of what is left, or of all leaves if nothing is.
        domains: how many were bounded.
        falsified: whether a counterexample was found.
        expired: whether time ended it.
        stuck: whether it met a domain in which every sign is given, and which is not refuted.
        growing: whether it was given up because what is open grew.
        refuted: the domains that cover the set, if all are refuted and they were to be kept.
    """

    least: float
    domains: int
    falsified: bool = False
    expired: bool = False
    stuck: bool = False
    growing: bool = False
    refuted: Rows | None = None


def search(
    neurons: Neurons,
    double: Callable[[], Neurons],
    targets: Targets,
    begin: Rows,
    effort: Effort,
    look: Look,
    *,
    trial: float = 0,
    keep: bool = False,
) -> Searched:
    """Split until every domain is refuted, a counterexample is found, or the effort is spent.

    Args:
        neurons: what may be split.
        double: the same in float64, for bounds that rounding leaves open.
        targets: what has to be positive.
        begin: the domains to begin with.
        effort: whose deadline and number of domains end the search.
        look: for counterexamples.
        trial: domains within which it is given up where, after `_EARLY` of them, more than a fifth of all is open.
        keep: whether to return what was refuted.
    """
    pool, domains, round_, took = Pool(), 0, 0, 0.0
    # Written so that NaN is open.
    open_ = ~(begin.least > 0)
    least = min([math.inf, *begin.least[~open_].tolist()])
    pool.add(begin.take(open_))
    refuted = [begin.take(~open_)]
    while len(pool):
        began = time.monotonic()
        # A round is not begun that would end too late: a late answer is none.
        expired, growing = effort.left <= took, _EARLY <= domains < trial and 5 * len(pool) > domains
        if expired or growing or domains >= effort.domains:
            return Searched(pool.least, domains, expired=expired, growing=growing)
        drawn = pool.draw(BATCH)
        whole = (drawn.signs != 0).all(1)
        if bool(whole.any()):
            ends, points, leaves = _leaves(double(), targets, drawn.take(whole))
            refuted += [leaves] if keep else []
            stuck = ~(ends > 0)  # NaN proves nothing
            if bool(stuck.any()):
                falsified = look(points[stuck], drawn.target[whole][stuck])
                return Searched(min(pool.least, float(drawn.least.min())), domains, falsified, stuck=True)
            least, drawn = min([least, *ends.tolist()]), drawn.take(~whole)
        if len(drawn):
            made, points = improved(neurons, double, targets, halved(neurons, targets, drawn))
            domains, open_ = domains + len(made), ~(made.least > 0)
            least = min([least, *made.least[~open_].tolist()])
            pool.add(made.take(open_))
            refuted += [made.take(~open_)] if keep else []
            # After 1, 3, 7, … rounds: descents cost as much as a round, and early points are as good as late ones.
            if (round_ & (round_ + 1)) == 0 and bool(open_.any()) and look(points[open_], made.target[open_]):
                return Searched(pool.least, domains, falsified=True)
        round_, took = round_ + 1, time.monotonic() - began
    return Searched(least, domains, refuted=Rows.joined(refuted) if keep else None)


@torch.no_grad()
def _leaves(neurons: Neurons, targets: Targets, rows: Rows) -> tuple[Tensor, Tensor, Rows]:
    """Return proven bounds of domains in which every sign is given, in float64, a point of each, and their proofs."""
    leaves = [
        solved(neurons, targets.rows[row].double(), signs) for row, signs in zip(rows.target, rows.signs, strict=True)
    ]
    multipliers = torch.stack([leaf.multipliers for leaf in leaves])
    middle = (neurons.region.lower[0] + neurons.region.upper[0]) / 2
    points = torch.stack([middle if leaf.point is None else leaf.point for leaf in leaves])
    proofs = replace(rows, multipliers=multipliers)
    return _confirmed(neurons, targets, rows, rows.slopes, multipliers), points, proofs


@torch.no_grad()
def halved(neurons: Neurons, targets: Targets, rows: Rows) -> Rows:
    """Return both halves of each domain, split where that promises most; each has a neuron whose sign is open.

    The candidates are those whose chord costs the bound most; both halves of each are bounded as they are, and
    min + ½ max decides.
    """
    count = min(CANDIDATES, neurons.count)
    cost, places = rows.score.masked_fill(rows.signs != 0, torch.inf).topk(count, dim=1, largest=False)
    wide = torch.arange(len(rows), device=places.device).repeat_interleave(2 * count)
    signs = rows.signs[wide]
    signs.scatter_(1, places.repeat_interleave(2, 1).reshape(-1, 1), _alternating(len(signs), signs.device))
    least = _least(neurons, targets, rows.target[wide], signs, rows.slopes[wide], rows.multipliers[wide])
    both = least.reshape(len(rows), count, 2)
    # The worse half says how long the search goes on, the better one how soon a half leaves it.
    value = (both.amin(2) + both.amax(2) / 2).masked_fill(cost.isinf(), -torch.inf)
    best = value.argmax(1)
    twice = torch.arange(len(rows), device=places.device).repeat_interleave(2)
    chosen = rows.take(twice)
    neuron = places.gather(1, best[:, None])[twice]
    signs = chosen.signs.scatter(1, neuron, _alternating(len(twice), twice.device))
    return Rows(chosen.target, signs, chosen.slopes, chosen.multipliers, chosen.least, chosen.score)


def _alternating(count: int, device: torch.device) -> Tensor:
    """Return 1, −1, 1, −1, …, (count, 1)."""
    return (1 - 2 * (torch.arange(count, device=device) % 2)).to(torch.int8)[:, None]


def _least(
    neurons: Neurons, targets: Targets, target: Tensor, signs: Tensor, slopes: Tensor, multipliers: Tensor
) -> Tensor:
    """Return bounds without allowance, many at a time."""
    parts = []
    for part in torch.arange(len(signs), device=signs.device).split(8 * BATCH):  # type: ignore[no-untyped-call]
        own = signs[part]
        bounded = neurons.bound(targets.rows[target[part]], own, slopes[part], multipliers[part], neurons.upper(own))
        parts.append(bounded.least - targets.thresholds[target[part]])
    return torch.cat(parts)


def started(
    neurons: Neurons,
    double: Callable[[], Neurons],
    targets: Targets,
    least: Tensor,
    slopes: Mapping[int, Tensor],
    steps: int = STEPS,
) -> Rows:
    """Return the whole set as one domain for each target.

    Args:
        neurons: what may be split.
        double: the same in float64.
        targets: what has to be positive, T of them.
        least: their bounds, (T,), float64.
        slopes: to begin with, by the activation's position, (T, *shape); default ones where there are none.
        steps: of ascent.
    """
    count = len(targets.thresholds)
    default = {i: s.expand(count, *s.shape[1:]) for i, s in start(neurons.graph, neurons.ranges, 1).items()}
    flat = neurons.gathered({i: slopes.get(i, default[i]) for i in default}).contiguous()
    zeros = torch.zeros_like(flat)
    places = torch.arange(count, device=flat.device)
    whole = Rows(places, zeros.to(torch.int8), flat, zeros, least, zeros)
    return improved(neurons, double, targets, whole, steps)[0]


def improved(
    neurons: Neurons, double: Callable[[], Neurons], targets: Targets, rows: Rows, steps: int = STEPS
) -> tuple[Rows, Tensor]:
    """Return the domains with bounds by ascent on slopes and multipliers, proven, and a minimiser of each.

    Args:
        neurons: what may be split.
        double: the same in float64.
        targets: what has to be positive.
        rows: the domains, with the slopes and multipliers to begin with.
        steps: of ascent.
    """
    slopes, multipliers = _ascended(neurons, targets, rows, steps)
    with torch.no_grad():
        read: dict[int, Tensor] = {}
        upper = neurons.upper(rows.signs)
        own, thresholds = targets.rows[rows.target], targets.thresholds[rows.target]
        bounded = neurons.bound(own, rows.signs, slopes, multipliers, upper, careful=True, read=read)
        least = bounded.least - thresholds
        # What float32 computes as positive, and its rounding leaves open, float64 decides.
        unsure = ((least <= 0) & (least > -_UNSURE * own.abs().flatten(1).amax(1))).nonzero().squeeze(1)
        if len(unsure) and own.dtype != torch.float64:
            least[unsure] = _confirmed(double(), targets, rows.take(unsure), slopes[unsure], multipliers[unsure])
        arrived = neurons.gathered({i: a.squeeze(1) for i, a in read.items()})
        lower, high = neurons.ends
        # What the chord of an open neuron costs: A times the intercept, where A is negative.
        score = arrived.clamp(max=0) * (-lower * high / (high - lower))
        # What holds on a domain holds on its halves, even where the ascent has found less there.
        least = torch.maximum(least, rows.least).nan_to_num(nan=-torch.inf)  # NaN proves nothing
        made = Rows(rows.target, rows.signs, slopes, multipliers, least, score)
        return made, minimiser(neurons, bounded.slope)


_UNSURE = 0.05
"""Bounds nearer to 0 than this are computed again in float64: its allowance is far smaller."""


@torch.no_grad()
def _confirmed(neurons: Neurons, targets: Targets, rows: Rows, slopes: Tensor, multipliers: Tensor) -> Tensor:
    upper = neurons.upper(rows.signs)
    own = targets.rows[rows.target].double()
    bounded = neurons.bound(own, rows.signs, slopes.double(), multipliers.double(), upper, careful=True)
    return bounded.least - targets.thresholds[rows.target]


def minimiser(neurons: Neurons, slope: Tensor) -> Tensor:
    """Return a corner of the box where each functional is least, (N, *shape), float64."""
    lower, upper = neurons.region.lower, neurons.region.upper
    return torch.where(slope > 0, lower, upper)


def _ascended(neurons: Neurons, targets: Targets, rows: Rows, steps: int) -> tuple[Tensor, Tensor]:
    """Return slopes and multipliers of the best bounds that projected Adam meets; refuted rows leave it."""
    slopes, multipliers = rows.slopes.clone(), rows.multipliers.clone()
    best = torch.full_like(rows.least, -torch.inf)
    live = torch.arange(len(rows), device=rows.least.device)
    state = _Adam.of(rows)
    for step in range(steps):
        value = state.value(neurons, targets)
        better = value > best[live]
        best[live] = torch.where(better, value, best[live])
        slopes[live[better]], multipliers[live[better]] = state.alpha[better].detach(), state.beta[better].detach()
        open_ = best[live] <= 0
        if not bool(open_.any()):
            return slopes, multipliers
        state.step(step)
        if int(open_.sum()) < _COMPACT * len(live):
            live, state = live[open_], state.take(open_)
    with torch.no_grad():
        value = state.value(neurons, targets)
        better = value > best[live]
        slopes[live[better]], multipliers[live[better]] = state.alpha[better].detach(), state.beta[better].detach()
    return slopes, multipliers


@final
@dataclass(eq=False)
class _Adam:
    """Adam on the slopes and multipliers of some domains (Kingma & Ba 2015), projected to where they are allowed."""

    rows: Rows
    alpha: Tensor
    beta: Tensor
    moments: tuple[Tensor, Tensor, Tensor, Tensor]
    upper: object = None
    gradient: tuple[Tensor, Tensor] | None = None

    @staticmethod
    def of(rows: Rows) -> "_Adam":
        alpha, beta = (part.clone().requires_grad_() for part in (rows.slopes, rows.multipliers))
        zeros = torch.zeros_like(rows.slopes)
        return _Adam(rows, alpha, beta, (zeros, zeros.clone(), zeros.clone(), zeros.clone()))

    def value(self, neurons: Neurons, targets: Targets) -> Tensor:
        """Return the bounds, (N,), and keep their gradient if one is recorded."""
        if self.upper is None:
            with torch.no_grad():
                self.upper = neurons.upper(self.rows.signs)
        own = targets.rows[self.rows.target]
        least = neurons.bound(own, self.rows.signs, self.alpha, self.beta, self.upper).least  # type: ignore[arg-type]
        if torch.is_grad_enabled():
            slopes, multipliers = torch.autograd.grad(least.sum(), (self.alpha, self.beta))
            self.gradient = slopes, multipliers
        return least.detach() - targets.thresholds[self.rows.target]

    @torch.no_grad()
    def step(self, count: int) -> None:
        """Take one step uphill."""
        assert self.gradient is not None  # noqa: S101 - `value` was called
        split = self.rows.signs != 0
        for place, (x, gradient, rate) in enumerate(zip((self.alpha, self.beta), self.gradient, _RATES, strict=True)):
            first, second = self.moments[2 * place], self.moments[2 * place + 1]
            first.lerp_(gradient, 0.1)
            second.lerp_(gradient.square(), 0.001)
            size = (second / (1 - 0.999 ** (count + 1))).sqrt_().add_(1e-8)
            x.add_(rate * _DECAY**count * first / (1 - 0.9 ** (count + 1)) / size)
        self.alpha.clamp_(0, 1)
        # A multiplier is the price of a sign that is given; where none is, there is none to pay.
        self.beta.clamp_(min=0).mul_(split)

    def take(self, places: Tensor) -> "_Adam":
        """Return the same of some domains."""
        alpha, beta = (part.detach()[places].requires_grad_() for part in (self.alpha, self.beta))
        first, second, third, fourth = (part[places] for part in self.moments)
        return _Adam(self.rows.take(places), alpha, beta, (first, second, third, fourth))
