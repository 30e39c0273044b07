"""`saddlepoint verify RUN`: check every claim of an evaluation again."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from saddlepoint.cli.arguments import Parser
from saddlepoint.cli.classifiers import weight_flags

if TYPE_CHECKING:
    from saddlepoint.evaluation.verification import Audit, Checked, Subject

FAILED, UNFINISHED = 1, 3

_DESCRIPTION = """\
Check an evaluation again, as somebody's claim. Every record is held against data and specification, every clean
prediction and every point against the untouched model; a share of the certificates is computed again, and a share of
the searches that found nothing is repeated. Which, your own randomness says. Code that the folder names is not run."""

_EPILOG = """\
examples:
  saddlepoint verify run
  saddlepoint verify run --model copies/model --data npz:copy.npz --certificates 1 --standing 1
  saddlepoint verify run --statement verified.json     # to be signed by the usual tools
  saddlepoint verify run --model my_net.py:make        # code runs only if you name it

exit code: 0 when all holds, 1 when a claim does not (the first is named), 2 on bad input, 3 when all holds and records
are missing: the run is not finished"""

_TOKENS: "dict[Subject, str]" = {
    "record": "SADDLEPOINT_RECORDS_CHECKED",
    "prediction": "SADDLEPOINT_PREDICTIONS_REPLAYED",
    "point": "SADDLEPOINT_WITNESSES_REPLAYED",
    "evidence": "SADDLEPOINT_EVIDENCE_FOLLOWED",
    "certificate": "SADDLEPOINT_CERTIFICATES_RECHECKED",
    "search": "SADDLEPOINT_SEARCHES_REPEATED",
}
"""What a statement says that held, of what there was to check; of samples how large they were."""
UNKNOWN = (
    "that the searches that were not repeated found nothing, and what they cost; that stronger attacks would not; that "
    "the data are a fair sample; the checks in the folder; when, and by whom, the run was made"
)


def register(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("verify", help="check a run again", description=_DESCRIPTION, epilog=_EPILOG)
    add = parser.add_argument
    add("run_folder", metavar="RUN", help="the folder of an evaluation")
    add("--model", metavar="REF", help="a copy of the model (default: the run's own reference, if that is no code)")
    weight_flags(parser)  # as they were given to evaluate; what is done to photographs is in the specification
    add("--data", metavar="REF", help="a copy of the data (default: the run's own reference)")
    add("--certificates", type=float, default=0.05, metavar="SHARE", help="how many to compute again (default: 0.05)")
    add("--standing", type=float, default=0.05, metavar="SHARE", help="how many searches to repeat (default: 0.05)")
    add("--seed", type=int, metavar="N", help="of the sample (default: a fresh one, which is printed)")
    add("--statement", metavar="FILE", help="where to write what held, an in-toto statement of type svr")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from saddlepoint import __version__
    from saddlepoint.evaluation.verification import SUBJECTS
    from saddlepoint.results import Failed, check_run, mark_verified

    audit = _audit(args)
    broken, looked, missing = check_run(args.run_folder), list(audit.checks()), audit.missing()
    failed = [*broken, *(f"{check.key}: {check.why}" for check in looked if check.why is not None)]
    counts = {subject: _counted([check for check in looked if check.subject == subject]) for subject in SUBJECTS}
    errors = len({record.id for record in audit.run.records() if isinstance(record, Failed)})
    told = {
        "checked": len(looked),
        "failed": failed,
        "marginal": [check.key for check in looked if check.marginal],
        "counts": counts,
        "missing": len(missing),
        "errors": errors,
        "seed": audit.seed,
        "unknown": UNKNOWN,
    }
    if args.json:
        print(json.dumps(told, ensure_ascii=False))
    else:
        _print(audit, told)
    if failed:
        return FAILED
    if missing:
        return UNFINISHED
    if args.statement is not None:
        _write_statement(args.statement, audit, counts)
    mark_verified(audit.run, __version__, certificates=audit.certificates, standing=audit.standing, seed=audit.seed)
    return 0


def _write_statement(file: str, audit: "Audit", counts: "dict[Subject, dict[str, int]]") -> None:
    from pathlib import Path

    from saddlepoint import __version__
    from saddlepoint.files import write_bytes
    from saddlepoint.report.exports import verification_statement

    shares = {"certificate": audit.certificates, "search": audit.standing}
    held = [
        token + (f"_{100 * shares[subject]:g}PCT" if subject in shares else "")
        for subject, token in _TOKENS.items()
        if counts[subject]["checked"]
    ]
    path = Path(file).absolute()
    write_bytes(path, verification_statement(audit.run, __version__, held).encode())


def _audit(args: argparse.Namespace) -> "Audit":
    import secrets

    from saddlepoint.data.datasets import load_dataset, matched
    from saddlepoint.errors import InputError, WeightsError
    from saddlepoint.evaluation.verification import Audit
    from saddlepoint.models import load_classifier, require_no_code
    from saddlepoint.models.card import preprocessing
    from saddlepoint.results import open_run

    for name in ("certificates", "standing"):
        if not 0 <= getattr(args, name) <= 1:
            raise InputError(f"--{name} is {getattr(args, name):g}; expected a share from 0 to 1")
    run = open_run(args.run_folder)
    model, data = run.spec["model"]["reference"], run.spec["data"]
    if args.model is None:
        require_no_code(model, f"the run {args.run_folder!r}")
    named = {name: getattr(args, name) for name in ("weights", "mean", "std", "bgr")}
    classifier = load_classifier(args.model or model, **named)
    try:
        classifier.preprocessing = preprocessing(**run.spec["model"]["preprocessing"])
    except WeightsError as error:
        raise InputError(f"the specification of {args.run_folder!r} cannot be followed: {error}") from None
    dataset = load_dataset(args.data or data["reference"])
    examples = dataset.select(limit=data.get("limit"), first=data.get("first"), seed=run.spec["seed"])
    seed = secrets.randbelow(2**31) if args.seed is None else args.seed
    return Audit(run, classifier, matched(examples, classifier), args.certificates, args.standing, seed)


def _counted(looked: "list[Checked]") -> dict[str, int]:
    return {
        "checked": len(looked),
        "failed": sum(check.why is not None for check in looked),
        "exact": sum(check.exact for check in looked),
    }


def _print(audit: "Audit", told: dict[str, Any]) -> None:
    from saddlepoint.evaluation.verification import SUBJECTS

    print(
        f"{audit.run.spec['model']['reference']} · {audit.run.spec['data']['reference']} · {len(audit.data)} examples\n"
    )
    for subject, words in SUBJECTS.items():
        count = told["counts"][subject]
        if count["checked"]:
            exact = f" ({count['exact']} of them to the last bit)" if subject == "search" else ""
            print(f"  {count['checked'] - count['failed']:>6} of {count['checked']:<6} {words}{exact}")
    if told["errors"]:
        print(f"\n{told['errors']} examples have an error instead of a finding, and count as neither")
    if told["missing"]:
        print(f"\nnot finished: {told['missing']} of {len(audit.data)} examples lack records")
    votes = audit.run.spec.get("smoothing")
    if votes:
        print(f"\neach certificate by votes is wrong with probability {votes['alpha']:g} at most")
    checked, failed, marginal = told["checked"], told["failed"], len(told["marginal"])
    print(
        f"\n{checked} claims checked again: {len(failed)} do not hold, {marginal} are marginal · --seed {told['seed']}"
    )
    for line in failed[:1]:
        print(f"the first: {line}")
    print(f"not checked: {told['unknown']}")
