"""`prove`: whether a network has a property, shown by a proof or by a counterexample."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor, nn

from saddlepoint.certificates.api import graphs_of
from saddlepoint.certificates.branching.refutation import Refuted, refute
from saddlepoint.certificates.branching.splitting import Targets
from saddlepoint.certificates.effort import MEMORY, Effort
from saddlepoint.certificates.graph import Graph
from saddlepoint.certificates.listing import listing_of
from saddlepoint.certificates.sets import Box as Region
from saddlepoint.classifier import Classifier
from saddlepoint.errors import CertificateError, InputError, ModelError
from saddlepoint.models import onnx
from saddlepoint.models.onnx.replay import replay
from saddlepoint.properties.falsify import Aim, descend, starts
from saddlepoint.properties.proof import Arithmetic, asked_by, kept
from saddlepoint.properties.property import Array, Box, Clause, Property
from saddlepoint.properties.vnnlib import read_property
from saddlepoint.properties.witness import Network, Witness, confirmed
from saddlepoint_audit.files import Refused
from saddlepoint_audit.properties import Question

Outcome = Literal["sat", "unsat", "unknown", "timeout"]

_STARTS, _TRIED = 16, 8
"""Descents for each clause at the beginning, and points of each search that are replayed at most."""


@final
@dataclass(frozen=True, eq=False)
class Answer:
    """Whether a network has a property.

    Attributes:
        outcome: "unsat": no input meets a clause, proven in real arithmetic; "sat": `witness` does; "timeout" or
            "unknown": the time or the effort was spent before either was shown.
        witness: the counterexample, as the untouched file computes it.
        least: the proven least violation over all clauses: positive for "unsat"; −∞ where nothing was bounded.
        method: the last that was needed.
        domains: parts that were bounded by branch and bound.
        seconds: from the call to the answer.
        proof: whether the proof that was written holds of every float32 execution or of real arithmetic; None if none
            was.
    """

    outcome: Outcome
    witness: Witness | None
    least: float
    method: str
    domains: int
    seconds: float
    proof: Arithmetic | None = None


def prove(
    network: str | Path,
    prop: str | Path | Property,
    *,
    timeout: float | None = None,
    domains: int | None = None,
    memory: int = MEMORY,
    seed: int = 0,
    attack: bool = True,
    proof: str | Path | None = None,
) -> Answer:
    """Show that no input meets a property's clauses, or find one that does.

    Attacks look for a counterexample, bounds refute clause by clause: intervals, CROWN, α-CROWN, then branch and bound
    over the signs of neurons (Wang et al. 2021).

    Args:
        network: an ONNX file, which may be compressed by gzip.
        prop: a VNN-LIB file of version 1 or 2, which may be compressed by gzip, or a property.
        timeout: seconds for everything; none when not given.
        domains: how many parts branch and bound may bound, which, unlike seconds, can be repeated; any when not given.
        memory: bytes that linear functionals may take.
        seed: of the attacks.
        attack: whether to look for counterexamples; without it the answer is never "sat".
        proof: where to write the proof of "unsat" for `python -m saddlepoint_audit`, of a file of VNN-LIB 1; that takes
            longer than `timeout` says, and may fail, for then `Answer.proof` is None.

    Raises:
        InputError: a file cannot be read, has weights of float64 that float32 does not hold, does not fit the other, or
            an argument cannot be used.
        ModelError: no counterexample was met, and nothing can be proven: an operation of the network has no rule, or
            its graph computes something else than the file.
    """
    began = time.monotonic()
    effort = Effort.within(memory, timeout, math.inf if domains is None else domains)
    declared = prop if isinstance(prop, Property) else read_property(prop)
    asked, declared = ([], declared) if proof is None else _asked(Path(proof), prop, declared)
    classifier, shape = _loaded(str(network), declared)
    graphs, refusal = _graphs(classifier, shape)
    outputs = max(2, declared.outputs)  # of one alone, `_Padded` makes two
    search = _Search(classifier, replay(Path(network)), shape, outputs, graphs, effort, seed, attack, proof is not None)
    least, method, count, parts = math.inf, "interval", 0, list[Refuted]()
    boxes = declared.by_box()
    if not all(bool(np.isfinite(box.outer).all()) for box, _ in boxes):
        raise InputError("a bound of an input is beyond any float; expected numbers below 1e308 in size")
    for box, clauses in boxes:
        refuted, witness = search.box(box, clauses, count)
        least, method, count = min(least, *refuted.least), refuted.method, count + refuted.domains
        parts.append(refuted)
        if witness is not None:
            return Answer("sat", witness, least, "attack", count, time.monotonic() - began)
        if not refuted.proven and refusal is None:
            outcome: Outcome = "timeout" if refuted.expired else "unknown"
            return Answer(outcome, None, least, method, count, time.monotonic() - began)
    if refusal is not None:
        raise refusal
    shown = None if proof is None else _kept(Path(proof), classifier, shape, asked, parts)
    return Answer("unsat", None, least, method, count, time.monotonic() - began, shown)


def _kept(
    proof: Path, classifier: Classifier, shape: tuple[int, ...], asked: list[Question], parts: list[Refuted]
) -> Arithmetic | None:
    """Write the proof, if there is one; of networks that the audit does not know there is none."""
    try:
        return kept(proof, listing_of(classifier, shape), asked, parts)
    except (ModelError, Refused):
        return None


def _asked(proof: Path, prop: str | Path | Property, declared: Property) -> tuple[list[Question], Property]:
    if proof.is_dir() or not proof.absolute().parent.is_dir():
        raise InputError(f"the proof cannot be written to {str(proof)!r}; expected a file in a folder that there is")
    if isinstance(prop, Property):
        raise InputError("a proof is of a file that others can read; expected the property as a VNN-LIB file")
    return asked_by(Path(prop), declared)


@final
class _Padded(nn.Module):
    """A network of one output as one of two, the second always 0: a classifier has two at least."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return (y, 0)."""
        return nn.functional.pad(self.network(x), (0, 1))


def _loaded(place: str, declared: Property) -> tuple[Classifier, tuple[int, ...]]:
    """Return the network of a file, and the shape of one input, if they are those of the property."""
    classifier = onnx.load(place, None, logits=False, numbers=declared.inputs)
    if (name := onnx.inexact(Path(place))) is not None:
        raise InputError(
            f"the weights {name[:60]!r} are float64 numbers that float32 does not hold: a proof would be of others; "
            "expected float32 weights"
        )
    assert isinstance(classifier.module, (onnx.Network, onnx.EachRow))  # noqa: S101 - `onnx.load` makes no other
    shape = classifier.module.input_shape
    with torch.no_grad():
        outputs = classifier.module(torch.zeros(1, *shape)).shape[1]
    for kind, own, other in (("inputs", declared.inputs, math.prod(shape)), ("outputs", declared.outputs, outputs)):
        if own != other:
            raise InputError(f"the property has {own} {kind} and the network {other}; expected as many")
    return (classifier if outputs > 1 else Classifier(_Padded(classifier.module))), shape


def _graphs(classifier: Classifier, shape: tuple[int, ...]) -> tuple[tuple[Graph, Graph] | None, ModelError | None]:
    """Return the graphs that bounds are of, or why there are none: a counterexample needs none."""
    try:
        return graphs_of(classifier, shape), None
    except ModelError as error:
        return None, error


@final
@dataclass(frozen=True, eq=False)
class _Search:
    """One network, and what is done for each box of a property."""

    classifier: Classifier
    untouched: Network
    shape: tuple[int, ...]
    outputs: int
    graphs: tuple[Graph, Graph] | None
    effort: Effort
    seed: int
    attack: bool
    keep: bool

    def box(self, box: Box, clauses: Sequence[Clause], spent: int) -> tuple[Refuted, Witness | None]:
        """Refute the clauses over a box, or return a witness of one; some domains are spent already."""
        disjuncts = [self._disjunct(clause) for clause in clauses]
        aim, witnesses = self._aim(box, disjuncts) if self.attack else None, list[Witness]()

        def look(points: Tensor, targets: Tensor) -> bool:
            if aim is not None:
                witnesses.extend(self._descended(aim, clauses, points.to(aim.lower), targets))
            return bool(witnesses)

        if aim is not None:
            free = [clause for clause in clauses if not clause.constraints]  # met by any input
            middle = (box.outer[0] + box.outer[1])[None] / 2
            witnesses += self._replayed(free, middle) or self._descended(aim, clauses, *self._starts(aim, clauses))
            if witnesses:
                return Refuted((-math.inf,) * len(clauses), 0, "attack", falsified=True), witnesses[0]
        if self.graphs is None:
            return Refuted((-math.inf,) * len(clauses), 0, "attack"), None
        graphs, disjuncts = _bounded(self.graphs, disjuncts)
        low, high = (torch.from_numpy(side).reshape(1, *self.shape) for side in box.outer)
        effort = replace(self.effort, domains=self.effort.domains - spent)
        refuted = refute(graphs, Region(low, high), disjuncts, effort, look, keep=self.keep)
        if refuted.proven:
            self._challenge(box, clauses)
        return refuted, witnesses[0] if witnesses else None

    def _starts(self, aim: Aim, clauses: Sequence[Clause]) -> tuple[Tensor, Tensor]:
        points, clause = starts(aim, len(clauses), _STARTS, self.seed)
        constrained = torch.tensor([bool(own.constraints) for own in clauses])[clause]
        return points[constrained], clause[constrained]

    def _disjunct(self, clause: Clause) -> Targets:
        """Return the constraints that must not all be met."""
        rows = torch.zeros(len(clause.constraints), self.outputs, dtype=torch.float64)
        thresholds = torch.zeros(len(rows), dtype=torch.float64)
        for place, constraint in enumerate(clause.constraints):
            coefficients, thresholds[place] = constraint.scaled()
            rows[place, list(coefficients)] = torch.tensor(list(coefficients.values()), dtype=torch.float64)
        return Targets(rows, thresholds)

    def _aim(self, box: Box, disjuncts: Sequence[Targets]) -> Aim | None:
        """Return what an attack aims at; None where the box holds no float32 point."""
        low, high = box.inner
        if bool((low > high).any()):
            return None
        lower, upper = (torch.from_numpy(side).reshape(self.shape) for side in (low, high))
        rows, thresholds = (torch.cat([getattr(own, name) for own in disjuncts]) for name in ("rows", "thresholds"))
        of = torch.arange(len(disjuncts)).repeat_interleave(torch.tensor([len(own.thresholds) for own in disjuncts]))
        return Aim(lower, upper, rows.float(), thresholds.float(), of)

    def _descended(self, aim: Aim, clauses: Sequence[Clause], points: Tensor, clause: Tensor) -> list[Witness]:
        """Return a witness, if descents from these points end in one."""
        if not len(points):
            return []
        with self.classifier.frozen() as model:
            best = descend(model.logits, aim, points, clause)
        return self._replayed(clauses, best[:_TRIED].flatten(1).double().numpy())

    def _replayed(self, clauses: Sequence[Clause], points: Array) -> list[Witness]:
        witnesses = (confirmed(self.untouched, clause, points) for clause in clauses)
        return [witness for witness in witnesses if witness is not None][:1]

    def _challenge(self, box: Box, clauses: Sequence[Clause]) -> None:
        """Hold a proof against the untouched file at some points of the box.

        Raises:
            CertificateError: one of them is a counterexample.
        """
        low, high = box.outer
        draws = np.random.default_rng(self.seed).random((_TRIED, len(low)))
        draws[::2] = draws[::2].round()
        # Half corners, half inner points: a wrong graph or a wrong reading of the file shows anywhere.
        points = low + (high - low) * draws
        if self._replayed(clauses, points):
            raise CertificateError(
                "a clause was refuted, and the network meets it at a point of the box: that is a bug of saddlepoint; "
                "please report it with both files"
            )


def _bounded(graphs: tuple[Graph, Graph], disjuncts: Sequence[Targets]) -> tuple[tuple[Graph, Graph], list[Targets]]:
    """Return the graphs whose types hold the constraints exactly, and the constraints in the first one's type."""
    narrow = all(bool((own.rows.float().double() == own.rows).all()) for own in disjuncts)
    graphs = graphs if narrow else (graphs[1], graphs[1])
    shape, dtype = graphs[0].nodes[-1].shape, graphs[0].dtype
    return graphs, [replace(own, rows=own.rows.to(dtype).reshape(-1, *shape)) for own in disjuncts]
