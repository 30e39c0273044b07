"""The classifiers and images that ship: they load, weigh little, say where they come from, and are as good as told."""

import json

import pytest
import torch

import saddlepoint as sp
from saddlepoint.cli.main import main
from saddlepoint.models import shipped


def _sample(count):
    data = sp.load_dataset("fashion-mnist-sample")
    samples = [data.read(i) for i in range(0, len(data), len(data) // count)]
    return torch.stack([s.x for s in samples]), torch.tensor([s.y for s in samples])


def test_the_sample_is_balanced_and_named():
    data = sp.load_dataset("fashion-mnist-sample")
    assert [data.labels.count(label) for label in range(10)] == [100] * 10
    assert data.classes[9] == "Ankle boot"
    assert data.read(0).x.shape == (1, 28, 28)


@pytest.mark.parametrize("name", shipped.names())
def test_a_shipped_classifier_has_its_card_and_weighs_little(name):
    classifier = sp.load_classifier(name)
    assert classifier.predict(torch.rand(2, 1, 28, 28)).logits.shape == (2, 10)
    folder = shipped.folder(name)
    assert (folder / "model.safetensors").stat().st_size < 1_000_000
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))["card"]
    assert card["command"].startswith("saddlepoint train")
    assert (
        "licence" in card["data"]["source"].lower() or "MIT" in card["data"]["source"] or "CC" in card["data"]["source"]
    )
    assert name in shipped.FORM
    assert "/" not in card["data"]["reference"]


def test_the_adversarially_trained_one_is_the_more_robust():
    x, y = _sample(100)
    robust = {}
    for name in ("fashion-mnist-standard", "fashion-mnist-pgd"):
        classifier = sp.load_classifier(name)
        assert (classifier.predict(x).label == y).double().mean() > 0.8
        robust[name] = int((~sp.attack(classifier, x, y, sp.Linf(0.1), sp.PGD(steps=10)).success).sum())
    assert robust["fashion-mnist-pgd"] > 65
    assert robust["fashion-mnist-standard"] < 15


def test_of_the_certifiably_trained_one_most_is_proven_by_intervals():
    x, y = _sample(100)
    proof = sp.certify(sp.load_classifier("fashion-mnist-ibp"), x, y, sp.Linf(0.1), method="interval")
    assert sum(each == "certified" for each in proof.verdict) > 60


def test_the_default_evaluation_runs_on_what_ships(tmp_path, capsys):
    assert main(["evaluate", "--first", "6", "--suite", "pgd", "--json", "--out", str(tmp_path)]) == 0
    (threat,) = json.loads(capsys.readouterr().out)["summary"]["threats"]
    assert (threat["norm"], threat["eps"], threat["examples"]) == ("linf", 0.1, 6)
    assert threat["certificates"]


def test_they_are_listed(capsys):
    assert main(["models", "shipped", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["models"]
    assert [row["reference"] for row in rows] == shipped.names()
