"""Text in pictures, with the typeface that Pillow carries."""

import unicodedata

from PIL import ImageDraw, ImageFont

Colour = tuple[int, int, int]
INK: Colour = (32, 33, 36)
MUTED: Colour = (112, 117, 122)
_SMALLEST = 0.7


def write_fitting(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    *,
    size: int,
    width: int,
    colour: Colour = INK,
) -> None:
    """Write one line from its upper left corner; smaller, then shortened, where it is wider than `width` pixels.

    Args:
        draw: the picture.
        corner: left and top, in pixels.
        text: one line.
        size: the height of the font, in pixels.
        width: how wide the line may be, in pixels.
        colour: red, green and blue.
    """
    text = _known(text)
    font = _font(size)
    if font.getlength(text) > width:
        font = _font(max(size * width / font.getlength(text), _SMALLEST * size))
    while len(text) > 1 and font.getlength(text) > width:
        text = text.rstrip("…")[:-1].rstrip() + "…"
    draw.text((corner[0], corner[1] + size), text, font=font, fill=colour, anchor="ls")


def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(max(size, 6))
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType; expected a build that can draw text: reinstall pillow")
    return font


def _known(text: str) -> str:
    """Return the text in the letters that the typeface has: accents are dropped, others become question marks."""
    plain = unicodedata.normalize("NFKD", text)
    letters = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return "".join(letter if letter.isascii() or letter in "·…" else "?" for letter in letters)
