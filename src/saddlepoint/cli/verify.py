"""`saddlepoint verify RUN`: check every claim of an evaluation again."""

import argparse
import json

from saddlepoint.cli.flags import Parser, numbers

_DESCRIPTION = """\
Replay an evaluation: every point that broke an example is held against the ball, the box and the untouched model, and a
seeded share of the certificates is computed again."""

_EPILOG = """\
examples:
  saddlepoint verify run
  saddlepoint verify run --model copies/model --data npz:copy.npz --certificates 1

exit code: 0 when all holds, 1 when a record does not (the first is named), 2 on bad input"""


def register(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("verify", help="check a run again", description=_DESCRIPTION, epilog=_EPILOG)
    add = parser.add_argument
    add("run_folder", metavar="RUN", help="the folder of an evaluation")
    add("--model", metavar="REF", help="a copy of the model (default: the run's own reference)")
    add("--weights", metavar="FILE", help="local weights for the model")
    add("--mean", type=numbers, metavar="M,M,M", help="as given to evaluate")
    add("--std", type=numbers, metavar="S,S,S", help="as given to evaluate")
    add("--data", metavar="REF", help="a copy of the data (default: the run's own reference)")
    add("--certificates", type=float, default=0.05, metavar="SHARE", help="how many to compute again (default: 0.05)")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    from saddlepoint.data.datasets import load_dataset, matched
    from saddlepoint.errors import InputError
    from saddlepoint.evaluation.replay import replay
    from saddlepoint.models import load_classifier
    from saddlepoint.results import check_run, open_run

    if not 0 <= given.certificates <= 1:
        raise InputError(f"--certificates is {given.certificates:g}; expected a share from 0 to 1")
    run = open_run(given.run_folder)
    broken = check_run(given.run_folder)
    model, data = run.spec["model"]["reference"], run.spec["data"]
    classifier = load_classifier(given.model or model, weights=given.weights, mean=given.mean, std=given.std)
    found = load_dataset(given.data or data["reference"])
    examples = found.select(limit=data.get("limit"), first=data.get("first"), seed=run.spec["seed"])
    looked = list(replay(run, classifier, matched(examples, classifier), given.certificates))
    failed = [each for each in looked if each.why is not None]
    marginal = [each.key for each in looked if each.marginal]
    lines = [*broken, *(f"{each.key}: {each.why}" for each in failed)]
    if given.json:
        told = {"checked": len(looked), "failed": lines, "marginal": marginal}
        print(json.dumps(told, ensure_ascii=False))
    else:
        print(f"{len(looked)} claims checked again: {len(lines)} do not hold, {len(marginal)} are marginal")
        for line in lines[:1]:
            print(f"the first: {line}")
    return 1 if lines else 0
