"""Randomized smoothing against the closed form of linear classifiers, and its own statistics."""

import math
from statistics import NormalDist

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import saddlepoint as sp
from saddlepoint.certificates.smoothing import ABSTAIN, SmoothedClassifier, samples_needed

SIGMA = 0.25


def _linear():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    return sp.Classifier(module), torch.rand(6, 3, 2, 2)


def _exact(classifier, x):
    """The distance of each row to the boundary: for a linear classifier, g's radius."""
    weight = classifier.module[1].weight.double()
    logits = classifier(x).double()
    return ((logits[:, 1] - logits[:, 0]).abs() / (weight[1] - weight[0]).norm()).detach()


def test_of_a_linear_classifier_the_radius_is_below_the_distance_and_near_it():
    classifier, x = _linear()
    found = SmoothedClassifier(classifier=classifier, sigma=SIGMA, samples=4000).certify(x)
    exact = _exact(classifier, x)
    sure = found.label != ABSTAIN
    assert sure.any()
    assert torch.equal(found.label[sure], classifier.predict(x).label[sure])
    assert (found.radius <= exact + 1e-9)[sure].all()  # each with probability 0.999
    probability = torch.tensor([NormalDist().cdf(each / SIGMA) for each in exact.tolist()])
    slack = 5 * (probability * (1 - probability) / 4000).sqrt() + 8 / 4000
    assert (found.probability >= probability - slack)[sure].all()


def test_a_row_has_the_same_votes_in_any_company():
    classifier, x = _linear()
    smoothed = SmoothedClassifier(classifier=classifier, sigma=SIGMA, samples=300, batch_size=64)
    whole = smoothed.certify(x, ids=list("abcdef"))
    part = smoothed.certify(x[[4, 1]], ids=["e", "b"])
    assert torch.equal(part.probability, whole.probability[[4, 1]])


def test_a_prediction_on_the_boundary_abstains():
    classifier = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)))
    with torch.no_grad():
        classifier.module[1].weight[1] = -classifier.module[1].weight[0]
        classifier.module[1].bias.copy_(-classifier.module[1].weight.sum(1) / 2)
    smoothed = SmoothedClassifier(classifier=classifier, sigma=SIGMA, samples=500)
    x = torch.full((1, 3, 2, 2), 0.5)
    assert smoothed.predict(x).item() == ABSTAIN
    assert smoothed.certify(x).radius.item() == 0
    away = (0.5 + 0.5 * classifier.module[1].weight[0].sign()).reshape(1, 3, 2, 2).detach()
    assert smoothed.predict(away).item() == 0


@given(st.floats(0.01, 1.0), st.floats(0.1, 1.0), st.floats(1e-4, 0.1))
def test_the_least_number_of_samples_is_the_least(radius, sigma, alpha):
    if radius > 5 * sigma:
        return
    count = samples_needed(radius, sigma, alpha)
    quantile = NormalDist().inv_cdf
    assert sigma * quantile(alpha ** (1 / count)) >= radius - 1e-6
    if count > 2:
        before = alpha ** (1 / (count - 1))
        assert before <= 0.5 or sigma * quantile(before) <= radius + 1e-6


def test_verdicts_need_the_label_and_the_radius():
    classifier, x = _linear()
    smoothed = SmoothedClassifier(classifier=classifier, sigma=SIGMA, samples=1000)
    found, y = smoothed.certify(x), classifier.predict(x).label
    assert set(found.verdict(y, math.inf)) == {sp.Verdict.UNKNOWN}
    assert [each == "certified" for each in found.verdict(y, 0.0)] == (found.radius > 0).tolist()
    assert set(found.verdict(1 - y, 0.0)) == {sp.Verdict.UNKNOWN}
    assert float(found.radius.max()) <= smoothed.largest_radius


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"sigma": 0.0}, "sigma is 0.0; expected a positive number"),
        ({"alpha": 1.0}, "alpha is 1.0; expected a probability"),
        ({"samples": 9}, "9 samples certify nothing at alpha 0.001, whatever the votes; expected at least 10"),
        ({"batch_size": 0}, "must be at least 1"),
    ],
)
def test_wrong_settings_are_one_line(changed, line):
    with pytest.raises(sp.InputError, match=line):
        SmoothedClassifier(**{"classifier": _linear()[0], "sigma": SIGMA, **changed})


def test_a_radius_that_no_number_of_samples_reaches_is_one_line():
    with pytest.raises(sp.InputError, match="needs over 10¹⁵ samples at sigma 0.1"):
        samples_needed(1.0, 0.1)
