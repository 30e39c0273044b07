"""The three pictures of an attacked image."""

import math

from torch import Tensor

from saddlepoint.cli.attack.output import Files
from saddlepoint.cli.attack.settings import Settings
from saddlepoint.cli.attack.subjects import Subject
from saddlepoint.cli.attack.views import View
from saddlepoint.data import BLUE, VERMILION, Panel, figure, magnified, to_image, write_image


def write_pictures(
    settings: Settings, subject: Subject, clean: View, written: View, levels: Tensor, delta: Tensor
) -> Files:
    """Write the adversarial crop, δ magnified, and both beside the original.

    Args:
        settings: of the call.
        subject: the image.
        clean: the prediction before.
        written: the prediction at the 8-bit adversarial crop.
        levels: that crop, uint8 (3, H, W).
        delta: the perturbation in pixel units, (3, H, W).
    """
    grey, factor = magnified(delta)
    original, perturbation, adversarial = to_image(subject.crop), to_image(grey), to_image(levels)
    turned = VERMILION if written.label != clean.label else BLUE
    times = f"{factor:.0f}" if factor >= 1 else f"{factor:.2g}"
    bound = f"{settings.norm} norm at most {settings.eps.text}"
    panels = (
        Panel(original, "original", clean.name, percent(clean.probability), clean.probability),
        Panel(perturbation, "perturbation", f"magnified {times} times", bound, sign="+"),
        Panel(adversarial, "adversarial", written.name, percent(written.probability), written.probability, turned, "="),
    )
    return Files(
        adversarial=str(write_image(subject.files["adversarial"], adversarial)),
        perturbation=str(write_image(subject.files["perturbation"], perturbation)),
        figure=str(write_image(subject.files["figure"], figure(panels))),
    )


def percent(probability: float) -> str:
    """Return a probability in percent, rounded down, so that only certainty reads 100 %."""
    return f"{math.floor(probability * 1e4) / 1e2:.2f} %"
