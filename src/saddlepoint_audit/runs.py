"""Every claim of a run folder, looked at again from what lies in `evidence` and `adversarial`.

A misclassified image is one by its forward pass, in intervals. The point of a broken one lies in ball ∩ box, exactly,
and is misclassified likewise. The margin of a certified one follows from its hints. Of one that is undecided nothing is
claimed but that its image is classified correctly. Counted apart are forward passes whose outcome rounding may turn
(marginal), what is broken without a point, and what is certified without hints, as by a solver.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from saddlepoint_audit.enclosures import FLOAT32, Enclosure, Region
from saddlepoint_audit.files import BROKEN, Array, Refused, arrays_of, json_of
from saddlepoint_audit.operations import Network
from saddlepoint_audit.proofs import Hints, differences, prove

FORMAT, VERSION = "saddlepoint-claims", 1
VERDICTS = ("misclassified", "broken", "certified", "undecided", "error")
REST = "marginal", "without a point", "without a proof"


@dataclass(frozen=True)
class Claim:
    """What a run says of one example under one threat."""

    id: str
    place: int
    label: int
    norm: str
    eps: float
    verdict: str
    proof: str | None


@dataclass
class Report:
    """What became of the claims of one threat.

    Attributes:
        norm: of the balls.
        eps: their radius.
        counts: of "misclassified", "broken", "float32", "real" (certified in that arithmetic), "undecided", "error",
            "marginal", "without a point", "without a proof".
        wrong: one line for each claim that does not hold.
    """

    norm: str
    eps: float
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def examples(self) -> int:
        """How many examples have a verdict."""
        return sum(self.counts.values()) - self.counts["error"] + len(self.wrong)

    def in_words(self) -> str:
        """Return the bracket that was shown, and what was not."""
        n, counts = max(1, self.examples), self.counts
        low = counts["float32"] + counts["real"]
        high = self.examples - counts["broken"] - counts["misclassified"]
        shown = f"{self.norm} eps {self.eps:.6g}: {low / n:.2%} ≤ robust ≤ {high / n:.2%} of {self.examples} examples"
        kinds = f"{counts['float32']} certified of every float32 execution, {counts['real']} of real arithmetic only"
        rest = "".join(f", {counts[kind]} {kind}" for kind in REST if counts[kind])
        return (
            f"{shown}: {kinds}, {counts['broken']} broken, {counts['misclassified']} misclassified, "
            f"{counts['undecided']} undecided{rest}"
        )


def audit(folder: Path) -> list[Report]:
    """Look at every claim again, one after the other; return what became of them, threat by threat.

    Args:
        folder: of the run.

    Raises:
        Refused: a file cannot be read, or the claims are not of one network and of images that lie there.
    """
    run = Run(folder)
    for report, claims in run.threats:
        for claim in claims:
            try:
                report.counts[run.shown(claim)] += 1
            except (Refused, *BROKEN) as error:
                report.wrong.append(f"{claim.verdict} {claim.id!r} {claim.norm} eps {claim.eps:g}: {error}")
    return [report for report, _ in run.threats]


class Run:
    """A folder, read as far as the audit needs it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._evidence = folder, folder / "evidence"
        self.network = Network.read(self._evidence)
        claims, (arrays, _) = json_of(self._evidence / "claims.json"), arrays_of(self._evidence / "images.safetensors")
        try:
            self.images = arrays["images"]
            self.box, self.threats = _claims(claims, len(self.images))
            _check_asked(json_of(folder / "spec.json")["spec"], claims)
            _check_counted(json_of(folder / "summary.json"), claims)
        except BROKEN as error:
            raise Refused(f"what is claimed is malformed: {type(error).__name__} {error}") from None
        if self.images[:1].size != self.network.operations[0].size:
            raise Refused(f"images have {self.images[:1].size} numbers, the network takes another number of them")

    def image(self, place: int) -> Array:
        """Return an image as float32 pixels: bytes are multiples of 1/255."""
        image: Array = self.images[place]
        return np.asarray(image / np.float32(255), np.float32) if image.dtype == np.uint8 else image

    def shown(self, claim: Claim) -> str:
        """Return as what a claim is counted; raise Refused where it does not hold."""
        x = self.image(claim.place)
        if claim.verdict == "error":
            return "error"
        if claim.verdict == "certified":
            return self._certified(x, claim)
        clean = self._classified(x, claim.label)
        if claim.verdict == "misclassified":
            return _unless("its image is classified as its label", clean, wanted=False) or "misclassified"
        marginal = _unless("its image is misclassified", clean, wanted=True)
        return marginal or (self._broken(x, claim) if claim.verdict == "broken" else "undecided")

    def _certified(self, x: Array, claim: Claim) -> str:
        if claim.proof is None:
            return "without a proof"
        region = Region.around(x, claim.eps, claim.norm, self.box)
        proven = prove(self.network, region, claim.label, Hints.read(self._evidence / claim.proof))
        if not proven.holds:
            raise Refused(f"its hints prove a margin of {proven.margin:.6g}, which is no proof")
        return proven.arithmetic

    def _broken(self, x: Array, claim: Claim) -> str:
        key = f"attack {claim.norm} {claim.eps!r} {claim.id}"
        if (file := self._points.get(key)) is None:
            return "without a point"
        point = arrays_of(file)[0][key]
        if point.shape != x.shape or not np.isfinite(point).all():
            raise Refused("its point has another shape than its image, or holds what is no number")
        if self.box is not None and not ((self.box[0] <= point) & (point <= self.box[1])).all():
            raise Refused(f"its point leaves the box {self.box}")
        if not inside(x, point, claim.eps, claim.norm):
            raise Refused(f"its point lies outside of the ball of radius {claim.eps:.9g}")
        return _unless("its point is classified as its label", self._classified(point, claim.label), False) or "broken"

    def _classified(self, x: Array, label: int) -> bool | None:
        """Return whether every float32 execution classifies x as its label, or none; None where rounding decides."""
        enclosure = Enclosure(self.network, Region.around(x, 0.0, "linf", None), FLOAT32)
        for _ in self.network.operations[1:]:
            enclosure.step()
        last = len(self.network.operations) - 1
        rows, lines = differences(label, self.network.operations[last].size), enclosure.lines()
        low, high = enclosure.least(last, rows, lines), -enclosure.least(last, -rows, lines)
        return True if (low > 0).all() else False if (high < 0).any() else None

    @cached_property
    def _points(self) -> Mapping[str, Path]:
        files = sorted((self._folder / "adversarial").glob("*.safetensors"))
        return {key: file for file in files for key in arrays_of(file)[0]}


def _unless(why: str, answer: bool | None, wanted: bool) -> str:
    if answer is None:
        return "marginal"
    if answer is not wanted:
        raise Refused(why)
    return ""


def inside(x: Array, point: Array, eps: float, norm: str) -> bool:
    """Tell whether ‖point − x‖ ≤ ε, in rationals where float64 leaves it to rounding."""
    apart = np.abs(point.astype(float) - x.astype(float)).ravel()
    if norm == "linf":
        near = np.flatnonzero(apart > eps * (1 - 1e-9))
        return all(_apart(x, point, k) <= Fraction(eps) for k in near.tolist())
    exact = [_apart(x, point, k) for k in np.flatnonzero(apart).tolist()]
    if norm == "l2":
        return sum((d * d for d in exact), Fraction(0)) <= Fraction(eps) ** 2
    return sum(exact, Fraction(0)) <= Fraction(eps)


def _apart(x: Array, point: Array, k: int) -> Fraction:
    return abs(Fraction(float(point.ravel()[k])) - Fraction(float(x.ravel()[k])))


def _claims(told: Any, images: int) -> tuple[tuple[float, float] | None, list[tuple[Report, Sequence[Claim]]]]:  # noqa: ANN401
    """Return the box, and the claims of every threat: each example has exactly one."""
    if told["format"] != FORMAT or told["version"] != VERSION:
        raise Refused("claims.json is of another version")
    box = None if told["box"] is None else (float(told["box"][0]), float(told["box"][1]))
    ids, labels = told["ids"], told["labels"]
    if not len(set(ids)) == len(ids) == len(labels) == images:
        raise Refused("ids are not of one example each, or not as many as images")
    threats = list[tuple[Report, Sequence[Claim]]]()
    for threat in told["threats"]:
        norm, eps, rows = threat["norm"], float(threat["eps"]), zip(threat["verdicts"], threat["proofs"], strict=True)
        claims = [
            Claim(identity, place, label, norm, eps, verdict, proof)
            for place, (identity, label, (verdict, proof)) in enumerate(zip(ids, labels, rows, strict=True))
        ]
        if not all(claim.verdict in VERDICTS and _plain(claim.proof) for claim in claims):
            raise Refused("claims.json holds a verdict or the name of a proof that there is not")
        threats.append((Report(norm, eps), claims))
    return box, threats


def _check_asked(spec: Any, claims: Any) -> None:  # noqa: ANN401 - as files hold them
    """Raise Refused unless claims are of the examples and the threats that the specification asks for."""
    ids = json.dumps(claims["ids"], separators=(",", ":"), ensure_ascii=False).encode()
    if spec["data"]["ids"] != f"sha256:{hashlib.sha256(ids).hexdigest()}":
        raise Refused("claims are of other examples than the specification's")
    asked, claimed = ([(t["norm"], float(t["eps"])) for t in told["threats"]] for told in (spec, claims))
    if asked != claimed or any(threat["box"] != claims["box"] for threat in spec["threats"]):
        raise Refused("claims are of other threats than the specification's")


def _check_counted(summary: Any, claims: Any) -> None:  # noqa: ANN401 - as files hold them
    """Raise Refused unless the summary counts what is claimed."""
    counted = {(t["norm"], float(t["eps"])): {k: n for k, n in t["counts"].items() if n} for t in summary["threats"]}
    if counted != {(t["norm"], float(t["eps"])): dict(Counter(t["verdicts"])) for t in claims["threats"]}:
        raise Refused("the summary counts something else than the claims")


def _plain(name: str | None) -> bool:
    """Tell whether a name is of a file in the folder itself."""
    return name is None or (isinstance(name, str) and name == Path(name).name and name not in ("", ".", ".."))
