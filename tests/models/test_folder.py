"""A model folder holds all that a classifier is, is written whole or not at all, and is believed in nothing."""

import json

import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torchvision import models

import saddlepoint as sp
from saddlepoint.errors import InputError, ModelError, WeightsError
from saddlepoint.models import KINDS, load_classifier, save_classifier
from saddlepoint.testing import toys

SOURCE = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working folder with a network in code."""
    (tmp_path / "my_net.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _published(reference, module):
    torch.save(module.state_dict(), "w.pth")
    return load_classifier(reference, weights="w.pth")


def _network():
    weight = numpy_helper.from_array(torch.rand(12, 3).numpy(), "weight")
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "weight"], ["y"])]
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 2, 2])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph(nodes, "g", [entry], [result], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "net.onnx")
    return load_classifier("onnx:net.onnx", mean=0.5, std=[0.1, 0.2, 0.3])


MADE = {
    "efficientnet-lite0": lambda: load_classifier("efficientnet-lite0"),
    "torchvision": lambda: _published("torchvision:squeezenet1_1", models.squeezenet1_1(weights=None)),
    "timm": lambda: _published("timm:test_resnet.r160_in1k", timm.create_model("test_resnet")),
    "onnx": _network,
    "net": lambda: load_classifier("net:small:3x64x64:5"),
    "shipped": lambda: load_classifier("fashion-mnist-pgd"),
    "code": lambda: load_classifier("my_net.py:make", mean=0.25, std=0.5),
}
HUBS = {"hf", "robustbench"}


def test_every_kind_that_needs_no_network_is_saved_and_opened_below():
    assert set(MADE) | HUBS == {*KINDS, "code"}


@pytest.mark.parametrize("kind", MADE)
def test_what_was_saved_is_what_is_opened(kind, here):
    classifier = MADE[kind]()
    with torch.no_grad():
        next(classifier.module.parameters()).mul_(1.5)
    save_classifier(classifier, "deep/m")
    for name in ("w.pth", "net.onnx"):
        (here / name).unlink(missing_ok=True)
    found = load_classifier(*(["my_net.py:make"] if kind == "code" else ["deep/m"]), **_weights(kind))
    shape = {"onnx": (3, 2, 2), "code": (3, 2, 2), "shipped": (1, 28, 28)}.get(kind, (3, 64, 64))
    x = toys.pixels(1, shape)
    assert torch.equal(found.predict(x).logits, classifier.predict(x).logits)
    assert (found.names, found.preprocessing) == (classifier.names, classifier.preprocessing)
    assert torch.equal(found.normalise(x), classifier.normalise(x))


def _weights(kind):
    return {"weights": "deep/m"} if kind == "code" else {}


def test_a_network_is_replaced_with_its_folder(here):
    classifier, other = _network(), load_classifier("my_net.py:make")
    save_classifier(classifier, "m")
    save_classifier(load_classifier("m"), "m")
    assert sorted(path.name for path in (here / "m").iterdir()) == ["model.json", "model.onnx", "model.safetensors"]
    (here / "m" / "mine.txt").touch()
    save_classifier(other, "m")
    assert sorted(path.name for path in (here / "m").iterdir()) == ["mine.txt", "model.json", "model.safetensors"]


def test_a_network_that_was_changed_is_seen(here):
    save_classifier(_network(), "m")
    (here / "m" / "model.onnx").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"model.onnx' is not what model.json names: the folder is torn"):
        load_classifier("m")


LOOP = []
LOOP.append(LOOP)
MISTAKES = {
    "the card is no JSON .*nan": {"card": {"a": float("nan")}},
    "the card is no JSON .*object": {"card": {"a": object()}},
    "the card is no JSON .*Circular": {"card": {"a": LOOP}},
    "the card is no JSON .*surrogates": {"card": {"a": "\udc00"}},
    "do not fit": {"architecture": "my_net.py:other"},
    "unknown model 'none'": {"architecture": "none"},
    "the network 'none.onnx' is gone": {"architecture": "onnx:none.onnx"},
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_destroys_nothing(here, message):
    (here / "my_net.py").write_text(f"{SOURCE}\ndef other():\n    return nn.Linear(1, 2)\n")
    classifier = load_classifier("my_net.py:make")
    for place in (here / "m", here / "new"):
        if place.name == "m":
            save_classifier(classifier, place, card={"good": True})
        before = {path.name: path.read_bytes() for path in place.glob("*")}
        with pytest.raises(InputError, match=message) as caught:
            save_classifier(classifier, place, **MISTAKES[message])
        assert {path.name: path.read_bytes() for path in place.glob("*")} == before
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in here.iterdir() if path.is_dir() and path.name != "__pycache__") == ["m"]


def test_a_place_that_is_a_file_is_one_line(here):
    (here / "m").touch()
    with pytest.raises(InputError, match="cannot write 'm' .*; expected a place for a model folder"):
        save_classifier(load_classifier("my_net.py:make"), "m")


def test_tensors_in_any_order_are_saved():
    classifier = load_classifier("my_net.py:make")
    classifier.module[1].weight = nn.Parameter(torch.rand(12, 3).T)
    save_classifier(classifier, "m")
    found = load_classifier("my_net.py:make", weights="m")
    assert torch.equal(found.module[1].weight, classifier.module[1].weight)


def test_a_folder_holds_all_that_a_classifier_is(tmp_path):
    classifier = load_classifier("efficientnet-lite0", mean=0.25, std=[0.1, 0.2, 0.3])
    classifier.names = tuple(f"{name}, é" for name in classifier.names)
    with torch.no_grad():
        next(classifier.module.parameters()).mul_(2)
    save_classifier(classifier, tmp_path / "m", card={"recipe": "none"})
    found = load_classifier(str(tmp_path / "m"))
    x = toys.pixels(1, (3, 32, 32))
    assert torch.equal(found.predict(x).logits, classifier.predict(x).logits)
    assert (found.names, found.preprocessing) == (classifier.names, classifier.preprocessing)
    save_classifier(found, tmp_path / "n")
    assert (tmp_path / "n" / "model.safetensors").read_bytes() == (tmp_path / "m" / "model.safetensors").read_bytes()
    assert sorted(path.name for path in (tmp_path / "n").iterdir()) == ["model.json", "model.safetensors"]


def test_saving_needs_a_reference(tmp_path):
    with pytest.raises(InputError, match="expected architecture=REF"):
        save_classifier(sp.Classifier(nn.Flatten()), tmp_path)
    with pytest.raises(WeightsError, match="do not fit"):
        save_classifier(sp.Classifier(nn.Linear(1, 2)), tmp_path, architecture="efficientnet-lite0")


DAMAGED = {
    "cannot be read": lambda text: text[: len(text) // 2],
    "is of format 'other'": lambda text: text.replace("saddlepoint-model", "other"),
    "saved by a newer saddlepoint \\(version 9\\)": lambda text: text.replace('"version": 1', '"version": 9'),
    "its weights is missing": lambda text: text.replace('"weights"', '"heights"'),
    "the folder is torn": lambda text: text.replace('"sha256": "', '"sha256": "0'),
    "its preprocessing has 'crops'; expected resize, crop": lambda text: text.replace('"crop"', '"crops"'),
    "cannot be read \\(JSONDecodeError": lambda text: "",
    "its model.json is \\[\\]; expected an object": lambda text: "[]",
}


@pytest.mark.parametrize("message", DAMAGED)
def test_a_damaged_folder_is_named(here, message):
    save_classifier(load_classifier("my_net.py:make"), "m")
    card = here / "m" / "model.json"
    card.write_text(DAMAGED[message](card.read_text()))
    with pytest.raises(WeightsError, match=message) as caught:
        load_classifier("m")
    assert "\n" not in str(caught.value)


WRONG = [
    ("names", 5),
    ("names", ["a", 2, "c"]),
    ("mean", "abc"),
    ("mean", [[1]]),
    ("mean", [1e400]),
    ("mean", []),
    ("std", [0, 0, 0]),
    ("std", [True]),
    ("preprocessing", {"resize": -5, "crop": "x"}),
    ("preprocessing", {"resize": True}),
    ("preprocessing", {"squash": 1}),
    ("preprocessing", {"interpolation": "foo"}),
    ("preprocessing", None),
    ("version", True),
    ("version", -1),
    ("version", None),
    ("architecture", ""),
    ("architecture", "m"),
    ("weights", {"sha256": 5}),
]


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_wrong_value_is_one_line(here, key, value):
    save_classifier(_network(), "m")
    card = here / "m" / "model.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {key: value}))
    said = "is a folder" if value == "m" else next(iter(value)) if isinstance(value, dict) else key
    with pytest.raises(InputError, match=said) as caught:
        load_classifier("m")
    assert "\n" not in str(caught.value)


def test_a_wrong_number_of_names_is_seen_with_the_first_logits(here):
    save_classifier(_network(), "m")
    card = here / "m" / "model.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"names": ["a"]}))
    with pytest.raises(ModelError, match="returned 3 logits, but 1 classes have names; expected a name per logit"):
        load_classifier("m").predict(torch.rand(1, 3, 2, 2))


def test_mean_and_std_of_other_lengths_are_one_line():
    with pytest.raises(InputError, match="mean has 2 numbers and std 3; expected one each, or one per channel"):
        load_classifier("my_net.py:make", mean=[0.1, 0.2], std=[0.1, 0.2, 0.3])
