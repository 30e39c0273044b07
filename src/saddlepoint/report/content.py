"""What the page says, as plain values: everything follows from the records and the specification."""

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from saddlepoint import __version__
from saddlepoint.report.gallery import gallery
from saddlepoint.results import (
    Attacked,
    Bracket,
    Certified,
    Judged,
    RunFolder,
    Standing,
    Voted,
    brackets,
    by_label,
    compare,
    judged,
    namer,
    percent,
    verified,
)
from saddlepoint.results.records.bracket import LEVEL, UNION, union
from saddlepoint.results.records.comparison import shown
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
    verdicts = judged(records)
    found, name = brackets(verdicts), namer(run.spec)
    last, norms = found[-1], list(dict.fromkeys(each.norm for each in found))
    under_last = [each for each in verdicts if (each.norm, each.eps) == (last.norm, last.eps)]
    whole = union(verdicts) if len(norms) > 1 else last
    attacks = [each for each in records if isinstance(each, Attacked)]
    summary = run.summary()
    return {
        "version": __version__,
        "model": run.spec["model"]["reference"],
        "data": run.spec["data"],
        "finished": run.finished,
        "verified": verified(run),
        "verdict": whole.in_words(),
        "norms": [NORMS[norm] for norm in norms],
        "box": _box(run.spec),
        "bars": [_bar(each) for each in (found if whole is last else [*found, whole])],
        "curves": [_curve(of) for norm in norms if len(of := [each for each in found if each.norm == norm]) > 1],
        "level": f"{LEVEL:.0%}",
        "balls": [_ball(each.norm, each.eps) for each in found],
        "attacks": _contributions(found),
        "convergence": [(passes, percent(last.share(left))) for passes, left in last.convergence],
        "baseline": None if baseline is None else baseline.spec["model"]["reference"],
        "comparison": []
        if baseline is None
        else [{"ball": _ball(each.norm, each.eps), **row} for each in compare(baseline, run) for row in shown(each)],
        "classes": _classes(under_last, name),
        "last": _ball(last.norm, last.eps),
        "gallery": [_shown(*each, name) for each in gallery(run, attacks)] if images else [],
        "images": images,
        "doubts": summary["doubts"],
        "checks": run.checks(),
        "errors": summary["errors"],
        "suite": [_described(step) for step in run.spec["suite"]],
        "certify": run.spec.get("certify", []),
        "votes": run.spec.get("smoothing"),
        "methods": sorted({each.method for each in records if isinstance(each, Certified | Voted)}),
        "spec": run.spec,
        "command": shlex.join(run.provenance[-1].get("command", [])) if run.provenance else "",
        "sessions": run.provenance,
        "rows": summary["rows"],
        "percent": percent,
    }


def _box(spec: Mapping[str, Any]) -> str:
    box = spec["threats"][0]["box"]
    return f"pixels stay in [{box[0]:g}, {box[1]:g}]" if box else "pixels may leave [0, 1]"


def _bar(each: Bracket) -> dict[str, Any]:
    """Return one stacked bar: where each part begins and how long it is, in per cent of the examples."""
    parts, begin = [], 0.0
    for standing in STANDINGS:
        share = 100 * (each.share(each.counts[standing]) or 0.0)
        parts.append({"standing": str(standing), "begin": begin, "share": share, "count": each.counts[standing]})
        begin += share
    low, high = each.interval(each.certified)[0] if each.proven else 0.0, each.interval(each.attacked)[1]
    return {
        "ball": "all at once" if each.norm == UNION else _ball(each.norm, each.eps),
        "parts": parts,
        "examples": each.examples,
        "clean": each.share(each.clean),
        "certified": each.share(each.certified) if each.proven else None,
        "attacked": each.share(each.attacked),
        "searched": each.searched,
        "low": 100 * low,
        "high": 100 * high,
    }


def _ball(norm: str, eps: float) -> str:
    return f"{NORMS[norm][0]} ε {spelled(eps)}"


def _curve(found: Sequence[Bracket]) -> dict[str, Any]:
    """Return the corners of accuracy against ε, in a square of 100; at ε = 0 both ends are the clean accuracy."""
    most = found[-1].eps

    def line(count: Callable[[Bracket], int]) -> list[tuple[float, float]]:
        ends = [(each.eps, each.share(count(each)) or 0.0) for each in found]
        return [
            (100 * eps / most, 100 - 100 * share)
            for eps, share in [(0.0, found[0].share(found[0].clean) or 0.0), *ends]
        ]

    certified, attacked = line(lambda each: each.certified), line(lambda each: each.attacked)
    return {
        "certified": certified,
        "attacked": attacked,
        "norm": NORMS[found[0].norm][0],
        "eps": [(100 * each.eps / most, spelled(each.eps)) for each in found],
    }


def _contributions(found: Sequence[Bracket]) -> list[tuple[str, list[int]]]:
    """Return how many examples each attack of the cascade broke, at each radius."""
    total = Counter[str]()
    for each in found:
        total.update(each.attacks)
    names = [name for name, _ in sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))]
    return [(name, [each.attacks.get(name, 0) for each in found]) for name in names]


def _classes(verdicts: Sequence[Judged], name: Callable[[int | None], str]) -> list[dict[str, Any]]:
    return [{"name": name(label), "bar": _bar(each)} for label, each in by_label(verdicts).items()]


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
        f"{key}={_described(value) if isinstance(value, dict) else value}"
        for key, value in step.items()
        if key != "name"
    ]
    return f"{step['name']}({', '.join(settings)})"
