"""`--distance`: a run that looks for the nearest adversarial point of each image, before the one at the radii asked."""

import math
from argparse import Namespace
from pathlib import Path

from saddlepoint.attacks import FMN
from saddlepoint.classifier import Classifier
from saddlepoint.data.datasets import Dataset, matched
from saddlepoint.errors import InputError
from saddlepoint.evaluation import Evaluation, ThreatModel, evaluate
from saddlepoint.evaluation.executors import Executor
from saddlepoint.evaluation.reading import readable
from saddlepoint.evaluation.session import Observe
from saddlepoint.results import Attacked, Distances, RunFolder, distances


def nearest(
    args: Namespace, classifier: object, data: Dataset, executor: Executor, observe: Observe | None
) -> RunFolder:
    """Return a run of `FMN` over the whole box of pixels, in the folder beside --out.

    Args:
        args: the parsed arguments.
        classifier: the network.
        data: the data set, of which the arguments choose.
        executor: who evaluates.
        observe: told how far it is.

    Raises:
        InputError: another flag does not go with --distance.
    """
    for flag in ("earlier", "near", "time", "minutes", "width", "spec"):
        if getattr(args, flag) is not None:
            raise InputError(
                f"--{'from' if flag == 'earlier' else flag} does not go with --distance; expected one of them"
            )
    if not isinstance(classifier, Classifier) or args.suite == "none":
        raise InputError("--distance looks for adversarial points; expected a --suite that attacks")
    sample = next(readable(matched(data.select(first=1), classifier)), None)
    pixels = 1 if sample is None else sample.x.numel()
    farthest = {"linf": 1.0, "l2": math.sqrt(pixels), "l1": float(pixels)}
    return evaluate(
        classifier,
        data,
        [ThreatModel(norm, farthest[norm]) for norm in dict.fromkeys(args.norm)],
        suite=FMN(),
        certify="none",
        out=folder(args),
        seed=args.seed,
        limit=args.limit,
        first=args.first,
        batch_size=args.batch_size,
        budget=args.budget,
        checks=False,
        executor=executor,
        observe=observe,
    ).run


def with_points(run: RunFolder) -> RunFolder | None:
    """Return the run if it has a point to begin from; where all images are misclassified, it has none."""
    return run if any(isinstance(record, Attacked) and record.kept for record in run.records()) else None


def folder(args: Namespace) -> Path:
    """Return where that run lies."""
    out = Path(args.out)
    return out.with_name(f"{out.name}-distances")


def nearest_of(run: RunFolder, evaluation: Evaluation) -> list[Distances]:
    """Return the distances that follow from both runs, in each norm."""
    return distances([*run.records(), *evaluation.records()])
