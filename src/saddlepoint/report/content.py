"""What the page says, as plain values: everything follows from the records and the specification."""

import math
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from saddlepoint import __version__
from saddlepoint.report.gallery import gallery
from saddlepoint.results import (
    Attacked,
    Bracket,
    Certified,
    Judgement,
    RunFolder,
    Standing,
    Voted,
    brackets,
    by_label,
    compare,
    judgements,
    namer,
    percent,
    verified,
)
from saddlepoint.results.records.bracket import LEVEL, UNION, union
from saddlepoint.results.records.comparison import shown
from saddlepoint.results.records.distances import Distances, distances
from saddlepoint.results.records.masking import of_summary
from saddlepoint.results.records.radius import spelled

NORMS = {
    "linf": ("ℓ∞", "no pixel value changes by more than ε"),
    "l2": ("ℓ2", "the Euclidean length of the change is at most ε"),
    "l1": ("ℓ1", "the absolute changes of all pixel values add up to at most ε"),
}
STANDINGS = (Standing.CERTIFIED, Standing.UNDECIDED, Standing.BROKEN, Standing.MISCLASSIFIED)
"""In the order in which a bar shows them: what is certainly right first."""


def content(run: RunFolder, *, images: bool, baseline: RunFolder | None = None) -> dict[str, Any]:
    """Return the values of the template."""
    records = run.records()
    examples = judgements(records)
    of_balls, name = brackets(examples), namer(run.spec)
    last, norms = of_balls[-1], list(dict.fromkeys(bracket.norm for bracket in of_balls))
    under_last = [judgement for judgement in examples if (judgement.norm, judgement.eps) == (last.norm, last.eps)]
    whole = union(examples) if len(norms) > 1 else last
    attacks = [record for record in records if isinstance(record, Attacked)]
    summary = run.summary()
    # A suite that ends at the first success says little of how near it could have been.
    near = distances(records) if {step["name"] for step in run.spec["suite"]} == {"FMN"} else []
    return {
        "version": __version__,
        "model": run.spec["model"]["reference"],
        "data": run.spec["data"],
        "finished": run.finished,
        "verified": verified(run),
        "verdict": whole.in_words(),
        "norms": [NORMS[norm] for norm in norms],
        "box": _box(run.spec),
        "bars": [_bar(bracket) for bracket in (of_balls if whole is last else [*of_balls, whole])],
        "curves": [
            _curve(of) for norm in norms if len(of := [bracket for bracket in of_balls if bracket.norm == norm]) > 1
        ],
        "nearest": [_steps(of) for of in near],
        "level": f"{LEVEL:.0%}",
        "balls": [_ball(bracket.norm, bracket.eps) for bracket in of_balls],
        "attacks": _contributions(of_balls),
        "convergence": [(passes, percent(last.share(left))) for passes, left in last.convergence],
        "baseline": None if baseline is None else baseline.spec["model"]["reference"],
        "comparison": []
        if baseline is None
        else [
            {"ball": _ball(comparison.norm, comparison.eps), **row}
            for comparison in compare(baseline, run)
            for row in shown(comparison)
        ],
        "classes": _classes(under_last, name),
        "last": _ball(last.norm, last.eps),
        "gallery": [_shown(*pair, name) for pair in gallery(run, attacks)] if images else [],
        "images": images,
        "findings": of_summary(summary),
        "checks": run.checks(),
        "errors": summary["errors"],
        "suite": [_described(step) for step in run.spec["suite"]],
        "certify": run.spec.get("certify", []),
        "votes": run.spec.get("smoothing"),
        "methods": sorted({record.method for record in records if isinstance(record, Certified | Voted)}),
        "spec": run.spec,
        "command": shlex.join(run.provenance[-1].get("command", [])) if run.provenance else "",
        "sessions": run.provenance,
        "rows": summary["rows"],
        "percent": percent,
    }


def _box(spec: Mapping[str, Any]) -> str:
    box = spec["threats"][0]["box"]
    return f"pixels stay in [{box[0]:g}, {box[1]:g}]" if box else "pixels may leave [0, 1]"


def _bar(bracket: Bracket) -> dict[str, Any]:
    """Return one stacked bar: where each part begins and how long it is, in per cent of the examples."""
    parts, begin = [], 0.0
    for standing in STANDINGS:
        share = 100 * (bracket.share(bracket.counts[standing]) or 0.0)
        parts.append({"standing": str(standing), "begin": begin, "share": share, "count": bracket.counts[standing]})
        begin += share
    low, high = bracket.interval(bracket.certified)[0] if bracket.proven else 0.0, bracket.interval(bracket.attacked)[1]
    return {
        "ball": "all at once" if bracket.norm == UNION else _ball(bracket.norm, bracket.eps),
        "parts": parts,
        "examples": bracket.examples,
        "clean": bracket.share(bracket.clean),
        "certified": bracket.share(bracket.certified) if bracket.proven else None,
        "attacked": bracket.share(bracket.attacked),
        "searched": bracket.searched,
        "low": 100 * low,
        "high": 100 * high,
    }


def _ball(norm: str, eps: float) -> str:
    return f"{NORMS[norm][0]} ε {spelled(eps)}"


def _curve(of_norm: Sequence[Bracket]) -> dict[str, Any]:
    """Return the corners of accuracy against ε, in a square of 100; at ε = 0 both ends are the clean accuracy."""
    most = of_norm[-1].eps

    def line(count: Callable[[Bracket], int]) -> list[tuple[float, float]]:
        ends = [(bracket.eps, bracket.share(count(bracket)) or 0.0) for bracket in of_norm]
        return [
            (100 * eps / most, 100 - 100 * share)
            for eps, share in [(0.0, of_norm[0].share(of_norm[0].clean) or 0.0), *ends]
        ]

    certified, attacked = line(lambda bracket: bracket.certified), line(lambda bracket: bracket.attacked)
    return {
        "certified": certified,
        "attacked": attacked,
        "norm": NORMS[of_norm[0].norm][0],
        "eps": [(100 * bracket.eps / most, spelled(bracket.eps)) for bracket in of_norm],
    }


def _steps(near: Distances) -> dict[str, Any]:
    """Return the corners of accuracy under attack at every ε, in a square of 100, up to where nothing stands."""
    reached = [0.0, *(distance for distance in near.nearest if distance < math.inf)]
    most, count = reached[-1] or 1.0, near.examples
    at = [(100 * distance / most, 100 - 100 * near.standing(distance) / count) for distance in reached]
    corners = [corner for (_, before), (x, after) in pairwise(at) for corner in ((x, before), (x, after))]
    return {
        "attacked": [at[0], *corners],
        "norm": NORMS[near.norm][0],
        "eps": [(place, f"{place / 100 * most:.2g}") for place in (0, 25, 50, 75, 100)],
        "told": near.in_words(),
    }


def _contributions(of_balls: Sequence[Bracket]) -> list[tuple[str, list[int]]]:
    """Return how many examples each attack of the cascade broke, at each radius."""
    total = Counter[str]()
    for bracket in of_balls:
        total.update(bracket.attacks)
    names = [name for name, _ in sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))]
    return [(name, [bracket.attacks.get(name, 0) for bracket in of_balls]) for name in names]


def _classes(examples: Sequence[Judgement], name: Callable[[int | None], str]) -> list[dict[str, Any]]:
    return [{"name": name(label), "bar": _bar(tally)} for label, tally in by_label(examples).items()]


def _shown(attack: Attacked, pictures: Mapping[str, Any], name: Callable[[int | None], str]) -> dict[str, Any]:
    said = {key: getattr(attack, key) for key in ("id", "attack", "margin")}
    return {
        **said,
        **pictures,
        "ball": _ball(attack.norm, attack.eps),
        "truth": name(attack.label),
        "now": name(attack.adversarial_label),
    }


def _described(step: Mapping[str, Any]) -> str:
    """Return an attack with its settings, as one line; a wrapper with what it wraps."""
    settings = [
        f"{key}={_described(value) if isinstance(value, dict) and 'name' in value else value}"
        for key, value in step.items()
        if key != "name"
    ]
    return f"{step['name']}({', '.join(settings)})"
