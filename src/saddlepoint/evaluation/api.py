"""`evaluate`: a model, data and threats in; records in a run folder, and the bracket that follows from them."""

import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from saddlepoint.attacks import FAST, Step, able
from saddlepoint.attacks.wrappers import check_suite
from saddlepoint.certificates import Graph, graphs_of
from saddlepoint.certificates.bounds import work
from saddlepoint.certificates.listing import listing_of
from saddlepoint.certificates.lowering import check_layers
from saddlepoint.certificates.methods import METHODS
from saddlepoint.certificates.sets import around
from saddlepoint.certificates.smoothing import SmoothedClassifier, samples_needed
from saddlepoint.classifier import Classifier
from saddlepoint.data.datasets import Dataset, as_dataset, matched, question_data
from saddlepoint.errors import InputError, SaddlepointError
from saddlepoint.evaluation.claims import EVIDENCE, write_claims
from saddlepoint.evaluation.earlier_run import points_of
from saddlepoint.evaluation.escalation import escalated
from saddlepoint.evaluation.executors import HERE, Executor
from saddlepoint.evaluation.job import Job
from saddlepoint.evaluation.notebook import notebook
from saddlepoint.evaluation.reading import one_line, readable
from saddlepoint.evaluation.sanity import check
from saddlepoint.evaluation.session import Done, Observe, run
from saddlepoint.evaluation.spec import Spec, ThreatModel, described_data, described_model
from saddlepoint.evaluation.stopping import Ends, Until
from saddlepoint.geometry import Ball
from saddlepoint.results import Bracket, Judgement, Record, RunFolder, brackets, judgements, open_run, percent
from saddlepoint.results.records.bracket import UNION, largest, union
from saddlepoint.results.records.record import VOTES
from saddlepoint.typing import Images

ACTIVATIONS = 8e6
"""Of the layers for one image: networks with more are attacked at once, and not exported."""
WORK = 3e11
"""Multiplications that CROWN may take for an example, unless it is asked for by name: ten seconds, or some more."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation has found; everything follows from the records.

    Attributes:
        run: the run folder, as it was at the end.
        done: how far it is.
        note: one line about certificates that did not run, and why; None if all did that were asked for.
        until: what could end it early.
        before: the run whose sample was broken, so that what stood met longer attacks in this one; None if none was.
    """

    run: RunFolder
    done: Done
    note: str | None = None
    until: Until = Until()  # noqa: RUF009 - frozen
    before: RunFolder | None = None

    @property
    def ends(self) -> Ends:
        """Between which shares the accuracies of all examples lie under the last threat, also if some lack records.

        It holds whenever one stops, at 95 % jointly: those that were are the first of a random order (`Until`).
        """
        return self.until.ends(self.done.seen, self.done.whole, self.done.brackets[-1], len(self.done.brackets))

    def rows(self) -> Any:  # noqa: ANN401 - pyarrow has no types
        """Return the records as a pyarrow.Table, one row each."""
        return self.run.rows()

    def records(self) -> list[Record]:
        """Return the records: `Attacked`, `Certified`, `Voted` or `Failed`."""
        return self.run.records()

    def judgements(self) -> list[Judgement]:
        """Return how each example stands under each threat."""
        return list(self._judged)

    @cached_property
    def _judged(self) -> tuple[Judgement, ...]:
        return tuple(judgements(self.records()))

    @cached_property
    def brackets(self) -> list[Bracket]:
        """One bracket per threat, by norm and ε: what was asked for says whether anything was proven or searched."""
        spec = self.run.spec
        proven, searched = bool(spec["certify"]), bool(spec["suite"])
        return [replace(bracket, proven=proven, searched=searched) for bracket in brackets(self._judged)]

    @cached_property
    def robust_accuracy(self) -> Bracket:
        """The bracket at the largest ε; of several norms that of all balls at once, `union`."""
        proven, searched = self.brackets[-1].proven, self.brackets[-1].searched
        several = len(largest(self.brackets)) > 1
        return replace(union(self._judged), proven=proven, searched=searched) if several else self.brackets[-1]

    @property
    def _shown(self) -> list[Bracket]:
        """The brackets, and that of all balls at once where there are several norms."""
        whole = self.robust_accuracy
        return [*self.brackets, *([whole] if whole.norm == UNION else [])]

    def __repr__(self) -> str:
        """Return the brackets, one line each, where the records are, and what did not run."""
        lines = [" · ".join(_cells(bracket)) for bracket in self._shown]
        head = "ball · clean · certified · under attack · undecided · examples"
        return "\n".join([head, *lines, str(self.run.path), *([self.note] if self.note else [])])

    def _repr_html_(self) -> str:
        """Draw the brackets in a notebook."""
        head = "".join(
            f"<th>{name}</th>" for name in ("ball", "clean", "certified", "under attack", "undecided", "examples")
        )
        rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in _cells(bracket))}</tr>" for bracket in self._shown)
        return f"<table><tr>{head}</tr>{rows}</table><p>{self.robust_accuracy.in_words()}</p>"

    @property
    def summary(self) -> dict[str, Any]:
        """What `summary.json` says."""
        return self.run.summary()


def _cells(bracket: Bracket) -> tuple[str, ...]:
    shares = (percent(bracket.share(count)) for count in (bracket.clean, bracket.certified, bracket.attacked))
    return (bracket.ball, *shares, str(bracket.counts["undecided"]), str(bracket.examples))


def evaluate(
    classifier: Classifier | SmoothedClassifier,
    data: object,
    threats: Ball | ThreatModel | Sequence[Ball | ThreatModel],
    *,
    suite: Step | Sequence[Step] = FAST,
    certify: str = "auto",
    out: str | Path | None = None,
    seed: int = 0,
    limit: int | None = None,
    first: int | None = None,
    batch_size: int = 64,
    budget: int | None = None,
    seconds: float | None = None,
    until: Until | None = None,
    points: RunFolder | None = None,
    near: float | None = None,
    timeout: float | None = None,
    domains: int | None = None,
    evidence: bool = False,
    checks: bool = True,
    executor: Executor = HERE,
    observe: Observe | None = None,
) -> Evaluation:
    """Bracket robust accuracy: attacks bound it from above, certificates from below.

    Where a sample of what stood shows that the attacks of the suite were too short (`OnSample`, a part of `FAST`), all
    that stands meets longer ones, in a second folder beside the first (`…-escalated`), which is then the result.

    Args:
        classifier: the model. Of a smoothed one, votes are certified in ℓ2, and nothing is attacked: `suite=()`.
        data: a reference to a data set, or what `sp.Dataset.from_tensors` returns; also (x, y), or a torch data set or
            loader, of which examples come in the order of the data set.
        threats: balls, one radius each, of one norm or several; several radii of a norm share their work, and each norm
            comes to the records that it has when it is evaluated by itself.
        suite: attacks in cascade; an empty one for certificates alone.
        certify: "auto" (intervals, then CROWN, where the model and its size allow it), "none", or a method: "interval",
            "crown-ibp", "crown", "alpha-crown", "complete", "lp", "milp", "lipschitz"; all but the first after
            intervals.
        out: the run folder; an evaluation of the same specification goes on there. A temporary one when not given.
        seed: of all random streams, and of the sample.
        limit: a random sample of so many examples.
        first: the first examples instead.
        batch_size: rows of every call of the model; part of the specification.
        budget: passes, forward plus backward, that the search may spend on an example.
        seconds: after which no further shard of examples is begun; the same call goes on.
        until: what else ends it before the last example. Where it may end early, examples come in a random order that
            the seed fixes, so that neither clock nor rule chooses the easy ones.
        points: a run on an earlier version of the model: its points are tried before any attack, and what they do not
            break is searched as ever.
        near: the share of the examples that stood in that run, the nearest to the boundary, that are searched anew; the
            others only for a few steps, unless these come near it. None to search all: then nothing is lost.
        timeout: seconds that a certificate may take for an example; what was found until then counts.
        domains: of "complete", how many parts of an example's ball may be bounded; unlike seconds it can be repeated.
        evidence: whether to keep in the run folder what `saddlepoint_audit` proves the certificates from.
        checks: whether to check on a few examples that the evaluation can be believed (`evaluation.checks`), once it is
            complete.
        executor: who evaluates the examples: this process, or `Workers` of a Ray cluster.
        observe: told how far it is, and the bracket so far; in a notebook a bar, unless another is given.

    Raises:
        InputError: something cannot be used.
        RunError: the folder holds something else.
        ModelError: the model breaks the contract of a classifier, or lacks what a certificate asks for.
    """
    chosen, voting = _threats(threats), None
    if isinstance(classifier, SmoothedClassifier):
        voting, classifier = _voting(classifier, chosen, suite, certify), classifier.classifier
    examples = matched(as_dataset(data).select(limit=limit, first=first, seed=seed), classifier)
    question_data(classifier, examples)
    proofs, graphs, note = (
        _certificates(classifier, examples, certify, chosen[0]) if voting is None else ((VOTES,), None, None)
    )
    balls = {threat.norm: threat.ball for threat in chosen}
    attacks = _able(suite, list(balls.values()))
    if not attacks and not proofs:
        raise InputError(
            f"neither an attack nor a certificate was asked for, or can run ({note}); expected one of them"
        )
    if near is not None and points is None:
        raise InputError(f"near is {near:g}, of which run? expected points, an earlier run, with it")
    earlier = None if points is None else points_of(points, list(balls), near)
    spec = Spec(
        model=described_model(classifier),
        data=described_data(examples, limit, first),
        threats=chosen,
        suite=attacks,
        certify=proofs,
        seed=seed,
        batch_size=min(batch_size, len(examples)),
        budget=budget,
        points=None if earlier is None else earlier.described(),
        timeout=timeout,
        domains=domains,
        smoothing=voting,
    )
    folder = Path(tempfile.mkdtemp(prefix="saddlepoint-")) / "run" if out is None else Path(out)
    _check_certificates(classifier, examples, spec, balls.values(), evidence=evidence)
    job = Job(spec, classifier, examples, graphs, points=earlier, evidence=folder / EVIDENCE if evidence else None)
    clock, observe = _Clock(seconds), observe or notebook()
    done, before = run(job, folder, seconds=clock.left, until=until, observe=observe, executor=executor), None
    if done.summary is not None and (further := escalated(job, folder)) is not None:
        before, (job, folder) = open_run(folder), further
        done = run(job, folder, seconds=clock.left, until=until, observe=observe, executor=executor)
    if done.summary is not None:
        _finish(job, folder, done.summary, checks=checks)
    notes = [*([note] if note else []), *dict.fromkeys(job.notes)]
    return Evaluation(open_run(folder), done, "; ".join(notes) or None, until or Until(), before)


def _check_certificates(
    classifier: Classifier, data: Dataset, spec: Spec, balls: Iterable[Ball], *, evidence: bool
) -> None:
    """Raise before anything is computed if the last certificate cannot run, or could leave no evidence.

    Args:
        classifier: the model.
        data: the examples.
        spec: what is asked.
        balls: one of each norm.
        evidence: whether it is asked for.
    """
    if spec.smoothing is None and spec.certify:
        for ball in balls:
            METHODS[spec.certify[-1]].check(spec.certify[-1], ball, classifier.device.type)
    if evidence and (spec.smoothing is not None or not spec.certify):
        raise InputError("evidence is of certificates other than votes, and none was asked for; leave it out")
    if evidence:
        listing_of(classifier, data.shape or tuple(data.read(0).x.shape))


def _finish(job: Job, folder: Path, summary: dict[str, Any], *, checks: bool) -> None:
    """Write what an audit needs of a complete run, and check on a few examples that it can be believed."""
    write_claims(job, folder)
    if checks and job.spec.suite:
        check(job, folder, summary)


class _Clock:
    """Seconds that are left; None for any."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        return None if self._end is None else self._end - time.monotonic()


def _voting(
    smoothed: SmoothedClassifier, threats: Sequence[ThreatModel], suite: Step | Sequence[Step], certify: str
) -> dict[str, Any]:
    """Return the fields of a smoothed classifier, whose radii are ℓ2's."""
    if suite != () or certify != "auto":
        raise InputError("a smoothed classifier is certified by its votes alone; expected suite=() and certify='auto'")
    if (other := next((threat.norm for threat in threats if threat.norm != "l2"), None)) is not None:
        raise InputError(f"smoothing certifies balls of ℓ2, and the norm is {other!r}; expected sp.L2(0.5)")
    largest = max(threat.eps for threat in threats)
    if not smoothed.largest_radius > largest:
        least = samples_needed(largest, smoothed.sigma, smoothed.alpha)
        raise InputError(
            f"{smoothed.samples} votes certify a radius of {smoothed.largest_radius:.4g} at most, and eps is "
            f"{largest:g}; expected at least {least} votes, or a larger sigma"
        )
    return {field.name: getattr(smoothed, field.name) for field in fields(smoothed) if field.name != "classifier"}


def _threats(asked: Ball | ThreatModel | Sequence[Ball | ThreatModel]) -> tuple[ThreatModel, ...]:
    balls = [asked] if isinstance(asked, Ball | ThreatModel) else list(asked)
    threats = [ball if isinstance(ball, ThreatModel) else _threat(ball) for ball in balls]
    if not threats or len({threat.box for threat in threats}) > 1:
        raise InputError(f"threats is {asked!r}; expected balls in one box, such as [sp.Linf(8 / 255), sp.L2(0.5)]")
    return tuple(sorted(set(threats), key=lambda threat: (threat.norm, threat.eps)))


def _able(suite: Step | Sequence[Step], balls: Sequence[Ball]) -> tuple[Step, ...]:
    """Return the steps whose attacks search any of the balls; each ball must have one."""
    if suite == ():
        return ()
    suites = [able(suite, ball) for ball in balls]
    for searching in suites:
        check_suite(searching)
    steps = suite if isinstance(suite, Sequence) else (suite,)
    return tuple(step for step in steps if any(step in some for some in suites))


def _threat(ball: object) -> ThreatModel:
    if not isinstance(ball, Ball) or isinstance(ball.eps, torch.Tensor):
        raise InputError(f"a threat is {ball!r}; expected a ball of one radius, such as sp.Linf(8 / 255)")
    return ThreatModel(ball.name, float(ball.eps))


def _certificates(
    classifier: Classifier, data: Dataset, certify: str, threat: ThreatModel
) -> tuple[tuple[str, ...], tuple[Graph, Graph] | None, str | None]:
    """Return the certificates of the cascade and their graphs, and one line about those that were left out."""
    if certify == "none":
        return (), None, "no certificates: switched off"
    if certify not in ("auto", *METHODS):
        raise InputError(f"certify is {certify!r}; expected auto, none or one of {', '.join(METHODS)}")
    methods = {"auto": ("interval", "crown"), "interval": ("interval",)}.get(certify, ("interval", certify))
    try:
        if certify == "auto" and (large := _too_large(classifier, data)) is not None:
            return (), None, large
        shape = data.shape or tuple(data.read(0).x.shape)
        graphs = graphs_of(classifier, shape)
        left_out = _too_much(graphs[0], data, threat) if certify == "auto" else None
        return (methods if left_out is None else methods[:1]), graphs, left_out
    except (SaddlepointError, RuntimeError, ValueError, TypeError) as error:  # attacks go on without certificates
        if certify != "auto":
            raise
        return (), None, f"no certificates: {one_line(error)}"


def _too_large(classifier: Classifier, data: Dataset) -> str | None:
    """Return one line if the network has more activations than any certificate has been of use for, else None."""
    check_layers(classifier.module)
    sample = next(readable(data), None)
    count = 0 if sample is None else _activations(classifier, sample.x[None].to(classifier.device))
    if count <= ACTIVATIONS:
        return None
    return (
        f"no certificates: an image has {count / 1e6:.0f} million activations, and of more than "
        f"{ACTIVATIONS / 1e6:.0f} million none is tried unless it is asked for, as with certify='interval'"
    )


def _activations(classifier: Classifier, x: Images) -> int:
    """Return how many numbers the layers of a model compute for an image."""
    sizes, leaves = list[int](), [part for part in classifier.module.modules() if not list(part.children())]

    def count(part: nn.Module, inputs: object, output: object) -> None:
        sizes.append(output.numel() if isinstance(output, torch.Tensor) else 0)

    hooks = [leaf.register_forward_hook(count) for leaf in leaves if not isinstance(leaf, torch.jit.ScriptModule)]
    try:
        classifier.predict(x)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(sizes)


def _too_much(graph: Graph, data: Dataset, threat: ThreatModel) -> str | None:
    """Return one line if CROWN would take too long for an example, as the first one tells; None if it is bearable.

    It is counted, not timed, so that the same evaluation has the same certificates on every machine.
    """
    sample = next(readable(data), None)
    if sample is None:
        return None
    x = sample.x[None].to(graph.device)
    needed = work(graph, around(x, threat.ball, threat.box))
    if needed <= WORK:
        return None
    return (
        f"CROWN was left out: it takes about {needed:.1g} multiplications for an image, more than {WORK:.0g}; "
        "certify='crown' runs it all the same, best with a timeout"
    )
