"""An evaluation on the command line: progress, the bracket, and whether it is what was required."""

import json
import sys
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Any

import torch

from saddlepoint.attacks import Step
from saddlepoint.attacks.registry import SUITES
from saddlepoint.certificates.smoothing import SmoothedClassifier
from saddlepoint.classifier import Classifier
from saddlepoint.cli.attacking.settings import named_attack
from saddlepoint.cli.classifiers import classifier_of, require_photos
from saddlepoint.cli.evaluate import requirement
from saddlepoint.cli.flags import Number
from saddlepoint.cli.memory import bounded
from saddlepoint.cli.radii import default
from saddlepoint.cli.running.progress import progress
from saddlepoint.cli.running.run import interruptible, told_findings
from saddlepoint.cli.table import table
from saddlepoint.cli.warned import warned
from saddlepoint.data.datasets import Dataset, load_dataset, matched
from saddlepoint.errors import InputError
from saddlepoint.evaluation import Evaluation, ThreatModel, evaluate
from saddlepoint.evaluation.escalation import sample_of
from saddlepoint.evaluation.executors import HERE, Executor, Workers
from saddlepoint.evaluation.reading import readable
from saddlepoint.evaluation.stopping import Rule, Stop
from saddlepoint.evaluation.transfer import NAME
from saddlepoint.results import Bracket, RunError, RunFolder, by_label, compare, namer, open_run, percent, spelled
from saddlepoint.results.compare import in_words
from saddlepoint.results.store import write_bytes

UNDECIDED = 3
PASSES, LONG = 300, 120.0
"""What FAST takes for an image that stands, and the seconds of a whole evaluation that are told beforehand."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a requirement is met, None while that is open; and a line about one that is not."""

    met: bool | None
    line: str | None


def run(given: Namespace) -> int:
    """Evaluate, print the bracket, and return 1 if a requirement is not met."""
    rules = [Rule(*requirement(text)) for text in given.require]
    stop = _stop(given, rules)
    suite = _suite(given.suite)
    classifier, earlier = _model(given), None if given.earlier is None else open_run(given.earlier)
    data = load_dataset(given.data)
    require_photos(given, data)
    radii = _radii(given, data, classifier)
    threats = [ThreatModel(given.norm, float(eps)) for eps in radii]
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
            stop=stop,
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
    typed = {float(eps): eps.text for eps in radii}
    if given.json:
        told = {
            "out": str(found.run.path),
            "seconds": seconds,
            "note": found.note,
            "unmet": failed,
            "checks": found.run.checks(),
            **_early(found),
        }
        print(json.dumps({**told, "summary": found.summary}, ensure_ascii=False))
    else:
        _print(given, _plain(classifier), found, seconds, typed)
        for line in _checked(found.run.checks()):
            print(line)
        if earlier is not None:
            print(_since(earlier, found))
        for line in failed:
            print(line)
        if not found.run.finished:
            print(_stopped(found))
    if given.markdown:
        write_bytes(Path(given.markdown).absolute(), _markdown(given, found, gates, typed).encode())
    masked = told_findings(found.run)
    if any(gate.met is False for gate in gates) or (given.strict and masked):
        return 1
    return UNDECIDED if failed else 0


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


def _radii(given: Namespace, data: Dataset, classifier: Classifier | SmoothedClassifier) -> Sequence[Number]:
    """Return what was typed, or the default for such images, which is then printed with its reason."""
    if given.eps:
        return list(given.eps)
    return [default(given.norm, matched(data.select(first=1), _plain(classifier)).shape)[0]]


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


def _normalisation(classifier: Classifier) -> str:
    """Return one line: what is done to pixels before the module sees them."""
    if not classifier.normalises:
        return "pixels in [0, 1] go into the model as they are: neither --mean nor --std"
    mean, std = (", ".join(f"{n:.4g}" for n in part.flatten().tolist()) for part in (classifier.mean, classifier.std))
    return f"normalised inside the model: mean {mean}; std {std}"


def _default(given: Namespace, found: Evaluation) -> str:
    """Return the reason for ε where none was typed."""
    return default(given.norm, found.run.spec["data"]["shape"])[1]


def _print(
    given: Namespace, classifier: Classifier, found: Evaluation, seconds: float, typed: dict[float, str]
) -> None:
    print(f"{given.model} · {given.data} · {given.suite} · certificates: {given.certify} · seed {given.seed}")
    print(_normalisation(classifier))
    if not given.eps:
        print(_default(given, found))
    print()
    table([_row(each, given.norm, typed.get(each.eps, spelled(each.eps))) for each in found.brackets])
    last = found.brackets[-1]
    print("\n" + fill(last.in_words(typed.get(last.eps)), 100))
    if given.sigma is not None:
        print(
            f"certified is the classifier that votes under noise of σ {given.sigma:g}, {given.samples} times an image; "
            f"each certificate is wrong with probability {given.alpha:g} at most"
        )
    if found.note:
        print(fill(found.note, 100))
    broken = ", ".join(f"{name} {count}" for name, count in sorted(last.attacks.items()))
    for line in (*_by_class(found), *_sampled(found)):
        print(line)
    told = f"broken by: {broken or 'none'} · " if last.searched else ""
    print(f"{told}{seconds:.1f} s in this session · {found.run.path}")


def _sampled(found: Evaluation) -> list[str]:
    """Return one line: what a sample says of the length of the attacks."""
    if found.before is not None:
        said = sample_of(found.before)
        told = f"in {found.before.path}, {said.in_words()}" if said else f"a sample of {found.before.path} was broken"
        return [fill(f"{told}; so all that stood has met longer attacks here", 100)]
    said = sample_of(found.run) if found.run.finished else None
    return [] if said is None else [fill(said.in_words(), 100)]


def _checked(checks: Sequence[Mapping[str, str]]) -> list[str]:
    """Return how many checks passed, and a line for each that did not."""
    odd = [each for each in checks if each["outcome"] in ("warn", "fail")]
    lines = [f"checks: {len(checks) - len(odd)} of {len(checks)} passed"] if checks else []
    return lines + [f"  {each['outcome']}: {each['name']}: {each['measured']}; {each['consequence']}" for each in odd]


def _since(earlier: RunFolder, found: Evaluation) -> str:
    """Return one line: what the points of an earlier run broke, what was spent, and which examples flipped."""
    last = found.robust_accuracy
    spent, before = (_passes(run.summary()) for run in (found.run, earlier))
    broken = f"of {last.counts['broken']} broken, {last.attacks.get(NAME, 0)} by a point of {earlier.path.name}"
    told = f"{broken}; {spent} passes, there {before}"
    with suppress(RunError):  # other radii, or other examples
        told += f"; since then: {in_words(compare(earlier, found.run)[-1])}"
    return told


def _passes(summary: Mapping[str, Any]) -> int:
    return int(summary["forwards"] + summary["backwards"])


def _by_class(found: Evaluation) -> list[str]:
    """Return one line: the classes with the lowest and the highest attacked accuracy at the largest radius."""
    last = found.brackets[-1]
    groups = by_label(each for each in found.verdicts() if each.eps == last.eps)
    if len(groups) < 2:
        return []
    name = namer(found.run.spec)
    shares = sorted((bracket.share(bracket.attacked) or 0.0, label) for label, bracket in groups.items())
    low, high = (f"{percent(share)} ({name(label)})" for share, label in (shares[0], shares[-1]))
    return [f"{'accuracy under attack' if last.searched else 'clean accuracy'} by class: from {low} to {high}"]


def _markdown(given: Namespace, found: Evaluation, gates: Sequence[Gate], typed: dict[float, str]) -> str:
    """Return the summary for a pull request."""
    rows = [_row(each, given.norm, typed.get(each.eps, spelled(each.eps))) for each in found.brackets]
    cells = [list(rows[0]), ["--:"] * len(rows[0]), *(list(map(str, row.values())) for row in rows)]
    lines = [f"### Robust accuracy of {given.model} on {given.data}", ""]
    lines += [f"| {' | '.join(row)} |" for row in cells]
    lines += ["", found.brackets[-1].in_words(typed.get(found.brackets[-1].eps)), ""]
    if not found.run.finished:
        lines += [_stopped(found), ""]
    words = {True: "met", False: "**not met**", None: "**undecided**"}
    lines += [f"- {words[gate.met]}: `{rule}`" for rule, gate in zip(given.require, gates, strict=True)]
    return "\n".join(lines).rstrip() + "\n"


def _row(each: Bracket, norm: str, eps: str) -> dict[str, object]:
    attacked = {"under attack": percent(each.share(each.attacked))} if each.searched else {}
    return {
        f"{norm} ε": eps,
        "clean": percent(each.share(each.clean)),
        "certified": percent(each.share(each.certified)) if each.proven else "not run",
        **attacked,
        "undecided": each.counts["undecided"],
        **({"broken": each.counts["broken"]} if each.searched else {}),
        "examples": each.examples,
    }


def _seconds(given: Namespace) -> float | None:
    limit: float | None = given.time if given.minutes is None else 60 * given.minutes
    return limit


def _stop(given: Namespace, rules: Sequence[Rule]) -> Stop | None:
    """Return what may end the evaluation early, if that was asked for."""
    if given.looks is not None and given.width is None and _seconds(given) is None:
        raise InputError(f"--looks is {given.looks}, and nothing to stop at; expected --width or --minutes, too")
    if given.width is None and (_seconds(given) is None or not rules):
        return None
    return Stop(given.width, tuple(rules), given.looks)


def _gate(found: Evaluation, text: str, rule: Rule) -> Gate:
    """Hold the evaluation against a requirement: these images if all were evaluated, else all of them, at 95 %."""
    each = rule.of(found.brackets)
    if each is None:
        raise InputError(f"--require {text!r} asks for an eps that was not evaluated; expected it among --eps")
    if not found.run.finished:
        met = found.stop.decided(rule, found.done.seen, found.done.whole, found.done.brackets)
        return Gate(met, None if met else f"{'undecided' if met is None else 'not met'}: {text}")
    got = each.share({"clean": each.clean, "certified": each.certified, "attacked": each.attacked}[rule.kind])
    if got is not None and got >= rule.least:
        return Gate(True, None)
    return Gate(False, f"not met: {text}: {rule.kind} accuracy is {percent(got) or 'unknown'}")


def _early(found: Evaluation) -> dict[str, object]:
    """Return what is known of all images, of an evaluation that ended early."""
    if found.run.finished:
        return {}
    return {"seen": found.done.seen, "whole": found.done.whole, "ends": {k: list(v) for k, v in found.ends.items()}}


def _stopped(found: Evaluation) -> str:
    """Return one line about all images, of an evaluation that ended early."""
    last, ends = found.robust_accuracy, found.ends
    low = ends["certified"][0] if last.proven else 0.0
    return (
        f"stopped after {found.done.seen} of {found.done.whole} images: of all, robust accuracy lies between "
        f"{percent(low)} and {percent(ends['attacked'][1])}, at 95 % whenever one stops; the same command goes on"
    )
