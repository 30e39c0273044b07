"""What is said of one image, as blocks of aligned lines."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from saddlepoint.cli.attack.output import AttackedImage, Files, Perturbation, Traced
from saddlepoint.cli.attack.settings import Settings
from saddlepoint.cli.attack.text import aligned, printable, probability, selected, significant, sparkline

SYMBOLS = {"linf": "‖δ‖∞", "l2": "‖δ‖₂", "l1": "‖δ‖₁"}
_LABEL = 14


def blocks(truth: str, image: AttackedImage, settings: Settings) -> list[list[str]]:
    """Return the blocks on one image; a first line that begins with a blank is a head of columns."""
    return [
        _points(image),
        _trace(image.trace, objective(truth, settings)),
        [
            _labelled("δ", _norms(image.perturbation)),
            _labelled("passes", f"{image.forwards} forward, {image.backwards} backward"),
        ],
        _files(image.files),
    ]


def objective(truth: str, settings: Settings) -> str:
    """Return what the attack ascends, in words."""
    loss = getattr(settings.suite[0], "loss", "cross-entropy")
    if settings.target is None:
        return f"cross-entropy of {truth}"
    target = settings.classifier.name_of(settings.target)
    if loss == "difference":
        return f"cross-entropy of {truth} minus that of {target}"
    return f"minus the cross-entropy of {target}"


def _points(image: AttackedImage) -> list[str]:
    clean, now, written = image.clean, image.adversarial, image.written
    rows = (
        ("clean", clean, math.exp(-clean.loss), significant(clean.loss)),
        ("adversarial", now, now.true_class_probability, significant(now.loss)),
        ("as 8-bit PNG", written, written.true_class_probability, ""),
    )
    cells = [
        (what, _class(at.label, at.name), probability(at.probability), probability(true), loss)
        for what, at, true, loss in rows
    ]
    return aligned([("", "class", "probability", "p(true class)", "loss"), *cells], left=2)


def _class(label: int, name: str) -> str:
    return name if name == str(label) else f"{label} {name}"


def _trace(trace: Sequence[Traced], ascended: str) -> list[str]:
    if not trace:
        return [_labelled("trace", "no step was needed")]
    points = selected(trace)
    table = aligned([[str(point.step) for point in points], [significant(point.loss) for point in points]], left=0)
    return [
        _labelled("trace", ascended),
        _labelled("", sparkline([point.loss for point in trace])),
        _labelled("  at step", table[0]),
        _labelled("", table[1]),
    ]


def _norms(delta: Perturbation) -> str:
    parts = (
        f"{SYMBOLS['linf']} {255 * delta.linf:.4g}/255",
        f"{SYMBOLS['l2']} {significant(delta.l2)}",
        f"{SYMBOLS['l1']} {significant(delta.l1)}",
    )
    return "   ".join(parts)


def _files(files: Files) -> list[str]:
    return [printable(_short(path)) for path in (files.figure, files.adversarial, files.perturbation)]


def _short(path: str) -> str:
    """Return the path as seen from here, if it lies below; a file of another tree keeps its full path."""
    here = Path.cwd()
    return os.path.relpath(path, here) if Path(path).is_relative_to(here) else path


def _labelled(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"
