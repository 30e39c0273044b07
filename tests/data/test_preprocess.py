import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode, functional

from saddlepoint.classifier import Preprocessing
from saddlepoint.data import COFFEE, pixels, preprocess, read_image
from saddlepoint.errors import InputError

SIZES = st.integers(1, 60)


def random_image(width, height):
    return Image.fromarray(np.random.default_rng(width * 100 + height).integers(0, 256, (height, width, 3), np.uint8))


@settings(max_examples=150, deadline=None)
@given(
    SIZES,
    SIZES,
    st.none() | st.integers(1, 60),
    st.none() | st.integers(1, 60),
    st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
)
def test_agrees_with_torchvision(width, height, resize, crop, interpolation):
    image = random_image(width, height)
    expected = image
    if resize is not None:
        expected = functional.resize(expected, resize, InterpolationMode(interpolation))
    if crop is not None:
        expected = functional.center_crop(expected, crop)
    found = preprocess(image, Preprocessing(resize=resize, crop=crop, interpolation=interpolation))
    assert torch.equal(found, functional.pil_to_tensor(expected))


@pytest.mark.parametrize("name", ["resnet50", "vit_b_16"])
def test_agrees_with_published_recipes_up_to_normalisation(name):
    from torchvision.models import get_model_weights

    recipe = next(iter(get_model_weights(name))).transforms()
    crop = preprocess(read_image(COFFEE), Preprocessing(resize=256, crop=224))
    mean, std = (torch.tensor(value).reshape(3, 1, 1) for value in (recipe.mean, recipe.std))
    torch.testing.assert_close(recipe(read_image(COFFEE)), (pixels(crop) - mean) / std)


def test_pixels_are_those_of_torchvision():
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    assert torch.equal(pixels(every), functional.convert_image_dtype(every))
    assert torch.equal((pixels(every) * 255).round().to(torch.uint8), every)


def test_an_elongated_image_cannot_exhaust_memory():
    with pytest.raises(InputError, match="would become 256 × 25600000; expected less"):
        preprocess(Image.new("RGB", (1, 100_000)), Preprocessing(resize=256, crop=224))


@pytest.mark.parametrize("how", [{"crop": 10**7}, {"resize": 10**5, "squash": True}, {"resize": 8, "crop": 2**15}])
def test_a_size_cannot_exhaust_memory(how):
    with pytest.raises(InputError, match="would become .*; expected less"):
        preprocess(Image.new("RGB", (30, 20)), Preprocessing(**how))
