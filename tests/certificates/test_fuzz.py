"""Networks with unusual settings of every layer, by every method: nothing that is certified is false."""

import logging
import warnings

import pytest

import saddlepoint as sp
from saddlepoint.certificates import graphs_of
from saddlepoint.errors import LawViolation
from saddlepoint.testing.certifier_laws import never_false

METHODS = ("interval", "crown-ibp", "crown", "alpha-crown", "lp", "milp", "lipschitz")
TOGETHER = 100


def certifier(seed):
    """One of the methods, with the graphs of the one network that it is asked about."""
    graphs = []

    def bound(classifier, x, y, ball):
        graphs.extend([] if graphs else [graphs_of(classifier, tuple(x.shape[1:]))])
        method = METHODS[seed % len(METHODS)]
        if method in ("lp", "milp") and not ball.separable:
            method = "crown"
        return sp.certify(classifier, x, y, ball, method=method, graphs=graphs[0], timeout=5).lower_bound

    return bound


def outcomes(seeds):
    logging.disable(logging.CRITICAL)  # what torch.export has to say of each
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the networks are unusual, and torch says so
            return [never_false(certifier(seed), seed) for seed in seeds]
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", [0, *(pytest.param(first, marks=pytest.mark.slow) for first in range(25, 300, 25))])
def test_no_unusual_network_is_certified_falsely(first):
    found = outcomes(range(first, first + 25))
    assert found.count("certified") >= 4


@pytest.mark.slow
@pytest.mark.parametrize("first", range(300, 10_000, TOGETHER))
def test_none_of_ten_thousand_is_certified_falsely(first):
    outcomes(range(first, first + TOGETHER))


def test_the_law_sees_a_certifier_that_is_wrong():
    """A bound just below the clean margin, whatever the radius."""

    def wrong(classifier, x, y, ball):
        graphs_of(classifier, tuple(x.shape[1:]))
        top = classifier.predict(x).logits.double().topk(2).values
        return (top[:, 0] - top[:, 1]) * 0.99

    seen = 0
    for seed in range(20):
        try:
            never_false(wrong, seed)
        except LawViolation:
            seen += 1
    assert seen >= 3
