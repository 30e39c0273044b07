"""An evaluation on the command line: progress, the bracket, and whether it is what was required."""

import json
import shlex
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from textwrap import fill

import torch

from saddlepoint.attacks import Step
from saddlepoint.attacks.registry import SUITES
from saddlepoint.certificates.smoothing import SmoothedClassifier
from saddlepoint.classifier import Classifier
from saddlepoint.cli.arguments import Number, requirement
from saddlepoint.cli.attack.settings import named_attack
from saddlepoint.cli.classifiers import classifier_of, require_photos
from saddlepoint.cli.console import bounded, interruptible, progress, told_errors, told_findings, warned
from saddlepoint.cli.evaluate.nearest import nearest, nearest_of, with_points
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
from saddlepoint.evaluation.reading import one_line, readable
from saddlepoint.evaluation.spec import Spec
from saddlepoint.evaluation.stopping import Rule, Until
from saddlepoint.files import write_bytes
from saddlepoint.results import digest, open_run, percent
from saddlepoint.results.records.bracket import UNION

BAD_INPUT, UNDECIDED = 2, 3
PASSES, LONG = 300, 120.0
"""What FAST takes for an image that stands, and the seconds of a whole evaluation that are told beforehand."""


def run(args: Namespace) -> int:
    """Evaluate, print the bracket, and return 1 if a requirement is not met."""
    spec = None if args.spec is None else _specified(args)
    rules = [Rule(*requirement(text)) for text in args.require]
    until = _until(args, rules)
    suite = _suite(args.suite) if spec is None else spec.suite
    classifier, earlier = _model(args), None if args.earlier is None else open_run(args.earlier)
    data = load_dataset(args.data)
    require_photos(args, data)
    typed = _typed(args, data, classifier) if spec is None else _as_before(args, data, spec)
    threats = [ThreatModel(norm, float(eps)) for norm, eps in typed] if spec is None else list(spec.threats)
    _tell_cost(args, _plain(classifier), data.select(limit=args.limit, first=args.first, seed=args.seed))
    begin = time.perf_counter()
    with warned(), bounded(), interruptible(), progress(silent=args.json) as observe, _executor(args) as executor:
        before = nearest(args, classifier, data, executor, observe) if args.distance else None
        earlier = earlier if before is None else with_points(before)
        evaluation = evaluate(
            classifier,
            data,
            threats,
            suite=suite,
            certify="auto" if args.sigma else args.certify,
            out=args.out,
            seed=args.seed,
            limit=args.limit,
            first=args.first,
            batch_size=args.batch_size,
            budget=args.budget,
            seconds=_seconds(args),
            until=until,
            points=earlier,
            near=args.near,
            timeout=args.timeout,
            domains=args.domains,
            evidence=args.evidence,
            checks=not args.no_checks,
            executor=executor,
            observe=observe,
        )
    seconds = time.perf_counter() - begin
    gates = [_gate(evaluation, text, rule) for text, rule in zip(args.require, rules, strict=True)]
    failed = [gate.line for gate in gates if gate.line is not None]
    spelling: Spelling = {(norm, float(eps)): eps.text for norm, eps in typed}
    near = [] if before is None else nearest_of(before, evaluation)
    if args.json:
        told = _plainly(evaluation, seconds, failed) | ({"distances": [of.summary() for of in near]} if near else {})
        print(json.dumps({**told, "summary": evaluation.summary}, ensure_ascii=False))
    else:
        print_evaluation(args, _plain(classifier), evaluation, seconds, spelling)
        since = [] if earlier is None else [since_line(earlier, evaluation)]
        for line in (*check_lines(evaluation.run.checks()), *since, *(fill(of.in_words(), 100) for of in near)):
            print(line)
        for line in (*failed, _next(evaluation)):
            print(line)
    if args.markdown:
        write_bytes(Path(args.markdown).absolute(), markdown(args, evaluation, gates, spelling).encode())
    return _exit_code(args, evaluation, gates)


def _plainly(evaluation: Evaluation, seconds: float, failed: Sequence[str]) -> dict[str, object]:
    """Return what --json prints beside the summary."""
    return {
        "out": str(evaluation.run.path),
        "seconds": seconds,
        "note": evaluation.note,
        "unmet": failed,
        "checks": evaluation.run.checks(),
        **_early(evaluation),
        **_union(evaluation),
    }


def _next(evaluation: Evaluation) -> str:
    """Return the next command; of an evaluation that ended early, what is known of all images."""
    if evaluation.run.finished:
        return f"next: saddlepoint report {shlex.quote(str(evaluation.run.path))}"
    return stopped_line(evaluation)


def _specified(args: Namespace) -> Spec:
    """Return the specification of a run, and set the flags that it says.

    Raises:
        InputError: it is none of an evaluation of a model itself.
    """
    expected = "expected the spec.json of a run of saddlepoint evaluate"
    try:
        spec = Spec.of(json.loads(Path(args.spec).read_bytes())["spec"])
        args.data, args.limit, args.first = spec.data["reference"], spec.data["limit"], spec.data["first"]
        for name in ("seed", "batch_size", "budget", "timeout", "domains"):
            setattr(args, name, getattr(spec, name))
        _check_types(args)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"--spec {args.spec!r} cannot be read ({one_line(error)}); {expected}") from None
    if spec.smoothing is not None:
        raise InputError(f"--spec {args.spec!r} is of votes; {expected}")
    args.suite = f"attacks of {args.spec}" if spec.suite else "none"
    args.certify = {(): "none", ("interval", "crown"): "auto"}.get(spec.certify) or spec.certify[-1]
    return spec


def _check_types(args: Namespace) -> None:
    """Raise TypeError unless the flags that a specification says are of the types that the parser would give."""
    whole = (args.limit, args.first, args.budget, args.domains)
    right = (
        isinstance(args.data, str)
        and all(type(number) is int and number >= 0 for number in (args.seed, args.batch_size))
        and all(number is None or (type(number) is int and number >= 0) for number in whole)
        and (args.timeout is None or type(args.timeout) in (int, float))
    )
    if not right or not args.batch_size:
        raise TypeError("a number or a name in it is of another kind")


def _as_before(args: Namespace, data: Dataset, spec: Spec) -> Sequence[tuple[str, Number]]:
    """Return norms and radii of a specification, if the data are still those that it is of."""
    if digest(list(data.select(limit=args.limit, first=args.first, seed=args.seed).ids)) != spec.data["ids"]:
        raise InputError(f"{args.data!r} has other examples than those of --spec {args.spec!r}; expected the same data")
    args.norm, args.eps = list(spec.norms), [Number(repr(threat.eps)) for threat in spec.threats]
    return list(zip((threat.norm for threat in spec.threats), args.eps, strict=True))


def _exit_code(args: Namespace, evaluation: Evaluation, gates: Sequence[Gate]) -> int:
    """Print what is odd on standard error, and return the exit code."""
    masked = told_findings(evaluation.run)
    if told_errors(evaluation.run) and not evaluation.robust_accuracy.examples:
        return BAD_INPUT
    if any(gate.met is False for gate in gates) or (args.strict and masked):
        return 1
    return UNDECIDED if any(gate.line is not None for gate in gates) else 0


def _executor(args: Namespace) -> AbstractContextManager[Executor]:
    if args.executor == "ray":
        return Workers(args.workers, args.address, device=args.device)
    if args.workers > 1 or args.address is not None:
        raise InputError("--workers and --address are of ray; expected --executor ray with them")
    return nullcontext(HERE)


def _model(args: Namespace) -> Classifier | SmoothedClassifier:
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    classifier = classifier_of(args, device)
    if args.sigma is None:
        return classifier
    chosen = {name: getattr(args, name) for name in ("sigma", "samples", "alpha", "batch_size", "seed")}
    return SmoothedClassifier(classifier=classifier, **chosen)


def _typed(args: Namespace, data: Dataset, classifier: Classifier | SmoothedClassifier) -> Sequence[tuple[str, Number]]:
    """Return norms and radii as they were typed; the default for such images, which is then printed with its reason."""
    norms = list(dict.fromkeys(args.norm))
    if not args.eps:
        shape = matched(data.select(first=1), _plain(classifier)).shape
        return [(norm, default(norm, shape)[0]) for norm in norms]
    if len(norms) == 1:
        return [(norms[0], eps) for eps in args.eps]
    if len(norms) != len(args.eps):
        raise InputError(
            f"--norm names {len(norms)} norms and --eps {len(args.eps)} radii; expected one for each norm, in the "
            "same order, or no --eps"
        )
    return list(zip(norms, args.eps, strict=True))


def _tell_cost(args: Namespace, classifier: Classifier, data: Dataset) -> None:
    """Say on standard error what a long search will take, by one pass of one image."""
    sample = next(readable(matched(data, classifier)), None)
    if sample is None or args.json or args.suite == "none":
        return
    x, seconds = sample.x[None], list[float]()
    for _ in range(2):  # the first one prepares
        begin = time.perf_counter()
        classifier.predict(x)
        seconds.append(time.perf_counter() - begin)
    cost = PASSES * seconds[-1]
    if cost * len(data) > LONG:
        print(
            f"saddlepoint: a pass takes {1000 * seconds[-1]:.0f} ms for one image, and one that stands some {PASSES}: "
            f"{len(data)} images may take {cost * len(data) / 60:.0f} minutes, less where batches are faster; records "
            "are kept as they come, and --limit, --minutes or --width end it early",
            file=sys.stderr,
        )


def _plain(classifier: Classifier | SmoothedClassifier) -> Classifier:
    return classifier.classifier if isinstance(classifier, SmoothedClassifier) else classifier


def _suite(name: str) -> Step | tuple[Step, ...]:
    if name == "none":
        return ()
    return SUITES[name] if name in SUITES else named_attack(name, "--suite")


def _seconds(args: Namespace) -> float | None:
    limit: float | None = args.time if args.minutes is None else 60 * args.minutes
    return limit


def _until(args: Namespace, rules: Sequence[Rule]) -> Until | None:
    """Return what may end the evaluation early, if that was asked for."""
    if args.looks is not None and args.width is None and _seconds(args) is None:
        raise InputError(f"--looks is {args.looks}, and nothing to stop at; expected --width or --minutes, too")
    if args.width is None and (_seconds(args) is None or not rules):
        return None
    return Until(args.width, tuple(rules), args.looks)


def _gate(evaluation: Evaluation, text: str, rule: Rule) -> Gate:
    """Hold the evaluation against a requirement: these images if all were evaluated, else all of them, at 95 %."""
    asked = rule.of(evaluation.brackets)
    if not asked:
        raise InputError(f"--require {text!r} asks for a ball that was not evaluated; expected one of --norm and --eps")
    if not evaluation.run.finished:
        met = evaluation.until.decided(rule, evaluation.done.seen, evaluation.done.whole, evaluation.done.brackets)
        return Gate(met, None if met else f"{'undecided' if met is None else 'not met'}: {text}")
    shares = [(requirement, requirement.share(getattr(requirement, rule.kind))) for requirement in asked]
    unmet = next((pair for pair in shares if pair[1] is None or pair[1] < rule.least), None)
    if unmet is None:
        return Gate(True, None)
    where = f" at {unmet[0].ball}" if len(shares) > 1 else ""
    return Gate(False, f"not met: {text}: {rule.kind} accuracy{where} is {percent(unmet[1]) or 'unknown'}")


def _union(evaluation: Evaluation) -> dict[str, object]:
    """Return the bracket of all balls at once, of an evaluation of several norms; it has no radius."""
    whole = evaluation.robust_accuracy
    told = {name: value for name, value in whole.summary().items() if name not in ("norm", "eps")}
    return {"union": told} if whole.norm == UNION else {}


def _early(evaluation: Evaluation) -> dict[str, object]:
    """Return what is known of all images, of an evaluation that ended early."""
    if evaluation.run.finished:
        return {}
    return {
        "seen": evaluation.done.seen,
        "whole": evaluation.done.whole,
        "ends": {k: list(v) for k, v in evaluation.ends.items()},
    }
