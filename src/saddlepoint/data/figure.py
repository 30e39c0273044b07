"""One figure: pictures side by side, with signs between them and captions below."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw

from saddlepoint.data.lettering import INK, MUTED, Colour, write_fitting

PAPER: Colour = (255, 255, 255)
RAIL: Colour = (232, 234, 237)
BLUE: Colour = (0, 104, 166)
VERMILION: Colour = (206, 74, 0)

_SMALL, _LARGE, _NARROWEST = 400, 1024, 360


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of a figure.

    Attributes:
        image: what is shown.
        caption: one quiet line: what the picture is.
        headline: one large line, such as the predicted class.
        detail: one line below.
        share: a probability, drawn as a bar beside the detail; None for no bar.
        colour: of the bar.
        sign: what stands before the picture.
    """

    image: Image.Image
    caption: str
    headline: str
    detail: str
    share: float | None = None
    colour: Colour = BLUE
    sign: Literal["", "+", "="] = ""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Lengths in pixels; all follow from the size of the pictures."""

    width: int
    height: int

    @property
    def unit(self) -> int:
        return max(1, self.width // 24)

    @property
    def gap(self) -> int:
        return 2 * self.unit

    @property
    def text(self) -> int:
        return 7 * self.unit


def figure(panels: Sequence[Panel]) -> Image.Image:
    """Return an RGB figure of the panels in a row. Small pictures are enlarged by whole pixels, large ones reduced."""
    images = [_shown(panel.image) for panel in panels]
    layout = _Layout(max(_NARROWEST, *(image.width for image in images)), max(image.height for image in images))
    step = layout.width + layout.gap + layout.unit
    size = (step * len(panels) + layout.gap - layout.unit, layout.height + layout.text + 2 * layout.gap)
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    for index, (panel, image) in enumerate(zip(panels, images, strict=True)):
        left = layout.gap + index * step
        canvas.paste(image, (left + (layout.width - image.width) // 2, layout.gap + layout.height - image.height))
        _sign(draw, panel.sign, (left - (layout.gap + layout.unit) // 2, layout.gap + layout.height // 2), layout.unit)
        _caption(draw, panel, (left, layout.gap + layout.height + layout.unit), layout)
    return canvas


def _shown(image: Image.Image) -> Image.Image:
    longer = max(image.size)
    if longer > _LARGE:
        return image.resize([max(1, round(side * _LARGE / longer)) for side in image.size], Image.Resampling.LANCZOS)
    factor = -(-_SMALL // longer)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _caption(draw: ImageDraw.ImageDraw, panel: Panel, corner: tuple[int, int], layout: _Layout) -> None:
    left, top = corner
    unit, width = layout.unit, layout.width
    write_fitting(draw, (left, top), panel.caption, size=unit, width=width, colour=MUTED)
    write_fitting(draw, (left, top + 2 * unit), panel.headline, size=round(1.5 * unit), width=width)
    if panel.share is None:
        write_fitting(draw, (left, top + round(4.4 * unit)), panel.detail, size=unit, width=width, colour=MUTED)
        return
    bar, thick = width - 5 * unit, max(2, unit // 2)
    y = top + round(4.75 * unit)
    draw.rectangle((left, y, left + bar, y + thick), fill=RAIL)
    draw.rectangle((left, y, left + max(1, round(bar * panel.share)), y + thick), fill=panel.colour)
    write_fitting(
        draw, (left + bar + unit // 2, top + round(4.4 * unit)), panel.detail, size=unit, width=width - bar - unit // 2
    )


def _sign(draw: ImageDraw.ImageDraw, sign: str, centre: tuple[int, int], unit: int) -> None:
    x, y = centre
    reach, thick = round(0.55 * unit), max(1, unit // 12)
    strokes = {"+": ((0, True), (0, False)), "=": ((-unit // 4, True), (unit // 4, True)), "": ()}[sign]
    for shift, flat in strokes:
        across, along = (reach, thick) if flat else (thick, reach)
        draw.rectangle((x - across, y + shift - along, x + across, y + shift + along), fill=INK)
