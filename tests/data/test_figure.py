import numpy as np
import pytest
from PIL import Image

from saddlepoint.data import VERMILION, Panel, figure


def panels(image, name="espresso"):
    return (
        Panel(image, "original", name, "95.13 %", 0.9513),
        Panel(image, "perturbation", "magnified 63 times", "linf norm at most 2/255", sign="+"),
        Panel(image, "adversarial", name, "99.99 %", 1.0, VERMILION, "="),
    )


@pytest.mark.parametrize("size", [(1, 1), (32, 32), (224, 224), (224, 300), (37, 500), (500, 37), (3000, 20)])
@pytest.mark.parametrize(
    "name", ["x", "a class with a name far longer than any picture is wide, and then some", "é ∞ \n", ""]
)
def test_any_size_and_name_fits(size, name):
    drawn = figure(panels(Image.new("RGB", size, "red"), name))
    edge = np.asarray(drawn)
    assert drawn.width < 4000
    for line in (edge[0], edge[-1], edge[:, 0], edge[:, -1]):
        assert (line == 255).all()


def test_small_pictures_are_enlarged_by_whole_pixels():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8))
    drawn = figure(panels(image))
    left = (np.asarray(drawn) == np.asarray(image)[0, 0]).all(-1).any(0).argmax()
    top = (np.asarray(drawn) != 255).any((1, 2)).argmax()
    shown = drawn.crop((left, top, left + 448, top + 448))
    assert np.array_equal(np.asarray(shown)[::2, ::2], image)
    assert np.array_equal(np.asarray(shown)[1::2, 1::2], image)


def test_bars_show_probabilities():
    drawn = np.asarray(figure(panels(Image.new("RGB", (224, 224), "white"))))
    lengths = [int((drawn == colour).all(-1).sum(1).max()) for colour in ((0, 104, 166), VERMILION)]
    assert lengths[0] / lengths[1] == pytest.approx(0.9513, abs=0.01)
