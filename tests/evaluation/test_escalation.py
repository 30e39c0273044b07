"""A suite audits itself: a sample of what stands meets a longer attack; where that breaks one, all that stands does."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.cli.main import main
from saddlepoint.data.datasets.dataset import of_arrays
from saddlepoint.errors import InputError, MaskingWarning
from saddlepoint.evaluation.escalation import samples_of
from saddlepoint.results import Standing, check_run

WEAK, STRONG = sp.PGD(steps=1, travel=0.05, random_start=False), sp.PGD(steps=10)
BALL = sp.Linf(0.05)


@pytest.fixture
def case():
    torch.manual_seed(1)
    layers = (nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4))
    classifier = sp.Classifier(nn.Sequential(*layers))
    images = np.random.default_rng(0).random((40, 1, 8, 8), np.float32)
    labels = classifier.predict(torch.from_numpy(images)).label.numpy().copy()
    return classifier, of_arrays("made", "made", images, labels)


def suite(share):
    return (WEAK, sp.OnSample(STRONG, share), sp.IfDoubted(STRONG))


def arrays(data):
    samples = [data.read(place) for place in range(len(data))]
    return torch.stack([each.x for each in samples]), torch.tensor([each.y for each in samples])


def test_a_broken_sample_escalates_for_all_that_stands(case):
    classifier, data = case
    x, y = arrays(data)
    full = sp.attack(classifier, x, y, BALL, STRONG, batch_size=8)
    with pytest.warns(MaskingWarning, match="sample broken: of a sample of .* fell to a longer attack; so all that"):
        found = sp.attack(classifier, x, y, BALL, suite(0.3), batch_size=8)
    assert 0 < int((~full.success).sum()) < 35
    assert abs(int(found.success.sum()) - int(full.success.sum())) <= 1
    assert [finding.name for finding in found.findings] == ["sample broken"]
    assert (found.forwards > 0).all()


def test_without_a_further_attack_the_finding_estimates_what_would_fall(case):
    classifier, data = case
    x, y = arrays(data)
    with pytest.warns(MaskingWarning, match=r"so would about \d+% of the others, of which \d+ stand .* at 95%"):
        sp.attack(classifier, x, y, BALL, suite(0.5)[:2], batch_size=8)


def test_the_sample_depends_on_seed_and_id_alone(case):
    classifier, data = case
    x, y = arrays(data)

    def fell(rows, seed=0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = sp.attack(classifier, x[rows], y[rows], BALL, suite(0.3)[:2], ids=rows, seed=seed, batch_size=8)
        return {row for row, name in zip(rows, found.attack, strict=True) if name == "PGD#2"}

    rows = list(range(40))
    assert fell(rows) == fell(rows[::-1]) == fell(rows[:20]) | fell(rows[20:])
    assert fell(rows) != fell(rows, seed=1)


@pytest.mark.parametrize("share", [0, -0.1, 1.5, True, float("nan")])
def test_a_share_is_a_share(share):
    with pytest.raises(InputError, match="OnSample got share="):
        sp.OnSample(STRONG, share)


def test_a_suite_does_not_begin_with_a_sample(case):
    classifier, data = case
    with pytest.raises(InputError, match="begins with OnSample"):
        sp.attack(classifier, *arrays(data), BALL, sp.OnSample(STRONG))


@pytest.mark.parametrize("certify", ["none", "interval"])
def test_an_evaluation_escalates_in_a_second_run(case, tmp_path, certify):
    classifier, data = case
    how = {"certify": certify, "batch_size": 8, "out": tmp_path / "run", "checks": False}
    found = sp.evaluate(classifier, data, BALL, suite=suite(0.3), **how)
    full = sp.evaluate(classifier, data, BALL, suite=STRONG, certify=certify, batch_size=8, checks=False)
    assert found.before is not None
    assert (found.before.path, found.run.path) == (tmp_path / "run", tmp_path / "run-escalated")
    assert abs(found.robust_accuracy.attacked - full.robust_accuracy.attacked) <= 1
    assert found.robust_accuracy.certified == full.robust_accuracy.certified
    assert not any(check_run(each.path) for each in (found.before, found.run))
    said = samples_of(found.before)["linf"]
    assert 0 < said.fell <= said.met
    assert f"{said.fell} fell" in said.in_words()
    broken = {each.id for each in found.judgements() if each.standing is Standing.BROKEN}
    assert {row["id"] for row in found.before.rows().to_pylist() if row["attack"] not in (None, "clean")} <= broken
    again = sp.evaluate(classifier, data, BALL, suite=suite(0.3), **how)
    assert again.summary == found.summary


def test_the_command_says_what_the_sample_says(tmp_path, capsys):
    command = ["evaluate", "--limit", "60", "--eps", "0.05", "--certify", "none", "--no-checks", "--seed", "4"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    assert "a sample of " in capsys.readouterr().out
