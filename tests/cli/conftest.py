import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from saddlepoint.classifier import Classifier, Preprocessing
from saddlepoint.cli.main import main

NAMES = ("crimson", "leaf", "sea", "sand", "crane", "crane")


def tiny(reference="efficientnet-lite0", **_):
    """A small smooth classifier of colours; it wants 8 × 8 pixels after the resize of its own recipe."""
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 3, generator=random)
    weight[:3] += 4 * torch.eye(3)
    head = nn.Linear(3, 6)
    with torch.no_grad():
        head.weight.copy_(weight * 4)
        head.bias.zero_()
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    return Classifier(
        module, mean=0.5, std=0.5, names=NAMES, preprocessing=Preprocessing(resize=10, crop=8), name=reference
    ).eval()


@pytest.fixture
def tiny_model(monkeypatch):
    """Let the command line load the tiny classifier, whatever the reference; `asked` notes the arguments."""
    import saddlepoint.models

    model = SimpleNamespace(asked=[], classifier=tiny())

    def load(reference, *, weights, device, **_):
        model.asked.append((reference, weights, device))
        return tiny(reference)

    monkeypatch.setattr(saddlepoint.models, "load_classifier", load)
    return model


@pytest.fixture
def photo(tmp_path):
    """Write a noisy photograph of one colour; give its path."""

    def write(name="red.png", colour=(200, 60, 50), size=(20, 16)):
        noise = np.random.default_rng(sum(colour)).integers(-20, 20, (size[1], size[0], 3))
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)
        return str(path)

    return write


@pytest.fixture
def attack(tmp_path, capsys):
    """Run `saddlepoint attack --json`; give the exit code, the object and standard error."""

    def run(*arguments):
        code = main(["attack", "--json", "--out", str(tmp_path / "out"), *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return run
