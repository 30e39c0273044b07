"""Every attack, every ball, every law, by listing them; and the laws themselves, by breaking them."""

from dataclasses import dataclass, replace
from typing import final

import pytest
import torch

import saddlepoint as sp
from saddlepoint.attacks.ascent import Ascent
from saddlepoint.errors import AttackError, LawViolation
from saddlepoint.testing import ATTACK_LAWS, toys

ATTACKS = [
    sp.FGSM(),
    sp.FGSM(loss="margin"),
    sp.PGD(steps=60),
    sp.PGD(steps=25, travel=5, restarts=3, loss="margin"),
    sp.PGD(steps=60, random_start=False, loss="difference"),
    sp.SGD(steps=60, lr=20.0),
    sp.MIFGSM(steps=40, travel=3),
    sp.MIFGSM(steps=10, decay=0.0, loss="margin"),
    sp.APGD(steps=40),
    sp.APGD(steps=30, loss="dlr", targets=9),
    sp.APGDL1(steps=40),
    sp.APGDL1(steps=40, loss="dlr", targets=2, restarts=2),
    sp.Sweep(short=3, long=1, long_steps=30),
    sp.Square(queries=40, rescale=True),
    sp.FAB(steps=5, targets=2, restarts=2),
    sp.FAB(steps=3, targets=0),
]
SHORT = (sp.APGD(steps=40), sp.APGDL1(steps=40), sp.FAB(steps=3, targets=2), sp.Square(queries=20))
SUITES = {
    "STANDARD": SHORT,
    "FAST": (sp.Sweep(short=2, long=0), sp.Square(queries=20), *map(sp.IfDoubted, SHORT)),
    "EOT": (sp.EOT(sp.PGD(steps=50), draws=2), sp.EOT(sp.Square(queries=9), draws=2)),
}
BALLS = [sp.Linf(0.1), sp.L2(0.5), sp.L1(2.0)]


@pytest.mark.parametrize("law", ATTACK_LAWS.values(), ids=ATTACK_LAWS)
@pytest.mark.parametrize(
    ("attack", "ball"),
    [pytest.param(a, b, id=f"{a!r}-{b.name}") for a in ATTACKS for b in BALLS if b.name in a.norms],
)
def test_law(law, attack, ball):
    law(attack, ball)


@pytest.mark.parametrize("law", ATTACK_LAWS.values(), ids=ATTACK_LAWS)
@pytest.mark.parametrize("ball", BALLS[::2], ids=lambda ball: ball.name)
@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_law_of_suites(law, suite, ball):
    law(suite, ball)


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: ball.name)
def test_rows_are_the_same_in_any_company_at_two_threads(ball):
    torch.set_num_threads(2)
    try:
        ATTACK_LAWS["same_rows_always"](sp.PGD(steps=10, restarts=2), ball)
    finally:
        torch.set_num_threads(1)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Broken(Ascent):
    """An ascent with a planted defect."""

    defect: str
    steps: int = 5
    loss: str = "cross-entropy"

    def begin(self, problem):
        return torch.randn_like(problem.x) * 0.01 if self.defect == "global" else torch.zeros_like(problem.x)

    def move(self, problem, delta, gradient):
        region = problem.region
        if self.defect == "downhill":
            return region.project(delta - 0.05 * gradient.sign())
        if self.defect == "neighbours":
            return region.project(delta + 0.05 * (gradient + gradient.mean(0)).sign())
        if self.defect == "outside":
            return delta + 0.2 * gradient.sign()
        return region.project(delta + 0.05 * gradient.sign())


@pytest.mark.parametrize(
    ("defect", "law"),
    [
        ("downhill", "solves_linear_classifiers"),
        ("neighbours", "same_rows_always"),
        ("global", "same_rows_always"),
    ],
)
def test_a_planted_defect_breaks_its_law(defect, law):
    with pytest.raises(LawViolation):
        ATTACK_LAWS[law](Broken(defect=defect), sp.Linf(0.1))


def test_the_loop_refuses_a_point_outside():
    classifier, x = toys.convolutional(), toys.pixels(1, (3, 6, 5))
    y = classifier.predict(x).label
    with pytest.raises(AttackError, match="Broken left Δ on example 'b': its point has norm"):
        sp.attack(classifier, x, y, sp.Linf(0.01), Broken(defect="outside"), ids=["b"])


def test_radii_of_one_batch_are_those_of_separate_calls():
    classifier, x = toys.convolutional(), toys.pixels(4, (3, 6, 5))
    y = classifier.predict(x).label
    radii = torch.tensor([0.02, 0.0, 0.3, 0.1])
    for ball in BALLS:
        solver = sp.PGD(steps=8)
        together = sp.attack(classifier, x, y, replace(ball, eps=radii), solver, batch_size=4)
        for row, eps in enumerate(radii.tolist()):
            alone = sp.attack(classifier, x, y, replace(ball, eps=eps), solver, batch_size=4)
            assert torch.equal(together.x_adv[row], alone.x_adv[row])
