"""Every method stands under the laws of certifiers; and a law sees a certifier that breaks it."""

from itertools import product

import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.certificates.methods import METHODS
from saddlepoint.errors import InputError, LawViolation
from saddlepoint.testing import CERTIFIER_LAWS, never_looser
from saddlepoint.testing.certifier_laws import holds_at_samples

SOLVED = [name for name, method in METHODS.items() if method.solver]


def by(method):
    """A certifier of ours; what a method does not take, such as other balls, it leaves open."""

    def certifier(classifier, x, y, ball):
        try:
            limit = 20 if method in SOLVED else None
            return sp.certify(classifier, x, y, ball, method=method, timeout=limit, domains=100).lower_bound
        except InputError:
            return torch.full((len(x),), -torch.inf, dtype=torch.float64)

    return certifier


def kept():
    """Pairs of method and law; those that take long are for `make test-all`."""
    for method, law in product(METHODS, CERTIFIER_LAWS):
        long = method in SOLVED or (method != "crown" and law in ("holds_at_samples", "below_brute_force"))
        long |= method == "complete" and law != "certifies_no_mistake"
        yield pytest.param(method, law, marks=[pytest.mark.slow] if long else [])


@pytest.mark.parametrize(("method", "law"), list(kept()))
def test_methods_keep_the_laws(method, law):
    if (law, method) == ("is_the_same_in_any_company", "milp"):
        pytest.skip("a clock ends it on networks of this size")
    CERTIFIER_LAWS[law](by(method))


def test_methods_come_from_loose_to_tight():
    never_looser(by("interval"), by("crown-ibp"), by("crown"), by("alpha-crown"), by("complete"))


@pytest.mark.slow
def test_programs_come_from_loose_to_tight():
    never_looser(by("crown"), by("lp"), by("milp"), slack=2e-3)


WRONG = {
    "holds_at_samples": lambda classifier, x, y, ball: torch.full((len(x),), 1e3),
    "below_closed_forms": lambda *case: by("crown")(*case) + 1e-3,
    "below_brute_force": lambda *case: by("milp")(*case) + 1e-3,
    "sees_what_is_planted": lambda classifier, x, y, ball: classifier.predict(x).logits[:, 0] + ball.eps,
    "certifies_no_mistake": lambda *case: by("crown")(*case).abs(),
    "is_the_same_in_any_company": lambda *case: by("interval")(*case) + len(case[1]) * 1e-7,
    "refuses_what_is_no_number": lambda classifier, x, y, ball: torch.ones(len(x)),
}


def test_each_law_has_a_certifier_that_breaks_it():
    assert set(WRONG) == set(CERTIFIER_LAWS)


@pytest.mark.parametrize("law", WRONG)
def test_a_law_sees_a_certifier_that_breaks_it(law):
    with pytest.raises(LawViolation):
        CERTIFIER_LAWS[law](WRONG[law])


def test_the_order_sees_a_method_that_is_looser():
    with pytest.raises(LawViolation, match="at eps"):
        never_looser(by("alpha-crown"), by("interval"))


@pytest.mark.parametrize("module", [nn.Sigmoid(), nn.GELU()])
def test_a_certifier_that_reads_another_network_is_seen(module):
    """As one that leaves the normalisation, or an activation, out."""

    def other(classifier, x, y, ball):
        layers = [module if isinstance(part, nn.ReLU) else part for part in classifier.module]
        return by("interval")(sp.Classifier(nn.Sequential(*layers)), x, y, sp.Linf(0.0))

    with pytest.raises(LawViolation):
        holds_at_samples(other)


@pytest.mark.parametrize("answer", [lambda x: [1.0] * len(x), lambda x: None, lambda x: torch.zeros(len(x), 2)])
def test_what_is_no_bound_is_told_in_one_line(answer):
    with pytest.raises(LawViolation, match="the certifier returned a .*; expected a tensor of 6 lower bounds"):
        CERTIFIER_LAWS["certifies_no_mistake"](lambda classifier, x, y, ball: answer(x))
