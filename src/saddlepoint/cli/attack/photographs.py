"""The command from its parsed flags to its exit code."""

import sys
from argparse import Namespace

from saddlepoint.cli.attack.cases import failed
from saddlepoint.cli.attack.output import Output
from saddlepoint.cli.attack.render import render
from saddlepoint.cli.attack.search import attack_group
from saddlepoint.cli.attack.settings import Settings, settings
from saddlepoint.cli.attack.subjects import Subject, groups, read
from saddlepoint.cli.attack.trace import Trace, drawn
from saddlepoint.cli.console import bounded, warned


def run(args: Namespace) -> int:
    """Attack every image, print the outcome, and return the exit code."""
    with warned(), drawn(args.json) as draw:
        draw(f"loading {args.model}")
        chosen = settings(args)
        subjects = read(args.images, chosen.classifier.preprocessing, chosen.out)
        with bounded():
            outcome = _attack(chosen, subjects, Trace(draw))
    print(outcome.as_json()) if args.json else render(chosen, outcome)
    errors = [case.error for case in outcome.images if case.error]
    for line in (*outcome.findings, *errors):
        print("saddlepoint:", line, file=sys.stderr)
    return 2 if errors else int(args.strict and bool(outcome.findings))


def _attack(chosen: Settings, subjects: list[Subject], trace: Trace) -> Output:
    cases = [failed(subject, subject.error) for subject in subjects if subject.error is not None]
    total, findings = 0.0, []
    for group in groups(subjects):
        images, seconds, signs = attack_group(chosen, group, trace)
        cases += images
        total += seconds
        findings += [sign.text for sign in signs]
    return Output(
        model=chosen.model,
        norm=chosen.norm,
        eps=float(chosen.eps),
        attack=chosen.attack,
        seed=chosen.seed,
        box=chosen.box,
        seconds=total,
        findings=tuple(findings),
        images=tuple(sorted(cases, key=lambda case: case.index)),
    )
