"""An evaluation on the command line: progress, the bracket, and whether it is what was required."""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from saddlepoint.attacks import Step
from saddlepoint.attacks.registry import SUITES
from saddlepoint.certificates.smoothing import SmoothedClassifier
from saddlepoint.classifier import Classifier
from saddlepoint.cli.arguments import Number, requirement
from saddlepoint.cli.attack.settings import named_attack
from saddlepoint.cli.classifiers import classifier_of, require_photos
from saddlepoint.cli.console import bounded, interruptible, progress, told_errors, told_findings, warned
from saddlepoint.cli.evaluate.text import (
    Gate,
    Spelling,
    check_lines,
    markdown,
    print_evaluation,
    since_line,
    stopped_line,
)
from saddlepoint.cli.radii import default
from saddlepoint.data.datasets import Dataset, load_dataset, matched
from saddlepoint.errors import InputError
from saddlepoint.evaluation import Evaluation, ThreatModel, evaluate
from saddlepoint.evaluation.executors import HERE, Executor, Workers
from saddlepoint.evaluation.reading import readable
from saddlepoint.evaluation.stopping import Rule, Until
from saddlepoint.files import write_bytes
from saddlepoint.results import open_run, percent
from saddlepoint.results.records.bracket import UNION

BAD_INPUT, UNDECIDED = 2, 3
PASSES, LONG = 300, 120.0
"""What FAST takes for an image that stands, and the seconds of a whole evaluation that are told beforehand."""


def run(given: Namespace) -> int:
    """Evaluate, print the bracket, and return 1 if a requirement is not met."""
    rules = [Rule(*requirement(text)) for text in given.require]
    until = _until(given, rules)
    suite = _suite(given.suite)
    classifier, earlier = _model(given), None if given.earlier is None else open_run(given.earlier)
    data = load_dataset(given.data)
    require_photos(given, data)
    typed = _typed(given, data, classifier)
    threats = [ThreatModel(norm, float(eps)) for norm, eps in typed]
    _tell_cost(given, _plain(classifier), data.select(limit=given.limit, first=given.first, seed=given.seed))
    begin = time.perf_counter()
    with warned(), bounded(), interruptible(), progress(silent=given.json) as observe, _executor(given) as executor:
        found = evaluate(
            classifier,
            data,
            threats,
            suite=suite,
            certify="auto" if given.sigma else given.certify,
            out=given.out,
            seed=given.seed,
            limit=given.limit,
            first=given.first,
            batch_size=given.batch_size,
            budget=given.budget,
            seconds=_seconds(given),
            until=until,
            points=earlier,
            near=given.near,
            timeout=given.timeout,
            evidence=given.evidence,
            checks=not given.no_checks,
            executor=executor,
            observe=observe,
        )
    seconds = time.perf_counter() - begin
    gates = [_gate(found, text, rule) for text, rule in zip(given.require, rules, strict=True)]
    failed = [gate.line for gate in gates if gate.line is not None]
    spelling: Spelling = {(norm, float(eps)): eps.text for norm, eps in typed}
    if given.json:
        told = {
            "out": str(found.run.path),
            "seconds": seconds,
            "note": found.note,
            "unmet": failed,
            "checks": found.run.checks(),
            **_early(found),
            **_union(found),
        }
        print(json.dumps({**told, "summary": found.summary}, ensure_ascii=False))
    else:
        print_evaluation(given, _plain(classifier), found, seconds, spelling)
        for line in check_lines(found.run.checks()):
            print(line)
        if earlier is not None:
            print(since_line(earlier, found))
        for line in failed:
            print(line)
        if not found.run.finished:
            print(stopped_line(found))
    if given.markdown:
        write_bytes(Path(given.markdown).absolute(), markdown(given, found, gates, spelling).encode())
    return _exit_code(given, found, gates)


def _exit_code(given: Namespace, found: Evaluation, gates: Sequence[Gate]) -> int:
    """Print what is odd on standard error, and return the exit code."""
    masked = told_findings(found.run)
    if told_errors(found.run) and not found.robust_accuracy.examples:
        return BAD_INPUT
    if any(gate.met is False for gate in gates) or (given.strict and masked):
        return 1
    return UNDECIDED if any(gate.line is not None for gate in gates) else 0


def _executor(given: Namespace) -> AbstractContextManager[Executor]:
    if given.executor == "ray":
        return Workers(given.workers, given.address, device=given.device)
    if given.workers > 1 or given.address is not None:
        raise InputError("--workers and --address are of ray; expected --executor ray with them")
    return nullcontext(HERE)


def _model(given: Namespace) -> Classifier | SmoothedClassifier:
    device = given.device or ("cuda" if torch.cuda.is_available() else "cpu")
    classifier = classifier_of(given, device)
    if given.sigma is None:
        return classifier
    chosen = {name: getattr(given, name) for name in ("sigma", "samples", "alpha", "batch_size", "seed")}
    return SmoothedClassifier(classifier=classifier, **chosen)


def _typed(
    given: Namespace, data: Dataset, classifier: Classifier | SmoothedClassifier
) -> Sequence[tuple[str, Number]]:
    """Return norms and radii as they were typed; the default for such images, which is then printed with its reason."""
    norms = list(dict.fromkeys(given.norm))
    if not given.eps:
        shape = matched(data.select(first=1), _plain(classifier)).shape
        return [(norm, default(norm, shape)[0]) for norm in norms]
    if len(norms) == 1:
        return [(norms[0], eps) for eps in given.eps]
    if len(norms) != len(given.eps):
        raise InputError(
            f"--norm names {len(norms)} norms and --eps {len(given.eps)} radii; expected one for each norm, in the "
            "same order, or no --eps"
        )
    return list(zip(norms, given.eps, strict=True))


def _tell_cost(given: Namespace, classifier: Classifier, data: Dataset) -> None:
    """Say on standard error what a long search will take, by one pass of one image."""
    sample = next(readable(matched(data, classifier)), None)
    if sample is None or given.json or given.suite == "none":
        return
    x, seconds = sample.x[None], list[float]()
    for _ in range(2):  # the first one prepares
        begin = time.perf_counter()
        classifier.predict(x)
        seconds.append(time.perf_counter() - begin)
    each = PASSES * seconds[-1]
    if each * len(data) > LONG:
        print(
            f"saddlepoint: a pass takes {1000 * seconds[-1]:.0f} ms for one image, and one that stands some {PASSES}: "
            f"{len(data)} images may take {each * len(data) / 60:.0f} minutes, less where batches are faster; records "
            "are kept as they come, and --limit, --minutes or --width end it early",
            file=sys.stderr,
        )


def _plain(classifier: Classifier | SmoothedClassifier) -> Classifier:
    return classifier.classifier if isinstance(classifier, SmoothedClassifier) else classifier


def _suite(name: str) -> Step | tuple[Step, ...]:
    if name == "none":
        return ()
    return SUITES[name] if name in SUITES else named_attack(name, "--suite")


def _seconds(given: Namespace) -> float | None:
    limit: float | None = given.time if given.minutes is None else 60 * given.minutes
    return limit


def _until(given: Namespace, rules: Sequence[Rule]) -> Until | None:
    """Return what may end the evaluation early, if that was asked for."""
    if given.looks is not None and given.width is None and _seconds(given) is None:
        raise InputError(f"--looks is {given.looks}, and nothing to stop at; expected --width or --minutes, too")
    if given.width is None and (_seconds(given) is None or not rules):
        return None
    return Until(given.width, tuple(rules), given.looks)


def _gate(found: Evaluation, text: str, rule: Rule) -> Gate:
    """Hold the evaluation against a requirement: these images if all were evaluated, else all of them, at 95 %."""
    asked = rule.of(found.brackets)
    if not asked:
        raise InputError(f"--require {text!r} asks for a ball that was not evaluated; expected one of --norm and --eps")
    if not found.run.finished:
        met = found.until.decided(rule, found.done.seen, found.done.whole, found.done.brackets)
        return Gate(met, None if met else f"{'undecided' if met is None else 'not met'}: {text}")
    shares = [(each, each.share(getattr(each, rule.kind))) for each in asked]
    unmet = next((pair for pair in shares if pair[1] is None or pair[1] < rule.least), None)
    if unmet is None:
        return Gate(True, None)
    where = f" at {unmet[0].ball}" if len(shares) > 1 else ""
    return Gate(False, f"not met: {text}: {rule.kind} accuracy{where} is {percent(unmet[1]) or 'unknown'}")


def _union(found: Evaluation) -> dict[str, object]:
    """Return the bracket of all balls at once, of an evaluation of several norms; it has no radius."""
    whole = found.robust_accuracy
    told = {name: value for name, value in whole.summary().items() if name not in ("norm", "eps")}
    return {"union": told} if whole.norm == UNION else {}


def _early(found: Evaluation) -> dict[str, object]:
    """Return what is known of all images, of an evaluation that ended early."""
    if found.run.finished:
        return {}
    return {"seen": found.done.seen, "whole": found.done.whole, "ends": {k: list(v) for k, v in found.ends.items()}}
