"""Checks that an evaluation can be believed, as data: the list of Carlini et al. 2019, run on a sample of the examples.

Each check is passed, failed, a warning or not run, with what was measured and what follows if it is not passed.
"""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn import functional

from saddlepoint import random
from saddlepoint.attacks import EOT, FGSM, PGD, Attack, IfDoubted, OnSample, Step, attack
from saddlepoint.attacks.linearity import MOST, misled, slope_ratios
from saddlepoint.classifier import DECISION
from saddlepoint.data.datasets import Dataset, Sample
from saddlepoint.errors import InputError
from saddlepoint.evaluation.job import Job
from saddlepoint.evaluation.reading import FAILURES, one_line
from saddlepoint.evaluation.spec import ThreatModel
from saddlepoint.geometry import BALLS
from saddlepoint.results.folder.documents import read_document, write_document
from saddlepoint.results.folder.reader import CHECKS
from saddlepoint.results.records.masking import OVERTAKEN, ZERO_GRADIENT, of_summary
from saddlepoint.typing import Images, Labels, Logits, Mask

SAMPLE = 64
"""Examples that are attacked for the checks, at most."""
PAIRED = 2000
"""Examples among which pairs are sought that are too close, at most."""
_SURE = 2.0**-24
"""Cross-entropy of a label whose probability rounds to 1 in float32."""
NOISE = 20
"""Random points that are tried per example."""

Outcome = Literal["pass", "warn", "fail", "not run"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: what ought to hold.
        outcome: whether it does.
        measured: what was seen.
        consequence: what follows where it does not hold.
    """

    name: str
    outcome: Outcome
    measured: str
    consequence: str

    def plain(self) -> dict[str, str]:
        """Return the check as plain data."""
        return asdict(self)


def checks(job: Job, summary: Mapping[str, Any]) -> list[Check]:
    """Return all checks of an evaluation that is complete, those by attacks at the largest radius of each norm.

    Args:
        job: of the evaluation.
        summary: of its run folder.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            outcomes = _of_attacks(job)
        except FAILURES as error:  # the evaluation is done, and must not be lost for this
            outcomes = [Check("the model can be attacked", "fail", one_line(error), "nothing was checked by attacks")]
    return [*outcomes, *_of_records(job, summary), *_of_data(job)]


def check(job: Job, folder: Path, summary: Mapping[str, Any]) -> None:
    """Write the checks beside the records that they are of, unless they are there."""
    path = folder / CHECKS
    if path.exists() and read_document(path).get("rows") == summary["rows"]:
        return
    write_document(path, {"rows": summary["rows"], "checks": [check.plain() for check in checks(job, summary)]})


@dataclass(frozen=True, eq=False)
class _Sample:
    """Correctly classified examples, and how to attack them."""

    job: Job
    threat: ThreatModel
    x: Images
    y: Labels

    @classmethod
    def of(cls, job: Job) -> "_Sample":
        """Return the first of the random order that can be read and are classified correctly."""
        places = sorted(range(len(job.data)), key=lambda n: random.key(job.spec.seed, "checks", job.data.ids[n]))
        samples, threat = _readable(job.data, places[:SAMPLE]), job.spec.largest[-1]
        if not samples:
            return cls(job, threat, torch.zeros(0, 1, 1, 1), torch.zeros(0, dtype=torch.long))
        whole = cls(
            job, threat, torch.stack([sample.x for sample in samples]), torch.tensor([sample.y for sample in samples])
        )
        right = whole.logits(whole.x).argmax(1) == whole.y
        return cls(job, threat, whole.x[right], whole.y[right])

    def logits(self, x: Images) -> Logits:
        """Return the untouched model's logits, a batch of the specification at a time."""
        parts = torch.split(x, self.job.spec.batch_size)
        return torch.cat([self.job.classifier.predict(part, box=self.threat.box).logits.cpu() for part in parts])

    def hit(self, method: Step, eps: float, most: int | None = None) -> Mask:
        """Return which of the first `most` an attack breaks."""
        spec, x, y = self.job.spec, self.x[:most], self.y[:most]
        ball, box = BALLS[self.threat.norm](eps), self.threat.box
        result = attack(self.job.classifier, x, y, ball, method, seed=spec.seed, batch_size=spec.batch_size, box=box)
        return result.success.cpu()

    def broken(self, method: Attack, eps: float) -> int:
        """Return how many an attack breaks."""
        return int(self.hit(method, eps).sum())

    def by_noise(self) -> int:
        """Return how many any of several points, uniform in the ball, breaks."""
        region = self.threat.ball.at(self.x, *(self.threat.box or (None, None)))
        keys = torch.tensor([random.key(self.job.spec.seed, "noise", n) for n in range(len(self.y))])
        hit = torch.zeros_like(self.y, dtype=torch.bool)
        for draw in range(NOISE):
            hit |= self.logits(self.x + region.start(keys, draw)).argmax(1) != self.y
        return int(hit.sum())


def _of_attacks(job: Job) -> list[Check]:
    """Attack a sample at the largest radius of each norm; of the logits alone, look once."""
    sample = _Sample.of(job)
    if not len(sample.y):
        return []
    outcomes = [
        _in(threat, job, check) for threat in job.spec.largest for check in _of_ball(replace(sample, threat=threat))
    ]
    return [*outcomes, _slopes(sample), _deterministic(sample)]


def _in(threat: ThreatModel, job: Job, check: Check) -> Check:
    """Return a check that says of which norm it is, where there are several."""
    return check if len(job.spec.norms) == 1 else replace(check, name=f"{check.name} ({threat.norm})")


def _of_ball(sample: _Sample) -> list[Check]:
    eps, count = sample.threat.eps, len(sample.y)
    single, short = sample.broken(FGSM(), eps), sample.broken(PGD(steps=10), eps)
    steps, doubled = sample.broken(PGD(steps=40), eps), sample.broken(PGD(steps=80), eps)
    whole = float(sample.threat.ball.norm(torch.ones_like(sample.x[:1])))  # of the ball that holds the box
    wider, noise = sample.broken(PGD(steps=40), min(2 * eps, whole)), sample.by_noise()
    by_margin = PGD(steps=40, loss="margin")
    # Two attacks of one strength break other borderline examples: one in fifty apart is no sign of anything.
    all_, margin, slack = sample.broken(by_margin, whole), sample.broken(by_margin, eps), max(1, count // 50)
    sure = functional.cross_entropy(sample.logits(sample.x), sample.y, reduction="none") < _SURE
    saturated = int(sure.sum())
    masked = "gradients mislead; robust accuracy may be overestimated"
    return [
        _at_least("several steps break no less than one", short, single, count, slack, masked),
        _at_least("a larger ball breaks no less", wider, steps, count, 0, masked),
        _at_least("an attack that may do anything breaks all", all_, count, count, 0, masked),
        _at_least("an attack breaks no less than noise", steps, noise, count, 0, masked),
        Check(
            "twice the steps break no more",
            "pass" if doubled - steps <= slack else "warn",
            f"{steps} of {count} with 40 steps of PGD, {doubled} with 80",
            "attacks of so few steps have not converged; take a stronger suite",
        ),
        Check(
            "cross-entropy is not saturated",
            "pass" if saturated <= slack or margin <= steps + slack else "warn",
            f"{saturated} of {count} have probability 1; PGD breaks {steps} by cross-entropy, {margin} by margins",
            "its gradient vanishes there; believe attacks on margins (DLR, APGD-T) alone",
        ),
        _of_suite(sample),
    ]


def _slopes(sample: _Sample) -> Check:
    """Compare how the margin changes, one grey level along the gradient, with what the gradient says."""
    x, y, model = sample.x[:MOST], sample.y[:MOST], sample.job.classifier
    with model.frozen() as frozen:
        logits = partial(frozen.logits, arithmetic=DECISION)
        ratios = slope_ratios(logits, x.to(model.device), y.to(model.device), sample.threat.box)
    known = ratios[torch.isfinite(ratios)]
    median = f"{float(known.median()):.2g} times as much" if len(known) else "unknown: no gradient"
    return Check(
        "gradients tell how the margin changes",
        "pass" if misled(ratios) is None else "warn",
        f"{median}, the median of {len(known)} examples",
        "part of the model hides its gradient: robust accuracy may be overestimated",
    )


def _of_suite(sample: _Sample) -> Check:
    """Attack some examples by each attack alone, not in cascade: how many it breaks, and how many only it breaks."""
    suite = [step for step in sample.job.spec.attacks(sample.threat.norm) if not isinstance(step, IfDoubted | OnSample)]
    # Each attack by itself, not in cascade, costs many times the cascade: a tenth of the examples, from 8 to 32.
    name, most = "the last attack breaks nothing that all others miss", max(8, min(32, len(sample.job.data) // 10))
    if len(suite) < 2:
        return Check(name, "not run", f"{len(suite)} attack", "nothing to compare it with")
    hits = torch.stack([sample.hit(step, sample.threat.eps, most) for step in suite])
    alone, unique = hits.sum(1).tolist(), (hits & (hits.sum(0) == 1)).sum(1).tolist()
    told = [f"{_named(step)} {a} ({u} only it)" for step, a, u in zip(suite, alone, unique, strict=True)]
    return Check(
        name,
        "pass" if unique[-1] <= 1 else "warn",
        f"each alone, of {hits.shape[1]}: {', '.join(told)}",
        "what one more attack adds, another may add again; add attacks or restarts",
    )


def _named(step: Step) -> str:
    return _named(step.attack) if isinstance(step, EOT | IfDoubted | OnSample) else step.name


def _at_least(name: str, more: int, less: int, count: int, slack: int, consequence: str) -> Check:
    outcome: Outcome = "pass" if more >= less else "warn" if more >= less - slack else "fail"
    return Check(name, outcome, f"{more} of {count}, against {less}", consequence)


def _deterministic(sample: _Sample) -> Check:
    """Compare two forwards, the second beside other images."""
    first, second = sample.logits(sample.x), sample.logits(sample.x.flip(0))
    gap = float((first - second.flip(0)).abs().max() / first.abs().max())
    outcome: Outcome = "pass" if gap <= 1e-4 else "fail"
    return Check(
        "logits are the same again, beside other images",
        outcome,
        f"they differ by {gap:.2g} of the largest",
        "the model is stochastic or mixes its batch: attack it through sp.EOT, or mend it",
    )


def _of_records(job: Job, summary: Mapping[str, Any]) -> list[Check]:
    doubts, examples, errors = summary["doubts"], summary["examples"], summary["errors"]
    masked, signs = "robust accuracy may be overestimated", {finding.name for finding in of_summary(summary)}

    def rare(name: str, sign: str) -> Check:
        outcome: Outcome = "warn" if sign in signs else "pass"
        return Check(name, outcome if job.spec.suite else "not run", f"{doubts.get(sign, 0)} of {examples}", masked)

    return [
        rare("no black box gets further than gradients", OVERTAKEN),
        rare("gradients are not zero, also at the bounds of the box", ZERO_GRADIENT),
        Check(
            "every example could be judged",
            "pass" if not errors else "warn",
            f"{errors} of {examples} have an error",
            "they count in no accuracy; see `error` in the records",
        ),
    ]


def _of_data(job: Job) -> list[Check]:
    """Look for facts about the data that bound every accuracy; nothing is dropped for them."""
    data = job.data
    places = sorted(range(len(data)), key=lambda n: random.key(0, "pairs", data.ids[n]))[:PAIRED]
    samples = _readable(data, sorted(places))
    if not samples:
        return []
    x, y = torch.stack([sample.x for sample in samples]).flatten(1), torch.tensor([sample.y for sample in samples])
    near = {threat: _close(x, y, threat) for threat in job.spec.largest}
    twins = next(iter(near.values()))[1]
    images = Counter(row.numpy().tobytes() for row in x)
    copies = sum(count - 1 for count in images.values())
    return [
        *(_in(threat, job, _apart(samples, close)) for threat, (close, _) in near.items()),
        Check(
            "no image occurs twice",
            "pass" if not copies else "warn",
            f"{copies} copies among {len(samples)}",
            "intervals are for independent draws; copies narrow them without cause",
        ),
        Check(
            "no image has two labels",
            "pass" if not twins else "warn",
            f"{twins} pairs of equal images with different labels",
            "one of the labels is wrong; both count",
        ),
    ]


def _apart(samples: Sequence[Sample], close: Sequence[tuple[int, int]]) -> Check:
    shown = ", ".join(f"{samples[i].id} and {samples[j].id}" for i, j in close[:3])
    return Check(
        "no two classes are closer than 2 eps",
        "pass" if not close else "warn",
        f"{len(close)} pairs of {len(samples)} examples{': ' + shown if close else ''}",
        "no classifier is robust at both: an upper bound on what can be reached, whatever the model",
    )


def _readable(data: Dataset, places: Sequence[int]) -> list[Sample]:
    """Return the examples at these places, but for those that cannot be read."""
    samples = list[Sample]()
    for place in places:
        with suppress(InputError):
            samples.append(data.read(place))
    return samples


def _close(x: Images, y: Labels, threat: ThreatModel) -> tuple[list[tuple[int, int]], int]:
    """Return the pairs of different labels whose balls meet, and how many of them are equal images."""
    pairs, equal = list[tuple[int, int]](), 0
    for begin in range(0, len(x), 256):
        distance = torch.cdist(x[begin : begin + 256], x, p=BALLS[threat.norm].p)
        other = y[begin : begin + 256, None] != y
        near = (other & (distance <= 2 * threat.eps)).nonzero().tolist()
        pairs += [(begin + i, j) for i, j in near if begin + i < j]
        equal += sum(begin + i < j for i, j in (other & (distance == 0)).nonzero().tolist())
    return pairs, equal
