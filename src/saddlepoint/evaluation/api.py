"""`evaluate`: a model, data and threats in; records in a run folder, and the bracket that follows from them."""

import math
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from saddlepoint.attacks import FAST, Step, able
from saddlepoint.certificates import Graph, graphs_of
from saddlepoint.classifier import Classifier
from saddlepoint.data import in_utf8
from saddlepoint.data.datasets import Dataset, load_dataset, matched, question_data
from saddlepoint.errors import InputError, ModelError
from saddlepoint.evaluation.pending import Pending
from saddlepoint.evaluation.provenance import provenance
from saddlepoint.evaluation.shard import Job, complete, evaluate_shard
from saddlepoint.evaluation.spec import Spec, ThreatModel
from saddlepoint.geometry import Ball
from saddlepoint.results import Bracket, Judged, RunFolder, Tally, brackets, digest, judged, open_run, percent, writing

METHODS = ("interval", "crown-ibp", "crown", "alpha-crown", "lp", "milp")
LOSS = 5.0
"""Seconds of work that a kill can cost, once an example is done."""
Observe = Callable[[int, int, Bracket | None], None]
"""Told how many examples are done, of how many, and the bracket of those at the largest ε."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation has found; everything follows from the records.

    Attributes:
        run: the run folder, as it was at the end.
        note: why no certificate ran, if none did.
    """

    run: RunFolder
    note: str | None = None

    def records(self) -> Any:  # noqa: ANN401 - pyarrow has no types
        """Return the records as a pyarrow.Table."""
        return self.run.rows()

    def verdicts(self) -> list[Judged]:
        """Return the verdict of each example under each threat."""
        return judged(self.run.rows().to_pylist())

    @property
    def brackets(self) -> list[Bracket]:
        """One bracket per threat, by norm and ε."""
        return brackets(self.verdicts())

    @property
    def robust_accuracy(self) -> Bracket:
        """The bracket at the largest ε."""
        return self.brackets[-1]

    def _repr_html_(self) -> str:
        """Draw the brackets in a notebook."""
        head = "".join(
            f"<th>{name}</th>" for name in ("ball", "clean", "certified", "attacked", "undecided", "examples")
        )
        rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in _cells(each))}</tr>" for each in self.brackets)
        return f"<table><tr>{head}</tr>{rows}</table><p>{self.robust_accuracy.in_words()}</p>"

    @property
    def summary(self) -> dict[str, Any]:
        """What `summary.json` says."""
        return self.run.summary()


def _cells(each: Bracket) -> tuple[str, ...]:
    shares = (percent(each.share(count)) for count in (each.clean, each.certified, each.attacked))
    return (f"{each.norm} ε {each.eps:g}", *shares, str(each.counts["undecided"]), str(each.examples))


def evaluate(
    classifier: Classifier,
    data: Dataset | str,
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
    observe: Observe | None = None,
) -> Evaluation:
    """Bracket robust accuracy: attacks bound it from above, certificates from below.

    Args:
        classifier: the model.
        data: a data set, or a reference to one.
        threats: balls, one radius each; several radii share their work.
        suite: attacks in cascade; an empty one for certificates alone.
        certify: "auto" (intervals, then CROWN, where the model allows it), "none", or a method: "interval",
            "crown-ibp", "crown", "alpha-crown", "lp", "milp"; all but the first after intervals.
        out: the run folder; an evaluation of the same specification goes on there. A temporary one when not given.
        seed: of all random streams, and of the sample.
        limit: a random sample of so many examples.
        first: the first examples instead.
        batch_size: rows of every call of the model; part of the specification.
        budget: passes, forward plus backward, that the search may spend on an example.
        seconds: after which no further block of examples is begun; the same call goes on. A clock chooses no examples:
            those that are done are the first of the sample's order.
        observe: told how far it is, and the bracket so far.

    Raises:
        InputError: something cannot be used.
        RunError: the folder holds something else.
        ModelError: the model breaks the contract of a classifier, or lacks what a certificate asks for.
    """
    chosen = _threats(threats)
    found = load_dataset(data) if isinstance(data, str) else data
    examples = matched(found.select(limit=limit, first=first, seed=seed), classifier)
    question_data(classifier, examples)
    proofs, graphs, note = _certificates(classifier, examples, certify)
    attacks = able(suite, chosen[0].ball) if suite != () else ()
    if not attacks and not proofs:
        raise InputError(
            f"neither an attack nor a certificate was asked for, or can run ({note}); expected one of them"
        )
    spec = Spec(
        model={
            "reference": in_utf8(classifier.reference or classifier.name),
            "digest": classifier.digest(),
            "names": classifier.names and [in_utf8(name) for name in classifier.names],
        },
        data=_described(examples, limit, first),
        threats=chosen,
        suite=attacks,
        certify=proofs,
        seed=seed,
        batch_size=min(batch_size, len(examples)),
        budget=budget,
    )
    folder = Path(tempfile.mkdtemp(prefix="saddlepoint-")) / "run" if out is None else Path(out)
    _run(Job(spec, classifier, examples, graphs), folder, seconds, observe)
    return Evaluation(open_run(folder), note)


def _run(job: Job, folder: Path, seconds: float | None, observe: Observe | None) -> None:
    """Write the records that the folder lacks; an example whose records are incomplete is evaluated anew."""
    with writing(folder, job.spec.plain(), provenance(job.classifier), "broken", seconds=LOSS) as writer:
        pending = Pending(folder)
        job = replace(job, pending=pending)
        left = [n for n, identity in enumerate(job.data.ids) if not complete(job, identity, writer.earlier)]
        finished = len(job.data) - len(left)
        so_far = Tally(job.spec.threats[-1].eps, writer.earlier.values())
        if observe is not None:
            observe(finished, len(job.data), so_far.bracket)
        end = math.inf if seconds is None else time.monotonic() + seconds
        try:
            for start in range(0, len(left), job.spec.batch_size):
                if start and time.monotonic() > end:
                    return
                part = left[start : start + job.spec.batch_size]
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    for row, point, clean in evaluate_shard(job, part):
                        writer.add(row, point, clean, again=True)
                        so_far.add(row)
                for threat in job.spec.threats:  # not sooner: an example is resumed at every radius, or at none
                    for place in part:
                        pending.forget(f"{threat.prefix}{job.data.ids[place]}")
                finished += len(part)
                if observe is not None:
                    observe(finished, len(job.data), so_far.bracket)
        finally:
            pending.write()
        writer.finish()


def _threats(given: Ball | ThreatModel | Sequence[Ball | ThreatModel]) -> tuple[ThreatModel, ...]:
    balls = [given] if isinstance(given, Ball | ThreatModel) else list(given)
    threats = [each if isinstance(each, ThreatModel) else _threat(each) for each in balls]
    if not threats or len({(each.norm, each.box) for each in threats}) > 1:
        raise InputError(f"threats is {given!r}; expected balls of one norm, such as sp.Linf(8 / 255)")
    return tuple(sorted(set(threats), key=lambda each: each.eps))


def _threat(ball: object) -> ThreatModel:
    if not isinstance(ball, Ball) or isinstance(ball.eps, torch.Tensor):
        raise InputError(f"a threat is {ball!r}; expected a ball of one radius, such as sp.Linf(8 / 255)")
    return ThreatModel(ball.name, float(ball.eps))


def _certificates(
    classifier: Classifier, data: Dataset, certify: str
) -> tuple[tuple[str, ...], tuple[Graph, Graph] | None, str | None]:
    """Return the certificates of the cascade and their graphs, and why there are none where the model forbids them."""
    if certify == "none":
        return (), None, "switched off"
    if certify not in ("auto", *METHODS):
        raise InputError(f"certify is {certify!r}; expected auto, none or one of {', '.join(METHODS)}")
    methods = {"auto": ("interval", "crown"), "interval": ("interval",)}.get(certify, ("interval", certify))
    try:
        shape = data.shape or tuple(data.read(0).x.shape)
        return methods, graphs_of(classifier, shape), None
    except ModelError as error:
        if certify != "auto":
            raise
        return (), None, str(error)


def _described(data: Dataset, limit: int | None, first: int | None) -> dict[str, Any]:
    return {
        "reference": in_utf8(data.name),
        "limit": limit,
        "first": first,
        "examples": len(data),
        "classes": data.classes and {name: label for label, name in data.classes.items()},
        "content": data.content(),
        "ids": digest(list(data.ids)),
    }
