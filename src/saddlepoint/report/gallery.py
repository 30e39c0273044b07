"""Images as data URIs: original, perturbation, adversarial point."""

import base64
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saddlepoint.results import Attacked, RunFolder

MOST, ROOM = 12, 3_000_000
"""Examples shown at most, and characters that their pictures may fill."""


def gallery(run: RunFolder, attacks: Sequence[Attacked]) -> Iterator[tuple[Attacked, dict[str, Any]]]:
    """Yield broken examples of as many classes as there are, each with its pictures; those whose image was kept."""
    room = ROOM
    for attack in _spread(attacks):
        x = run.image(attack.id, attack.eps)
        if x is None:
            continue
        x_adv = run.point(attack.id, attack.eps, attack.norm)
        delta = x_adv.astype(np.float64) - x
        factor = 0.5 / max(float(np.abs(delta).max()), 1e-12)
        pictures = {"x": _uri(x), "delta": _uri(0.5 + factor * delta), "x_adv": _uri(x_adv)}
        room -= sum(map(len, pictures.values()))
        if room < 0:
            return
        yield attack, {**pictures, "factor": factor, "side": x.shape[2]}


def _spread(attacks: Sequence[Attacked]) -> list[Attacked]:
    """Return the first examples of each class in turn, each example once, at the smallest radius that broke it."""
    smallest: dict[str, Attacked] = {}
    for attack in sorted(attacks, key=lambda attack: (attack.eps, attack.index)):
        if attack.kept:
            smallest.setdefault(attack.id, attack)
    turn = Counter[int | None]()
    places = []
    for attack in sorted(smallest.values(), key=lambda attack: attack.index):
        places.append((turn[attack.label], attack.label, attack.index, attack))
        turn[attack.label] += 1
    return [attack for *_, attack in sorted(places, key=lambda place: place[:3])][:MOST]


def _uri(pixels: NDArray[Any]) -> str:
    """Return pixels in [0, 1], (C, H, W), as a PNG in a data URI; of other than 1 or 3 channels the first."""
    from PIL import Image

    levels = np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    shown = levels.transpose(1, 2, 0) if levels.shape[0] == 3 else levels[0]
    file = io.BytesIO()
    Image.fromarray(shown).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
