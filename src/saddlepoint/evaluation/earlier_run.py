"""Points of an earlier run, tried first: what broke one version of a model often breaks the next."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saddlepoint.attacks import PGD, Input
from saddlepoint.data.datasets import Sample
from saddlepoint.errors import InputError
from saddlepoint.evaluation.spec import ThreatModel
from saddlepoint.results import Attacked, RunFolder
from saddlepoint.results.folder.form import require_evaluation

NAME = "earlier point"
"""What records call the attack."""
TRY = PGD(steps=10, travel=0.5, random_start=False, loss="margin")
"""The point is evaluated, and moved a little: a search stops at the first success, just across the boundary."""
PROBE = PGD(steps=5, travel=1.25, random_start=False, loss="margin")
"""What an example that stood far from the boundary is searched by, where that is enough."""


@dataclass(frozen=True, eq=False)
class Points:
    """What an earlier run found: points that broke examples, and how near those that stood came to the boundary.

    Attributes:
        run: the run.
        radii: by norm and id, the radii at which it has a point, and the digest of the image that it is of.
        stood: by norm and radius, then by id, the digest and the least margin that the search came to, as a share of
            the clean one.
        near: the share of those that stood, the nearest ones, that are searched anew; None for all.
    """

    run: RunFolder
    radii: Mapping[tuple[str, str], tuple[str, Sequence[float]]]
    stood: Mapping[tuple[str, float], Mapping[str, tuple[str, float]]]
    near: float | None = None

    def described(self) -> dict[str, Any]:
        """Return what a specification says of them."""
        near = {} if self.near is None else {"near": self.near}
        return {"model": self.run.spec["model"]["digest"], "rows": self.run.summary()["rows"], **near}

    def share(self, sample: Sample, threat: ThreatModel) -> float:
        """Return the share of its clean margin that an example kept; −∞ if it did not stand, or is another one now."""
        digest, share = self.stood.get((threat.norm, threat.eps), {}).get(sample.id, ("", -math.inf))
        return share if digest == sample.digest else -math.inf

    @cached_property
    def bars(self) -> dict[tuple[str, float], float]:
        """By norm and radius, the share up to which what stood is near; empty where all are searched anew."""
        if self.near is None:
            return {}
        shares = {ball: [share for _, share in of.values()] for ball, of in self.stood.items()}
        return {ball: float(np.quantile(np.array(share), self.near)) for ball, share in shares.items()}

    def find(self, sample: Sample, threat: ThreatModel) -> NDArray[np.float32] | None:
        """Return the point at the largest radius that is no larger, else at the smallest; None without one."""
        digest, radii = self.radii.get((threat.norm, sample.id), ("", ()))
        if digest != sample.digest:
            return None
        inside = [radius for radius in radii if radius <= threat.eps]
        return self.run.point(sample.id, max(inside) if inside else min(radii), threat.norm)


def points_of(run: RunFolder, norms: Sequence[str], near: float | None = None) -> Points:
    """Return what a run found in these norms.

    Raises:
        InputError: it attacked nothing in them, or `near` is no share.
        RunError: it is no evaluation.
    """
    if near is not None and not 0 <= near <= 1:
        raise InputError(f"near is {near!r}; expected a share of the examples that stood, such as 0.1")
    require_evaluation(run.spec, str(run.path))
    radii: dict[tuple[str, str], tuple[str, list[float]]] = {}
    stood: dict[tuple[str, float], dict[str, tuple[str, float]]] = {}
    for record in run.records():
        if not isinstance(record, Attacked) or record.norm not in norms:
            continue
        if record.kept:
            radii.setdefault((record.norm, record.id), (str(record.digest), []))[1].append(record.eps)
        if record.stands and record.clean_margin > 0:
            stood.setdefault((record.norm, record.eps), {})[record.id] = (
                str(record.digest),
                record.margin / record.clean_margin,
            )
    if not radii and not stood:
        raise InputError(f"{str(run.path)!r} has attacked nothing in {' or '.join(norms)}; expected a run that did")
    return Points(run, radii, stood, near)


def inputs(points: Points, samples: Sequence[tuple[int, Sample]], threat: ThreatModel) -> list[Input]:
    """Return the examples that have a point, with it as the start of a search; one from outside Δ is projected."""
    starts = [(place, sample, points.find(sample, threat)) for place, sample in samples]
    with_start = list[Input]()
    for place, sample, point in starts:
        if point is not None:
            region = threat.ball.at(sample.x[None], *(threat.box or (None, None)))
            start = region.project(torch.from_numpy(point.copy())[None] - sample.x[None])[0]
            with_start.append(Input(place, sample.id, sample.x, sample.y, threat.eps, start=start))
    return with_start
