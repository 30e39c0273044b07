"""Numbers, short series and columns as text."""

from collections.abc import Sequence

from rich.cells import cell_len

from saddlepoint.cli.attack.output import Traced

GAP = "  "


def aligned(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Return one line per row; the first `left` columns are flush left, the others flush right."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return [
        GAP.join(
            _cell(text, width, place < left) for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def printable(text: str) -> str:
    """Return text that cannot steer a terminal: control characters are escaped."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _cell(text: str, width: int, left: bool) -> str:
    blank = " " * (width - cell_len(text))
    return text + blank if left else blank + text


_BARS = "▁▂▃▄▅▆▇█"
_STRIDES = [factor * 10**power for power in range(7) for factor in (1, 2, 5)]


def probability(value: float) -> str:
    """Return four digits in the middle, more near 1, and a power of ten near 0: 0.9513, 0.99992, 1.35e-06."""
    if value < 1e-3:
        return f"{value:.2e}"
    return f"{value:.4f}" if value < 0.999 else f"{value:.5f}"


def significant(value: float, digits: int = 4) -> str:
    """Return a number with so many significant digits and no exponent where it is of everyday size."""
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    lead = next((place for place in range(5) if abs(value) * 10 ** (place + 1) >= 1), 0) if value else 0
    return f"{value:.{max(digits - whole + (lead if not whole else 0), 0)}f}"


def selected(trace: Sequence[Traced], most: int = 9) -> list[Traced]:
    """Return at most so many points: those at steps 0, k, 2k, … with a round k ≥ 5, and the last."""
    if not trace:
        return []
    last = trace[-1]
    for stride in (stride for stride in _STRIDES if stride >= 5 or len(trace) <= most):
        points = [point for point in trace[:-1] if point.step % stride == 0 and last.step - point.step >= stride / 2]
        if len(points) < most:
            return [*points, last]
    return [trace[0], last]


def sparkline(values: Sequence[float], most: int = 60) -> str:
    """Return a series as bars between its least and largest value; long ones are sampled evenly."""
    if not values:
        return ""
    count = min(len(values), most)
    chosen = [values[round(place * (len(values) - 1) / max(count - 1, 1))] for place in range(count)]
    low, high = min(chosen), max(chosen)
    span = (high - low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in chosen)
