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
from saddlepoint.evaluation.earlier_run import NAME
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
    rows = [row for row in after.rows().to_pylist() if row["attack"] == NAME and row["eps"] == 0.02]
    assert rows
    assert all(row["forwards"] + row["backwards"] <= 24 for row in rows)
    assert check_run(after.run.path) == []
    for each in after.judgements():
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
    assert all(row["distance"] <= 0.045 for row in found.rows().to_pylist())
    images = np.stack([data.read(index).x.numpy() for index in range(40)])
    images[:, 0, 0, 0] = 1 - images[:, 0, 0, 0]
    other = of_arrays("made", "made", images, np.array([data.read(index).y for index in range(40)]))
    assert NAME not in _evaluate(second, other, [sp.Linf(0.05)], points=larger.run).robust_accuracy.attacks
    with pytest.raises(sp.InputError, match="has attacked nothing in l2"):
        _evaluate(second, data, [sp.L2(0.1)], points=larger.run)


def _spent(found):
    return found.summary["forwards"] + found.summary["backwards"]


@pytest.mark.slow
def test_what_stood_far_from_the_boundary_is_searched_for_a_few_steps(case, tmp_path):
    first, second, data = case
    before = _evaluate(first, data)
    whole, some = (_evaluate(second, data, points=before.run, near=near) for near in (None, 0.25))
    assert _spent(some) < 0.8 * _spent(whole)
    for one, other in zip(whole.brackets, some.brackets, strict=True):
        assert 0 <= other.attacked - one.attacked <= 1  # a bound still, a little higher at most
    rows = {row["key"]: row for row in some.rows().to_pylist()}
    far = [row for row in rows.values() if row["name"] == "probe"]
    assert far
    assert all(row["forwards"] + row["backwards"] <= 36 for row in far)
    for row in whole.rows().to_pylist():
        mine = rows[row["key"]]
        if mine["method"] == row["method"] and mine["attack"] != NAME:  # searched anew: as ever, but for the probe
            assert (mine["success"], mine["margin"]) == (row["success"], row["margin"])
    assert _evaluate(second, data, points=before.run, near=1.0).brackets == whole.brackets
    with pytest.raises(sp.InputError, match=r"near is 1.5; expected a share"):
        _evaluate(second, data, points=before.run, near=1.5)
    with pytest.raises(sp.InputError, match="of which run"):
        _evaluate(second, data, near=0.1)


class Weak(nn.Module):
    """A network, and beside it one that small changes move far."""

    def __init__(self, net):
        super().__init__()
        torch.manual_seed(2)
        self.net, self.other = copy.deepcopy(net), nn.Linear(64, 4)

    def forward(self, x):
        return self.net(x) + self.other(x.flatten(1) - 0.5)


def test_a_version_that_has_become_weak_is_searched_all_the_same(case):
    first, _, data = case
    before, weak = _evaluate(first, data, [sp.Linf(0.02)]), sp.Classifier(Weak(first.module), name="weak")
    alone = _evaluate(weak, data, [sp.Linf(0.02)]).robust_accuracy
    some = _evaluate(weak, data, [sp.Linf(0.02)], points=before.run, near=0.1).robust_accuracy
    assert alone.attacked < before.robust_accuracy.attacked - 8
    assert some.attacked <= alone.attacked + 1


@pytest.mark.parametrize("near", [None, 0.0])
def test_an_example_on_which_the_next_version_fails_costs_only_itself(near, case):
    """Beside the clean image the logits are no numbers: earlier points and probes meet that first."""

    class Failing(nn.Module):
        def __init__(self, net, x):
            super().__init__()
            self.net, self.x = net, x

        def forward(self, x):
            aside = (x - self.x).abs().flatten(1).amax(1)
            z = self.net(x)
            return torch.where(((aside > 0) & (aside < 0.06))[:, None], torch.nan, z)

    first, second, data = case
    before = _evaluate(first, data, [sp.Linf(0.05)])
    standing = {each.standing: each.index for each in before.judgements()}
    whole = {row["id"]: row["success"] for row in _evaluate(second, data, [sp.Linf(0.05)]).rows().to_pylist()}
    for kind in (Standing.BROKEN, Standing.UNDECIDED):
        odd = data.read(standing[kind])
        failing = sp.Classifier(Failing(second.module, odd.x), name="failing")
        rows = _evaluate(failing, data, [sp.Linf(0.05)], points=before.run, near=near).rows().to_pylist()
        assert [row["id"] for row in rows if row["error"] is not None] == [odd.id]
        assert sum(row["success"] != whole[row["id"]] for row in rows if row["error"] is None) <= 2


def test_the_command_says_what_was_saved(tmp_path, capsys):
    base = ["evaluate", "--no-checks", "--suite", "pgd", "--certify", "none", "--limit", "40", "--eps", "0.1"]
    assert main([*base, "--model", "fashion-mnist-pgd", "--out", str(tmp_path / "a")]) == 0
    model = ["--model", "fashion-mnist-standard", "--from", str(tmp_path / "a"), "--out", str(tmp_path / "b")]
    assert main([*base, *model]) == 0
    assert "by a point of a; " in capsys.readouterr().out
    assert main([*base, *model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"]["threats"][0]["attacks"][NAME] > 0
