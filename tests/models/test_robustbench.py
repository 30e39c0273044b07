"""RobustBench through a stand-in for its package: what we ask it, and how its answer is read."""

import enum
import os
import sys
import types

import pytest
import torch
from torch import nn
from torchvision import transforms

from saddlepoint.classifier import Preprocessing
from saddlepoint.errors import InputError, WeightsError
from saddlepoint.models import load_classifier

RECIPES = {
    "A": ([transforms.ToTensor()], Preprocessing()),
    "B": (
        [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()],
        Preprocessing(resize=256, crop=224, interpolation="bilinear"),
    ),
    "C": (
        [transforms.Resize((9, 9), transforms.InterpolationMode.BICUBIC), transforms.ToTensor()],
        Preprocessing(resize=9, interpolation="bicubic", squash=True),
    ),
}


@pytest.fixture
def package(monkeypatch, tmp_path):
    asked = []

    def load_model(name, folder, dataset, threat):
        asked.append((name, dataset, threat, os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]))
        if name == "gone":
            raise OSError("quota\nexceeded")
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 1000 if dataset == "imagenet" else 10))

    def get_preprocessing(dataset, threat, name, preprocessing):
        assert preprocessing is None
        return transforms.Compose(RECIPES.get(name, ([transforms.RandomCrop(3)],))[0])

    modules = {
        "robustbench": {},
        "robustbench.data": {"get_preprocessing": get_preprocessing},
        "robustbench.model_zoo": {},
        "robustbench.model_zoo.enums": {
            "BenchmarkDataset": enum.Enum("D", {"a": "cifar10", "b": "cifar100", "c": "imagenet"}),
            "ThreatModel": enum.Enum("T", {"a": "Linf", "b": "L2", "c": "corruptions"}),
        },
        "robustbench.utils": {"load_model": load_model},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    return asked


@pytest.mark.parametrize("name", RECIPES)
def test_a_model_of_the_zoo(package, name):
    found = load_classifier(f"robustbench:{name}:imagenet:L2")
    assert package == [(name, "imagenet", "L2", "1")]
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    assert found.preprocessing == RECIPES[name][1]
    assert not found.normalises
    assert load_classifier(f"robustbench:{name}").name_of(3) == "cat"
    assert found.predict(torch.rand(1, 3, 2, 2)).logits.shape == (1, 1000)


def test_what_cannot_be_had_is_one_line(package):
    with pytest.raises(WeightsError, match="could not fetch robustbench:gone \\(OSError: quota exceeded\\)"):
        load_classifier("robustbench:gone")
    with pytest.raises(InputError, match="RandomCrop.*expected Resize, CenterCrop and ToTensor"):
        load_classifier("robustbench:odd")
    for wrong in ("robustbench", "robustbench:A:mnist", "robustbench:A:cifar10:L7", "robustbench:A:cifar10:L2:x"):
        with pytest.raises(InputError, match="expected robustbench:ID"):
            load_classifier(wrong)


def test_without_the_package_its_name_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "robustbench", None)
    with pytest.raises(InputError, match="pip install robustbench"):
        load_classifier("robustbench:A")
