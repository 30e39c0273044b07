import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from saddlepoint.data import COFFEE, read_image, to_image
from saddlepoint.errors import InputError


def gradient(width=7, height=5):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 40, columns * 30, rows * columns * 5], -1).astype(np.uint8)


def saved(image, path, **options):
    image.save(path, **options)
    return read_image(path)


def outcome(path):
    """The mode of a readable image, or the one line that says what is wrong."""
    try:
        return read_image(path).mode
    except InputError as error:
        return str(error)


def test_the_coffee_is_what_scikit_image_carries():
    import hashlib

    assert hashlib.sha256(COFFEE.read_bytes()).hexdigest() in (COFFEE.parent / "README.md").read_text()
    assert (read_image(COFFEE).size, read_image(COFFEE).mode) == ((600, 400), "RGB")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, orientation):
    upright = Image.fromarray(gradient())
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(saved(stored, tmp_path / "a.png", exif=exif), gradient())


def test_broken_exif_is_no_reason_to_refuse(tmp_path):
    found = saved(Image.fromarray(gradient()), tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(found, gradient())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    kind = "tiff" if mode in ("CMYK", "YCbCr", "PA", "I") else "png"
    image = Image.fromarray(gradient())
    if mode in ("I;16", "I"):
        image = Image.fromarray(np.array(image.convert("L")).astype(np.uint16) * 257)
    image = image.convert("P").convert(mode) if mode == "PA" else image.convert(mode)
    found = saved(image, tmp_path / f"a.{kind}")
    assert (found.mode, found.size) == ("RGB", (7, 5))
    if mode in ("RGB", "RGBA"):
        assert np.array_equal(found, gradient())


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_16_bits_keep_their_scale(tmp_path, byteorder):
    values = np.array([[0, 128, 257 * 7, 65535 - 127, 65535]], dtype=np.uint16)
    found = saved(Image.fromarray(values.astype(byteorder + "u2")), tmp_path / "a.tiff")
    assert np.asarray(found)[0, :, 0].tolist() == [0, 0, 7, 255, 255]


def test_transparency_is_laid_on_white(tmp_path):
    image = Image.new("RGBA", (3, 3), (10, 20, 30, 0))
    assert saved(image, tmp_path / "a.png").getpixel((1, 1)) == (255, 255, 255)


def test_a_transparent_colour_of_a_palette_is_laid_on_white(tmp_path):
    image = Image.new("P", (3, 3), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert saved(image, tmp_path / "a.png").getpixel((0, 0)) == (200, 100, 50)
    assert saved(image, tmp_path / "a.png", transparency=1).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("values", "said"),
    [(np.full((3, 3), 0.5, np.float32), "floating-point"), (np.full((3, 3), 70000, np.int32), "32-bit integers")],
)
def test_pixels_without_a_scale_are_refused(tmp_path, values, said):
    with pytest.raises(InputError, match=rf"cannot read image .*a\.tiff.*{said}.*expected 8 or 16 bits"):
        saved(Image.fromarray(values), tmp_path / "a.tiff")


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff", "gif"])
def test_a_truncated_file_is_refused_by_name(tmp_path, kind):
    path = tmp_path / f"half.{kind}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"cannot read image .*half\.{kind}"):
        read_image(path)


def test_what_is_not_an_image(tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    for path, said in [
        (tmp_path / "none.jpg", "there is no such file"),
        (tmp_path, "it is a folder; expected an image file"),
        (tmp_path / "text.jpg", "it is no image in a known format; expected PNG, JPEG"),
    ]:
        with pytest.raises(InputError, match=said):
            read_image(path)


def test_a_format_that_starts_programs_is_not_opened(tmp_path):
    (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(InputError, match="no image in a known format"):
        read_image(tmp_path / "a.eps")


def test_an_image_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match="exceeds limit"):
        read_image(tmp_path / "a.png")


FILES = {}
for _kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
    _buffer = io.BytesIO()
    Image.fromarray(gradient(16, 16)).save(_buffer, _kind)
    FILES[_kind] = _buffer.getvalue()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(FILES)), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=12))
def test_damaged_files_give_an_image_or_one_line(tmp_path_factory, kind, damage):
    content = bytearray(FILES[kind])
    for place, value in damage:
        content[place % len(content)] = value
    path = tmp_path_factory.mktemp("damaged") / "a"
    path.write_bytes(bytes(content))
    assert "\n" not in outcome(path)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_give_an_image_or_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "a"
    path.write_bytes(content)
    assert "\n" not in outcome(path)


def test_levels_become_the_image_they_are():
    levels = torch.from_numpy(gradient()).permute(2, 0, 1)
    assert np.array_equal(to_image(levels), gradient())
