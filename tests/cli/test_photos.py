"""Photographs before a network of a fixed size, or of channels in another order, from the flags to the audit."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image

import saddlepoint as sp
from saddlepoint.cli.main import main

SIDE = 6


@pytest.fixture
def network(tmp_path):
    """A linear network of 6 × 6 pixels in an ONNX file, and its weight."""
    weight = np.random.default_rng(0).normal(size=(2, 3 * SIDE * SIDE)).astype(np.float32)
    body = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("Gemm", ["flat", "w"], ["y"], transB=1)],
        "linear",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    return f"onnx:{tmp_path / 'net.onnx'}", weight.reshape(2, 3, SIDE, SIDE)


@pytest.fixture
def photos(tmp_path):
    for index, size in enumerate([(9, 7), (6, 12), (20, 8), (6, 6)]):
        levels = np.random.default_rng(index).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
        path = tmp_path / "photos" / str(index % 2) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(path)
    return tmp_path / "photos"


def brought(path, resize, crop):
    """The pixels, by Pillow alone."""
    image = Image.open(path)
    image = image.resize(resize(image), Image.Resampling.BILINEAR)
    if crop:
        left, top = (round((length - SIDE) / 2) for length in image.size)
        image = image.crop((left, top, left + SIDE, top + SIDE))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def shorter(side):
    return lambda image: tuple(int(side * length / min(image.size)) for length in image.size)


CASES = {
    "by the network's size": ([], shorter(6), True, False),
    "resized and cut": (["--resize", 7, "--crop", 6], shorter(7), True, False),
    "squashed": (["--resize", 6, "--squash"], lambda _: (6, 6), False, False),
    "blue first": (["--bgr"], shorter(6), True, True),
}


@pytest.mark.parametrize("case", CASES)
def test_photographs_are_brought_into_the_networks_shape_and_the_audit_agrees(case, network, photos, tmp_path, capsys):
    flags, resize, crop, reverse = CASES[case]
    reference, weight = network
    common = ["--model", reference, "--mean", "0.4,0.5,0.6", "--std", "0.2,0.25,0.3"]
    out = tmp_path / "run"
    asked = ["--data", f"imagefolder:{photos}", "--eps", "1/255", "--suite", "apgd-ce", "--out", out, *flags]
    assert main(["evaluate", *common, *map(str, asked), "--json"]) == 0, capsys.readouterr().err
    rows = {row["id"]: row for row in sp.open_run(out).rows().to_pylist() if row["kind"] == "attack"}
    assert len(rows) == 4
    mean, std = (torch.tensor(each)[:, None, None] for each in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
    for name, row in rows.items():
        x = (brought(next(photos.rglob(name.split("/")[-1])), resize, crop) - mean) / std
        logits = (torch.from_numpy(weight) * (x.flip(0) if reverse else x)).sum((1, 2, 3))
        assert row["clean_margin"] == pytest.approx(float(logits[row["label"]] - logits[1 - row["label"]]), abs=1e-3)
    capsys.readouterr()
    again = ["--bgr"] if reverse else []
    assert main(["verify", str(out), *common, *again, "--certificates", "1", "--standing", "1", "--json"]) == 0
    assert not json.loads(capsys.readouterr().out)["failed"]


def test_examples_that_cannot_be_read_are_told(network, photos, tmp_path, capsys):
    where = [
        "--model",
        network[0],
        "--data",
        f"imagefolder:{photos}",
        "--eps",
        "1/255",
        "--suite",
        "fgsm",
        "--no-checks",
    ]
    (photos / "0" / "0.png").write_bytes(b"torn")
    assert main(["evaluate", *where, "--out", str(tmp_path / "some")]) == 0
    out, err = capsys.readouterr()
    assert "1 example could not be read or attacked; the first, 0/0.png: " in err
    assert out
    assert main(["evaluate", *where, "--out", str(tmp_path / "none"), "--crop", "9999999"]) == 2
    assert "4 examples could not be read or attacked" in capsys.readouterr().err


def test_flags_of_photographs_are_refused_where_they_mean_nothing(network, photos, tmp_path, capsys):
    np.savez(tmp_path / "arrays.npz", x=np.zeros((2, 3, SIDE, SIDE), np.float32), y=np.array([0, 1]))
    for flags, said in (
        (["--data", f"imagefolder:{photos}", "--squash"], "expected --resize N with it"),
        (["--data", f"npz:{tmp_path / 'arrays.npz'}", "--crop", "6"], "holds arrays; expected photographs: drop it"),
    ):
        assert main(["evaluate", "--model", network[0], "--out", str(tmp_path / "no"), *flags]) == 2
        assert said in capsys.readouterr().err


def test_a_model_of_blue_first_is_not_saved_without_saying_so(network, tmp_path):
    with pytest.raises(sp.InputError, match="bgr=True, which a model folder cannot say"):
        sp.save_classifier(sp.load_classifier(network[0], bgr=True), tmp_path / "saved")
