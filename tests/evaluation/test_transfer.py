"""The points of an earlier run are tried first: they save passes, and never decide that an example stands."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.cli.main import main
from saddlepoint.data.datasets.dataset import of_arrays
from saddlepoint.evaluation.transfer import NAME
from saddlepoint.results import Standing, check_run

SUITE = (sp.PGD(steps=10), sp.Square(queries=20))
BALLS = [sp.Linf(0.02), sp.Linf(0.05)]


@pytest.fixture
def case():
    torch.manual_seed(1)
    layers = (nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4))
    classifier = sp.Classifier(nn.Sequential(*layers), name="first")
    images = np.random.default_rng(0).random((40, 1, 8, 8), np.float32)
    labels = classifier.predict(torch.from_numpy(images)).label.numpy().copy()
    sibling = sp.Classifier(copy.deepcopy(classifier.module), name="second")
    with torch.no_grad():
        for weight in sibling.module.parameters():
            weight.add_(0.02 * weight.std() * torch.randn_like(weight))
    return classifier, sibling, of_arrays("made", "made", images, labels)


def _evaluate(model, data, balls=BALLS, **how):
    return sp.evaluate(model, data, balls, suite=SUITE, certify="none", batch_size=8, checks=False, **how)


def test_earlier_points_break_the_next_version_for_a_few_passes(case, tmp_path):
    first, second, data = case
    before = _evaluate(first, data)
    alone, after = _evaluate(second, data), _evaluate(second, data, points=before.run, out=tmp_path)
    for one, other in zip(alone.brackets, after.brackets, strict=True):
        assert abs(one.attacked - other.attacked) <= 1
        assert other.attacks[NAME] > 0.8 * other.counts["broken"]
    rows = [row for row in after.records().to_pylist() if row["attack"] == NAME and row["eps"] == 0.02]
    assert rows
    assert all(row["forwards"] + row["backwards"] <= 24 for row in rows)
    assert check_run(after.run.path) == []
    for each in after.verdicts():
        if each.standing is Standing.BROKEN:
            point, sample = torch.from_numpy(after.run.point(each.id, each.eps).copy()), data.read(each.index)
            assert (point.double() - sample.x.double()).abs().max() <= each.eps
            assert second.predict(point[None]).label.item() != each.label
    again = _evaluate(second, data, points=before.run, out=tmp_path)
    assert again.summary == after.summary
    with pytest.raises(sp.InputError, match="points"):
        _evaluate(second, data, out=tmp_path)


def test_a_point_of_a_larger_ball_is_projected_and_one_of_another_image_is_not_used(case):
    first, second, data = case
    larger = _evaluate(first, data, [sp.Linf(0.05)])
    found = _evaluate(second, data, [sp.Linf(0.045)], points=larger.run)
    assert found.robust_accuracy.attacks[NAME] > 0
    assert all(row["distance"] <= 0.045 for row in found.records().to_pylist())
    images = np.stack([data.read(index).x.numpy() for index in range(40)])
    images[:, 0, 0, 0] = 1 - images[:, 0, 0, 0]
    other = of_arrays("made", "made", images, np.array([data.read(index).y for index in range(40)]))
    assert NAME not in _evaluate(second, other, [sp.Linf(0.05)], points=larger.run).robust_accuracy.attacks
    with pytest.raises(sp.InputError, match="has no point of a l2 ball"):
        _evaluate(second, data, [sp.L2(0.1)], points=larger.run)


def test_the_command_says_what_was_saved(tmp_path, capsys):
    base = ["evaluate", "--no-checks", "--suite", "pgd", "--certify", "none", "--limit", "40", "--eps", "0.1"]
    assert main([*base, "--model", "fashion-mnist-pgd", "--out", str(tmp_path / "a")]) == 0
    model = ["--model", "fashion-mnist-standard", "--from", str(tmp_path / "a"), "--out", str(tmp_path / "b")]
    assert main([*base, *model]) == 0
    assert "by a point of a; " in capsys.readouterr().out
    assert main([*base, *model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"]["threats"][0]["attacks"][NAME] > 0
