"""A data set, attacked into a run folder."""

import json
import sys
import time
import warnings
from argparse import Namespace

from saddlepoint.cli.attack.dataset_text import render
from saddlepoint.cli.attack.settings import Settings, settings
from saddlepoint.cli.classifiers import require_photos
from saddlepoint.cli.console import bounded, interruptible, progress, told_errors, told_findings, warned
from saddlepoint.data.datasets import Dataset, load_dataset, matched, question_data
from saddlepoint.errors import InputError
from saddlepoint.evaluation.job import Job
from saddlepoint.evaluation.session import run as evaluate_into
from saddlepoint.evaluation.spec import Spec, ThreatModel, described_data, described_model
from saddlepoint.files import in_utf8
from saddlepoint.results import open_run


def run(args: Namespace) -> int:
    """Attack a data set, or go on with it; print the summary, and return the exit code."""
    for flag, value in (("IMAGE", args.images), ("--label", args.label), ("--target", args.target)):
        if value:
            raise InputError(f"{flag} and --data were both given; expected one of them")
    chosen = settings(args)
    data = _data(args, chosen)
    job, begin = _job(args, chosen, data), time.perf_counter()
    with warned(), bounded():
        question_data(chosen.classifier, data)
    with interruptible(), bounded(), progress(silent=args.json) as observe:
        done = evaluate_into(job, chosen.out, keep=args.keep or "broken", observe=observe, warn=_warn)
    summary = done.summary
    assert summary is not None, "no clock ends an attack"  # noqa: S101 - an internal invariant
    seconds = time.perf_counter() - begin
    if args.json:
        told = {**job.spec.plain(), "out": in_utf8(str(chosen.out)), "seconds": seconds, "summary": summary}
        print(json.dumps(told, ensure_ascii=False))
    else:
        render(chosen, job.spec.plain(), summary, seconds)
    written = open_run(chosen.out)
    masked = told_findings(written)
    return 2 if told_errors(written) else int(args.strict and masked)


def _job(args: Namespace, chosen: Settings, data: Dataset) -> Job:
    """Return the evaluation that the flags ask for: attacks alone, at one radius."""
    spec = Spec(
        model=described_model(chosen.classifier),
        data=described_data(data, args.limit, args.first),
        threats=(ThreatModel(chosen.norm, float(chosen.eps), chosen.bounds),),
        suite=chosen.suite,
        certify=(),
        seed=chosen.seed,
        batch_size=min(chosen.batch_size, len(data)),
        precision=chosen.precision,
        stop=str(chosen.stop),
    )
    return Job(spec, chosen.classifier, data)


def _warn(line: str) -> None:
    print(f"saddlepoint: {line}", file=sys.stderr)


def _data(args: Namespace, chosen: Settings) -> Dataset:
    """Return the examples that were asked for, in the form that the model takes."""
    data = load_dataset(args.data)
    require_photos(args, data)
    data = data.select(limit=args.limit, first=args.first, seed=args.seed)
    with warnings.catch_warnings(), bounded():
        warnings.simplefilter("ignore")
        return matched(data, chosen.classifier)
