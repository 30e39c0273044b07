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
    given: Namespace, classifier: Classifier, found: Evaluation, seconds: float, typed: Spelling
) -> None:
    """Print what was evaluated, the table of brackets, and what follows from it."""
    print(f"{given.model} · {given.data} · {given.suite} · certificates: {given.certify} · seed {given.seed}")
    print(_normalisation(classifier))
    norms = dict.fromkeys(each.norm for each in found.brackets)
    for norm in () if given.eps else norms:
        print(default(norm, found.run.spec["data"]["shape"])[1])
    print()
    table(_rows(found, typed))
    last = found.robust_accuracy
    print("\n" + fill(last.in_words(_ball(last, typed)), 100))
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
        said = _samples(found.before)
        told = [f"in {found.before.path}, {each}" for each in said] or [f"a sample of {found.before.path} was broken"]
        return [fill(f"{each}; so all that stood has met longer attacks here", 100) for each in told]
    return [fill(each, 100) for each in _samples(found.run)] if found.run.finished else []


def _samples(run: RunFolder) -> list[str]:
    found = samples_of(run)
    return [f"{norm}: {said.in_words()}" if len(found) > 1 else said.in_words() for norm, said in found.items()]


def check_lines(checks: Sequence[Mapping[str, str]]) -> list[str]:
    """Return how many checks passed, and a line for each that did not."""
    odd = [each for each in checks if each["outcome"] in ("warn", "fail")]
    lines = [f"checks: {len(checks) - len(odd)} of {len(checks)} passed"] if checks else []
    return lines + [f"  {each['outcome']}: {each['name']}: {each['measured']}; {each['consequence']}" for each in odd]


def since_line(earlier: RunFolder, found: Evaluation) -> str:
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
    """Return one line: the classes with the lowest and the highest attacked accuracy under the last threat."""
    last = found.brackets[-1]
    groups = by_label(each for each in found.verdicts() if (each.norm, each.eps) == (last.norm, last.eps))
    if len(groups) < 2:
        return []
    name = namer(found.run.spec)
    shares = sorted((bracket.share(bracket.attacked) or 0.0, label) for label, bracket in groups.items())
    low, high = (f"{percent(share)} ({name(label)})" for share, label in (shares[0], shares[-1]))
    return [f"{'accuracy under attack' if last.searched else 'clean accuracy'} by class: from {low} to {high}"]


def markdown(given: Namespace, found: Evaluation, gates: Sequence[Gate], typed: Spelling) -> str:
    """Return the summary for a pull request."""
    rows, last = _rows(found, typed), found.robust_accuracy
    cells = [list(rows[0]), ["--:"] * len(rows[0]), *(list(map(str, row.values())) for row in rows)]
    lines = [f"### Robust accuracy of {given.model} on {given.data}", ""]
    lines += [f"| {' | '.join(row)} |" for row in cells]
    lines += ["", last.in_words(_ball(last, typed)), ""]
    if not found.run.finished:
        lines += [stopped_line(found), ""]
    words = {True: "met", False: "**not met**", None: "**undecided**"}
    lines += [f"- {words[gate.met]}: `{rule}`" for rule, gate in zip(given.require, gates, strict=True)]
    return "\n".join(lines).rstrip() + "\n"


def _ball(each: Bracket, typed: Spelling) -> str:
    """Return a ball as it was typed."""
    radius = typed.get((each.norm, each.eps))
    return each.ball if radius is None else f"{each.norm} ε {radius}"


def _rows(found: Evaluation, typed: Spelling) -> list[dict[str, object]]:
    """Return the rows of the table: balls of one norm by their radius, those of several by their name."""
    norms, shown = {each.norm for each in found.brackets}, found.brackets
    if len(norms) > 1:
        return [{"ball": _ball(each, typed), **_row(each)} for each in (*shown, found.robust_accuracy)]
    return [{f"{each.norm} ε": typed.get((each.norm, each.eps), spelled(each.eps)), **_row(each)} for each in shown]


def _row(each: Bracket) -> dict[str, object]:
    attacked = {"under attack": percent(each.share(each.attacked))} if each.searched else {}
    return {
        "clean": percent(each.share(each.clean)),
        "certified": percent(each.share(each.certified)) if each.proven else "not run",
        **attacked,
        "undecided": each.counts["undecided"],
        **({"broken": each.counts["broken"]} if each.searched else {}),
        "examples": each.examples,
    }


def stopped_line(found: Evaluation) -> str:
    """Return one line about all images, of an evaluation that ended early."""
    last, ends = found.brackets[-1], found.ends
    where = "" if last == found.robust_accuracy else f" at {last.ball}"
    low = ends["certified"][0] if last.proven else 0.0
    return (
        f"stopped after {found.done.seen} of {found.done.whole} images: of all, robust accuracy{where} lies between "
        f"{percent(low)} and {percent(ends['attacked'][1])}, at 95 % whenever one stops; the same command goes on"
    )
