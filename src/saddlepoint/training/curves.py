"""The curves of a training run as an SVG: loss, and accuracies over the epochs."""

from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 420, 240, 46, 34, 60
_COLOURS = {
    "loss": "#4c566a",
    "train_clean": "#88a4c8",
    "train_robust": "#e0a98f",
    "validation_clean": "#2f5d9b",
    "validation_robust": "#c0532b",
}


def drawn(metrics: Sequence[dict[str, float]], title: str) -> str:
    """Return two panels side by side: the loss, and the accuracies in per cent."""
    accuracies = [name for name in _COLOURS if name != "loss" and metrics and name in metrics[0]]
    panels = [_panel(metrics, ["loss"], "loss", 1.0, 0), _panel(metrics, accuracies, "accuracy, %", 100.0, 1)]
    width = 2 * _WIDTH + 2 * _LEFT + _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{_HEIGHT + _TOP + 44}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="{_LEFT}" y="18" font-size="14">{escape(title)}</text>{"".join(panels)}</svg>\n'
    )


def _panel(metrics: Sequence[dict[str, float]], names: Sequence[str], label: str, unit: float, column: int) -> str:
    left = _LEFT + column * (_WIDTH + _GAP)
    values = [row[name] * unit for row in metrics for name in names if name in row] or [0.0]
    low, high = min(values), max(values)
    span, last = (high - low) or 1.0, max(len(metrics) - 1, 1)
    parts = [
        f'<rect x="{left}" y="{_TOP}" width="{_WIDTH}" height="{_HEIGHT}" fill="none" stroke="#ccc"/>',
        f'<text x="{left}" y="{_TOP + _HEIGHT + 34}" fill="#555">{escape(label)} over {len(metrics)} epochs</text>',
    ]
    for share in (0.0, 0.5, 1.0):
        y = _TOP + _HEIGHT * (1 - share)
        parts.append(
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{low + share * span:.3g}</text>'
        )
    for number, name in enumerate(names):
        points = " ".join(
            f"{left + _WIDTH * i / last:.1f},{_TOP + _HEIGHT * (1 - (row[name] * unit - low) / span):.1f}"
            for i, row in enumerate(metrics)
        )
        colour = _COLOURS[name]
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        x = left + 4 + 105 * number
        parts.append(f'<text x="{x}" y="{_TOP + _HEIGHT + 17}" fill="{colour}">{escape(name.replace("_", " "))}</text>')
    return "".join(parts)
