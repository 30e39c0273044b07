"""Checks that an evaluation can be believed: sound models pass them, planted defences and odd data do not."""

import json
import re
from itertools import cycle

import numpy as np
import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.cli.main import main
from saddlepoint.data.datasets.dataset import of_arrays
from saddlepoint.evaluation.sanity import _close
from saddlepoint.report import report
from saddlepoint.testing import TRAPS, toys

ATTACKED = "an attack that may do anything breaks all"


def evaluated(classifier, x, y, eps=1 / 8, **how):
    data = of_arrays("made", "made", x.numpy(), y.numpy())
    suite = (sp.PGD(steps=5), sp.Square(queries=30, p_init=0.3))
    return sp.evaluate(classifier, data, sp.Linf(eps), suite=suite, certify="none", batch_size=32, **how)


def outcomes(found):
    return {each["name"]: each["outcome"] for each in found.run.checks()}


class Altered(nn.Module):
    """A network whose logits something is done to."""

    def __init__(self, net, change):
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x):
        return self.change(self.net(x))


@pytest.fixture(scope="module")
def digits():
    x, y = toys.digits()
    return toys.trained(), x[1:81:2], y[1:81:2]


def test_a_sound_evaluation_passes(digits):
    found = outcomes(evaluated(*digits))
    assert len(found) == 15
    assert set(found.values()) == {"pass"}


SLOW = ("scaled logits", "detached branch")


@pytest.mark.parametrize(
    "name", ["quantised input", "rounded units", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_a_planted_defence_does_not_pass(digits, name):
    twin, x, y = digits
    found = outcomes(evaluated(TRAPS[name].defend(twin), x, y))
    assert {"fail", "warn"} & set(found.values())
    if name == "quantised input":
        assert found[ATTACKED] == "fail"
    if name == "rounded units":
        assert found["gradients tell how the margin changes"] == "warn"


@pytest.mark.slow
def test_saturated_cross_entropy_and_a_last_attack_that_is_alone_are_told(digits):
    twin, x, y = digits
    data, classifier = of_arrays("made", "made", x.numpy(), y.numpy()), sp.Classifier(Altered(twin, lambda z: 3000 * z))
    suite = (sp.PGD(steps=10), sp.PGD(steps=10, loss="margin"))
    found = sp.evaluate(classifier, data, sp.Linf(1 / 8), suite=suite, certify="none", batch_size=32)
    told = {each["name"]: each for each in found.run.checks()}
    assert told["cross-entropy is not saturated"]["outcome"] == "warn"
    alone = told["the last attack breaks nothing that all others miss"]
    assert alone["outcome"] == "warn"
    (first, only_first), (last, only_last) = re.findall(r"PGD (\d+) \((\d+) only it\)", alone["measured"])
    assert int(last) - int(only_last) == int(first) - int(only_first) >= 0  # what both break
    assert int(only_last) > 1


def test_a_stochastic_model_is_told(digits):
    signs = cycle((-1, 1))

    def noisy(z):
        return z + 1e-4 * next(signs) * z.abs().max()  # less than what ends an attack

    twin, x, y = digits
    found = outcomes(evaluated(sp.Classifier(Altered(twin, noisy)), x, y))
    assert found["logits are the same again, beside other images"] == "fail"


def test_facts_about_the_data_are_listed():
    classifier = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
    x = torch.from_numpy(np.random.default_rng(0).random((9, 1, 4, 4), np.float32))
    x[1] = x[0]  # a copy
    x[3] = x[2]  # another label
    x[5] = x[4] + 0.01 * (x[4] < 0.5) - 0.01 * (x[4] >= 0.5)
    y = torch.tensor([0, 0, 1, 2, 0, 1, 2, 2, 2])
    found = {each["name"]: each for each in evaluated(classifier, x, y, eps=0.01).run.checks()}
    assert found["no two classes are closer than 2 eps"]["measured"].startswith("2 pairs of 9 examples: ")
    assert found["no image occurs twice"]["measured"] == "2 copies among 9"
    assert found["no image has two labels"]["measured"].startswith("1 pairs")
    assert {found[name]["outcome"] for name in found if name.startswith("no ")} >= {"warn"}


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_close_pairs_are_those_of_brute_force(norm):
    x, y = torch.rand(40, 5), torch.randint(3, (40,))
    power = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}[norm]
    eps = {"linf": 0.1, "l2": 0.2, "l1": 0.4}[norm]
    due = [
        (i, j)
        for i in range(40)
        for j in range(i + 1, 40)
        if y[i] != y[j] and torch.linalg.vector_norm(x[i] - x[j], power) <= 2 * eps
    ]
    assert _close(x, y, sp.ThreatModel(norm, eps)) == (due, 0)


def test_checks_belong_to_their_records_and_are_shown(digits, tmp_path):
    found = evaluated(*digits, out=tmp_path)
    before = (tmp_path / "checks.json").read_bytes()
    assert ATTACKED in report(found.run, images=False)
    evaluated(*digits, out=tmp_path)
    assert (tmp_path / "checks.json").read_bytes() == before
    told = json.loads(before)
    (tmp_path / "checks.json").write_text(json.dumps({**told, "rows": "sha256:0"}))
    assert sp.open_run(tmp_path).checks() == []
    assert "What ought to hold" not in report(sp.open_run(tmp_path), images=False)


class Failing(nn.Module):
    """Raises where the first pixel says so."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        if bool((x[:, 0, 0, 0] > 0.9).any()):
            raise ValueError("no such\npixel")
        return self.net(x)


def test_an_evaluation_is_not_lost_for_its_checks(digits):
    twin, x, y = digits
    x = x.clone()
    x[3, 0, 0, 0] = 1
    checks = evaluated(sp.Classifier(Failing(twin)), x, y).run.checks()
    assert checks[0]["outcome"] == "fail"
    assert checks[0]["measured"].endswith("no such pixel")
    assert outcomes(evaluated(twin, x[:8], y[:8], eps=0.8))  # twice that is more than the box


def test_the_command_counts_them(tmp_path, capsys):
    base = ["evaluate", "--suite", "fgsm", "--certify", "none", "--limit", "20", "--batch-size", "20"]
    assert main([*base, "--out", str(tmp_path / "a")]) == 0
    assert "checks: " in capsys.readouterr().out
    assert main([*base, "--no-checks", "--out", str(tmp_path / "b")]) == 0
    assert "checks: " not in capsys.readouterr().out
