import os

import numpy as np
import pytest
from PIL import Image

from saddlepoint.data import write_image
from saddlepoint.errors import InputError
from saddlepoint.files import make_folder, write_bytes


def test_a_file_is_replaced_whole(tmp_path):
    write_bytes(tmp_path / "a", b"old")
    assert write_bytes(tmp_path / "a", b"new") == tmp_path / "a"
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"new")]


def test_when_writing_fails_the_old_file_stays_and_nothing_else(tmp_path, monkeypatch):
    write_bytes(tmp_path / "a", b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match=r"cannot write .*: No space left on device; expected a folder"):
        write_bytes(tmp_path / "a", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


def test_folders_are_made_or_refused(tmp_path):
    assert make_folder(tmp_path / "a" / "b").is_dir()
    write_bytes(tmp_path / "file", b"")
    with pytest.raises(InputError, match=r"cannot create folder .*file"):
        make_folder(tmp_path / "file")


def test_png_is_lossless(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    with Image.open(write_image(tmp_path / "a.png", Image.fromarray(values))) as image:
        assert np.array_equal(image, values)
