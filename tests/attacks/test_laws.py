"""Every attack, every ball, every law, by listing them; and the laws themselves, by breaking them."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import final, get_args

import pytest
import torch

import saddlepoint as sp
from saddlepoint.attacks import registry
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
    sp.FMN(steps=8, targets=2),
]
SHORT = (sp.APGD(steps=40), sp.APGDL1(steps=40), sp.FAB(steps=3, targets=2), sp.Square(queries=20))
SUITES = {
    "STANDARD": SHORT,
    "FAST": (sp.Sweep(short=2, long=0), sp.Square(queries=20), *map(sp.IfDoubted, SHORT)),
    "EOT": (sp.EOT(sp.PGD(steps=50), draws=2), sp.EOT(sp.Square(queries=9), draws=2)),
}
BALLS = [sp.Linf(0.1), sp.L2(0.5), sp.L1(2.0)]


def cases():
    """One case per class of attack is for every run of the tests, in turns of the norm; all others are slow."""
    seen = set()
    for attack in ATTACKS:
        balls = [ball for ball in BALLS if ball.name in attack.norms]
        for number, ball in enumerate(balls):
            plain = isinstance(attack, sp.SGD)  # as dear in l1 as it is slow to converge there
            often = type(attack) not in seen and number == (0 if plain else len(seen) % len(balls))
            marks = [] if often else [pytest.mark.slow]
            yield pytest.param(attack, ball, id=f"{attack!r}-{ball.name}", marks=marks)
        seen.add(type(attack))


@pytest.mark.parametrize("law", ATTACK_LAWS.values(), ids=ATTACK_LAWS)
@pytest.mark.parametrize(("attack", "ball"), list(cases()))
def test_law(law, attack, ball):
    law(attack, ball)


def test_every_registered_attack_stands_under_the_laws_and_in_the_docs():
    held = {type(attack) for attack in ATTACKS}
    page = (Path(__file__).parents[2] / "docs" / "attacks.md").read_text(encoding="utf-8")
    for name, attack in registry.ATTACKS.items():
        assert type(attack) in held, name
        assert f"`sp.{type(attack).__name__}()`" in page


@pytest.mark.parametrize("step", [*registry.ATTACKS.values(), *sp.FAST, *sp.RAND], ids=repr)
def test_an_attack_goes_through_json_and_back(step):
    assert registry.from_dict(json.loads(json.dumps(registry.to_dict(step)))) == step


def test_an_unknown_attack_or_field_is_one_line():
    with pytest.raises(sp.InputError, match="there is no attack 'Magic'; expected one of APGD"):
        registry.from_dict({"name": "Magic"})
    with pytest.raises(sp.InputError, match="PGD has no field 'speed'"):
        registry.from_dict({"name": "PGD", "speed": 3})


def test_an_objective_of_ones_own_is_ascended():
    classifier, x = toys.convolutional(), toys.pixels(6, (3, 6, 5))
    y = classifier.predict(x).label

    def margin(logits, problem):
        return -sp.losses.margin(logits, problem.y)

    for named, own in ((sp.PGD(loss="margin"), sp.PGD(loss=margin)), (sp.APGD(loss="margin"), sp.APGD(loss=margin))):
        results = [sp.attack(classifier, x, y, sp.Linf(0.05), attack, stop="never") for attack in (named, own)]
        assert torch.equal(results[0].x_adv, results[1].x_adv)
    with pytest.raises(sp.InputError, match=r"the objective total returned shape \(\); expected .* one number per"):
        sp.attack(classifier, x, y, sp.Linf(0.05), sp.PGD(loss=total))


def total(logits, problem):
    return logits.sum()


@pytest.mark.parametrize("keep", [sp.Fool(), sp.Last(), sp.Nearest()], ids=lambda goal: type(goal).__name__)
def test_the_caller_chooses_which_point_is_kept(keep):
    classifier, x = toys.convolutional(), toys.pixels(8, (3, 6, 5))
    y = classifier.predict(x).label
    found = {
        type(goal).__name__: sp.attack(classifier, x, y, sp.L2(0.5), sp.PGD(steps=20), stop="never", goal=goal)
        for goal in (keep, sp.Fool())
    }
    chosen, least = found[type(keep).__name__], found["Fool"]
    both = chosen.success & least.success
    assert (chosen.margin >= least.margin - 1e-6)[both].all()
    if isinstance(keep, sp.Nearest):
        assert (chosen.norm[both] <= least.norm[both]).all()
        assert (chosen.norm[both] < least.norm[both]).any()


@pytest.mark.slow
@pytest.mark.parametrize("law", ATTACK_LAWS.values(), ids=ATTACK_LAWS)
@pytest.mark.parametrize("ball", BALLS[::2], ids=lambda ball: ball.name)
@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_law_of_suites(law, suite, ball):
    law(suite, ball)


@pytest.mark.slow
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


@pytest.mark.parametrize("name", sorted({type(each).__name__ for each in registry.ATTACKS.values()}))
def test_a_setting_of_another_type_is_one_line(name):
    """As a specification from elsewhere may have it; None is a value only where it is declared."""
    example = next(each for each in registry.ATTACKS.values() if type(each).__name__ == name)
    plain = registry.to_dict(example)
    for field in fields(example):
        optional = type(None) in get_args(field.type)
        odd = [[None], "x", *([] if optional else [None]), *([True, "5", 1.5] if field.type is int else [])]
        for value in odd:
            with pytest.raises(sp.InputError) as caught:
                registry.from_dict({**plain, field.name: value})
            assert "\n" not in str(caught.value)
