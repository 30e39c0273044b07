"""Points of an earlier run, tried first: what broke one version of a model often breaks the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saddlepoint.attacks import PGD, Input
from saddlepoint.data.datasets import Sample
from saddlepoint.errors import InputError
from saddlepoint.evaluation.spec import ThreatModel
from saddlepoint.results import RunFolder

NAME = "earlier point"
"""What records call the attack."""
TRY = PGD(steps=10, travel=0.5, random_start=False, loss="margin")
"""The point is evaluated, and moved a little: a search stops at the first success, just across the boundary."""


@dataclass(frozen=True, eq=False)
class Points:
    """The points that an earlier run kept.

    Attributes:
        run: the run.
        radii: by id, the radii at which it has a point, and the digest of the image that it is of.
    """

    run: RunFolder
    norm: str
    radii: Mapping[str, tuple[str, Sequence[float]]]

    def described(self) -> dict[str, Any]:
        """Return what a specification says of them."""
        return {"model": self.run.spec["model"]["digest"], "rows": self.run.summary()["rows"]}

    def find(self, sample: Sample, eps: float) -> NDArray[np.float32] | None:
        """Return the point at the largest radius that is no larger, else at the smallest; None without one."""
        digest, radii = self.radii.get(sample.id, ("", ()))
        if digest != sample.digest:
            return None
        inside = [radius for radius in radii if radius <= eps]
        return self.run.point(sample.id, max(inside) if inside else min(radii))


def points_of(run: RunFolder, norm: str) -> Points:
    """Return the points that a run kept.

    Raises:
        InputError: it kept none in this norm.
    """
    radii: dict[str, tuple[str, list[float]]] = {}
    for row in run.rows().select(["id", "digest", "norm", "eps", "kind", "kept"]).to_pylist():
        if row["kept"] and row["kind"] == "attack" and row["norm"] == norm:
            radii.setdefault(row["id"], (row["digest"], []))[1].append(row["eps"])
    if not radii:
        raise InputError(f"{str(run.path)!r} has no point of a {norm} ball; expected a run that broke and kept some")
    return Points(run, norm, radii)


def inputs(points: Points, samples: Sequence[tuple[int, Sample]], threat: ThreatModel) -> list[Input]:
    """Return the examples that have a point, with it as the start of a search; one from outside Δ is projected."""
    found = [(place, sample, points.find(sample, threat.eps)) for place, sample in samples]
    with_start = list[Input]()
    for place, sample, point in found:
        if point is not None:
            region = threat.ball.at(sample.x[None], *(threat.box or (None, None)))
            start = region.project(torch.from_numpy(point.copy())[None] - sample.x[None])[0]
            with_start.append(Input(place, sample.id, sample.x, sample.y, threat.eps, start=start))
    return with_start
