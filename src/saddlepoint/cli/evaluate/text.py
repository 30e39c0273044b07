"""An evaluation as text: the table of brackets, what it says, and the summary for a pull request."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from saddlepoint.classifier import Classifier
from saddlepoint.cli.radii import default
from saddlepoint.cli.table import table
from saddlepoint.evaluation import Evaluation
from saddlepoint.evaluation.earlier_run import NAME
from saddlepoint.evaluation.escalation import samples_of
from saddlepoint.results import Bracket, RunError, RunFolder, by_label, compare, namer, percent, spelled
from saddlepoint.results.records.comparison import in_words

Spelling = Mapping[tuple[str, float], str]
"""By norm and ε, the radius as it was typed."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a requirement is met, None while that is open; and a line about one that is not."""

    met: bool | None
    line: str | None


def _normalisation(classifier: Classifier) -> str:
    """Return one line: what is done to pixels before the module sees them."""
    if not classifier.normalises:
        return "pixels in [0, 1] go into the model as they are: neither --mean nor --std"
    mean, std = (", ".join(f"{n:.4g}" for n in part.flatten().tolist()) for part in (classifier.mean, classifier.std))
    return f"normalised inside the model: mean {mean}; std {std}"


def print_evaluation(
    args: Namespace, classifier: Classifier, evaluation: Evaluation, seconds: float, typed: Spelling
) -> None:
    """Print what was evaluated, the table of brackets, and what follows from it.

    Args:
        args: the parsed arguments.
        classifier: the network that was evaluated.
        evaluation: the outcome.
        seconds: how long it took.
        typed: the radii as the user spelt them.
    """
    print(f"{args.model} · {args.data} · {args.suite} · certificates: {args.certify} · seed {args.seed}")
    print(_normalisation(classifier))
    norms = dict.fromkeys(bracket.norm for bracket in evaluation.brackets)
    for norm in () if args.eps else norms:
        print(default(norm, evaluation.run.spec["data"]["shape"])[1])
    print()
    table(_rows(evaluation, typed))
    last = evaluation.robust_accuracy
    print("\n" + fill(last.in_words(_ball(last, typed)), 100))
    if args.sigma is not None:
        print(
            f"certified is the classifier that votes under noise of σ {args.sigma:g}, {args.samples} times an image; "
            f"each certificate is wrong with probability {args.alpha:g} at most"
        )
    if evaluation.note:
        print(fill(evaluation.note, 100))
    broken = ", ".join(f"{name} {count}" for name, count in sorted(last.attacks.items()))
    for line in (*_by_class(evaluation), *_sampled(evaluation)):
        print(line)
    told = f"broken by: {broken or 'none'} · " if last.searched else ""
    print(f"{told}{seconds:.1f} s in this session · {evaluation.run.path}")


def _sampled(evaluation: Evaluation) -> list[str]:
    """Return one line: what a sample says of the length of the attacks."""
    if evaluation.before is not None:
        said = _samples(evaluation.before)
        told = [f"in {evaluation.before.path}, {text}" for text in said] or [
            f"a sample of {evaluation.before.path} was broken"
        ]
        return [fill(f"{sample}; so all that stood has met longer attacks here", 100) for sample in told]
    return [fill(sample, 100) for sample in _samples(evaluation.run)] if evaluation.run.finished else []


def _samples(run: RunFolder) -> list[str]:
    samples = samples_of(run)
    return [f"{norm}: {said.in_words()}" if len(samples) > 1 else said.in_words() for norm, said in samples.items()]


def check_lines(checks: Sequence[Mapping[str, str]]) -> list[str]:
    """Return how many checks passed, and a line for each that did not."""
    odd = [check for check in checks if check["outcome"] in ("warn", "fail")]
    lines = [f"checks: {len(checks) - len(odd)} of {len(checks)} passed"] if checks else []
    return lines + [
        f"  {check['outcome']}: {check['name']}: {check['measured']}; {check['consequence']}" for check in odd
    ]


def since_line(earlier: RunFolder, evaluation: Evaluation) -> str:
    """Return one line: what the points of an earlier run broke, what was spent, and which examples flipped."""
    last = evaluation.robust_accuracy
    spent, before = (_passes(run.summary()) for run in (evaluation.run, earlier))
    broken = f"of {last.counts['broken']} broken, {last.attacks.get(NAME, 0)} by a point of {earlier.path.name}"
    told = f"{broken}; {spent} passes, there {before}"
    with suppress(RunError):  # other radii, or other examples
        told += f"; since then: {in_words(compare(earlier, evaluation.run)[-1])}"
    return told


def _passes(summary: Mapping[str, Any]) -> int:
    return int(summary["forwards"] + summary["backwards"])


def _by_class(evaluation: Evaluation) -> list[str]:
    """Return one line: the classes with the lowest and the highest attacked accuracy under the last threat."""
    last = evaluation.brackets[-1]
    groups = by_label(
        judged for judged in evaluation.judgements() if (judged.norm, judged.eps) == (last.norm, last.eps)
    )
    if len(groups) < 2:
        return []
    name = namer(evaluation.run.spec)
    shares = sorted((bracket.share(bracket.attacked) or 0.0, label) for label, bracket in groups.items())
    low, high = (f"{percent(share)} ({name(label)})" for share, label in (shares[0], shares[-1]))
    return [f"{'accuracy under attack' if last.searched else 'clean accuracy'} by class: from {low} to {high}"]


def markdown(args: Namespace, evaluation: Evaluation, gates: Sequence[Gate], typed: Spelling) -> str:
    """Return the summary for a pull request.

    Args:
        args: the parsed arguments.
        evaluation: the outcome.
        gates: the requirements, each met, not met or undecided.
        typed: the radii as the user spelt them.
    """
    rows, last = _rows(evaluation, typed), evaluation.robust_accuracy
    cells = [list(rows[0]), ["--:"] * len(rows[0]), *(list(map(str, row.values())) for row in rows)]
    lines = [f"### Robust accuracy of {args.model} on {args.data}", ""]
    lines += [f"| {' | '.join(row)} |" for row in cells]
    lines += ["", last.in_words(_ball(last, typed)), ""]
    if not evaluation.run.finished:
        lines += [stopped_line(evaluation), ""]
    words = {True: "met", False: "**not met**", None: "**undecided**"}
    lines += [f"- {words[gate.met]}: `{rule}`" for rule, gate in zip(args.require, gates, strict=True)]
    return "\n".join(lines).rstrip() + "\n"


def _ball(bracket: Bracket, typed: Spelling) -> str:
    """Return a ball as it was typed."""
    radius = typed.get((bracket.norm, bracket.eps))
    return bracket.ball if radius is None else f"{bracket.norm} ε {radius}"


def _rows(evaluation: Evaluation, typed: Spelling) -> list[dict[str, object]]:
    """Return the rows of the table: balls of one norm by their radius, those of several by their name."""
    norms, shown = {bracket.norm for bracket in evaluation.brackets}, evaluation.brackets
    if len(norms) > 1:
        return [{"ball": _ball(bracket, typed), **_row(bracket)} for bracket in (*shown, evaluation.robust_accuracy)]
    return [
        {f"{bracket.norm} ε": typed.get((bracket.norm, bracket.eps), spelled(bracket.eps)), **_row(bracket)}
        for bracket in shown
    ]


def _row(bracket: Bracket) -> dict[str, object]:
    attacked = {"under attack": percent(bracket.share(bracket.attacked))} if bracket.searched else {}
    return {
        "clean": percent(bracket.share(bracket.clean)),
        "certified": percent(bracket.share(bracket.certified)) if bracket.proven else "not run",
        **attacked,
        "undecided": bracket.counts["undecided"],
        **({"broken": bracket.counts["broken"]} if bracket.searched else {}),
        "examples": bracket.examples,
    }


def stopped_line(evaluation: Evaluation) -> str:
    """Return one line about all images, of an evaluation that ended early."""
    last, ends = evaluation.brackets[-1], evaluation.ends
    where = "" if last == evaluation.robust_accuracy else f" at {last.ball}"
    low = ends["certified"][0] if last.proven else 0.0
    done = evaluation.done
    return (
        f"stopped after {done.seen} of {done.whole} images: of all, robust accuracy{where} lies between "
        f"{percent(low)} and {percent(ends['attacked'][1])}, at 95 % whenever one stops; the same command goes on"
    )
