"""On an accelerator everything computes what it does on the CPU, mixes no devices, and rarely makes the host wait.

The accelerator is pretended (`saddlepoint.testing.pretended`): no GPU is needed to see what would fail on one.
"""

from dataclasses import fields, replace

import pytest
import torch
from torch import nn

import saddlepoint as sp
from saddlepoint.attacks.registry import ATTACKS
from saddlepoint.certificates.methods import METHODS
from saddlepoint.data.datasets.dataset import of_arrays
from saddlepoint.errors import LawViolation
from saddlepoint.testing import pretended, stays_on_its_device
from saddlepoint.testing.pretended import DEVICE
from saddlepoint.training.catalogue import OBJECTIVES
from saddlepoint.training.certified import program_of
from saddlepoint.training.recipe import Recipe

X = torch.rand(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
BALLS = {"linf": sp.Linf(0.02), "l2": sp.L2(0.1), "l1": sp.L1(0.3)}
QUICK = {("pgd", "linf"), ("apgd-t", "linf"), ("square", "linf"), ("sweep", "linf"), ("crown", "l2"), ("ibp", "linf")}
"""What `make test` looks at; `make test-all` at everything. With runtime types, pretending takes its time."""


def each(pairs):
    return [pytest.param(*pair, marks=[] if pair in QUICK else [pytest.mark.slow]) for pair in pairs]


PAIRS = each((name, norm) for name, attack in ATTACKS.items() for norm in attack.norms)


def network(norm=False):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), *([nn.BatchNorm2d(4)] if norm else []), nn.ReLU(), nn.Flatten()]
    return sp.Classifier(nn.Sequential(*layers, nn.Linear(120, 8), nn.ReLU(), nn.Linear(8, 4)), mean=[0.5] * 3)


Y = network().predict(X).label


def short(attack, steps):
    wanted = {"steps": steps, "queries": steps, "first": 2, "short": 1, "short_steps": 2, "long": 1, "long_steps": 3}
    names = {field.name for field in fields(attack)}
    return replace(attack, **{name: value for name, value in wanted.items() if name in names})


def attacked(attack, norm):
    def action(device):
        found = sp.attack(network().to(device), X, Y, BALLS[norm], attack, stop="never")
        return [found.x_adv, found.margin, found.forwards, found.backwards]

    return stays_on_its_device(action).total()


@pytest.mark.filterwarnings("ignore::saddlepoint.errors.MaskingWarning")
@pytest.mark.parametrize(("name", "norm"), PAIRS)
def test_attacks_stay_on_their_device(name, norm):
    attacked(short(ATTACKS[name], 4), norm)


# In ℓ∞ the host waits once a step, for what ended. Projecting in ℓ2 and ℓ1 solves an equation for each example, and
# asks once whether all are solved: a wait of some 20 µs, where to go on blindly would launch 80 rounds of kernels.
MOST = {
    ("pgd", "linf"): 1, ("pgd", "l2"): 2, ("pgd", "l1"): 3, ("apgd-ce", "linf"): 1, ("apgd-ce", "l2"): 3,
    ("apgd-l1", "l1"): 6, ("square", "linf"): 1, ("square", "l2"): 2, ("square", "l1"): 3,
}  # fmt: skip


@pytest.mark.parametrize(("name", "norm"), each(MOST))
def test_a_step_rarely_makes_the_host_wait(name, norm):
    few, many = (attacked(short(ATTACKS[name], steps), norm) for steps in (6, 12))
    assert many - few <= 6 * MOST[name, norm]


@pytest.mark.parametrize(
    ("method", "norm"), each((name, norm) for name, method in METHODS.items() if not method.solver for norm in BALLS)
)
def test_certificates_stay_on_their_device(method, norm):
    def action(device):
        found = sp.certify(network().to(device), X, Y, BALLS[norm], method=method)
        return [found.lower_bound, found.tolerance, list(found.verdict)]

    stays_on_its_device(action)


@pytest.mark.slow
@pytest.mark.parametrize("early", [500, 0])
def test_branch_and_bound_stays_on_its_device(monkeypatch, early):
    """At a radius where slopes leave margins open, so that domains are split; behind tighter neurons as well."""
    from saddlepoint.certificates.branching import rounds, splitting

    splits, tightenings, halved, tightened = [], [], splitting.halved, rounds.tightened
    monkeypatch.setattr(splitting, "_EARLY", early)
    monkeypatch.setattr(splitting, "halved", lambda *parts: splits.append(1) or halved(*parts))
    monkeypatch.setattr(rounds, "tightened", lambda *parts: tightenings.append(1) or tightened(*parts))

    def action(device):
        torch.manual_seed(1)
        module = nn.Sequential(nn.Flatten(), nn.Linear(90, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3))
        proof = sp.certify(sp.Classifier(module).to(device), X[:1], label, sp.Linf(0.2), method="complete", domains=200)
        return [proof.lower_bound, list(proof.verdict)]

    label = torch.zeros(1, dtype=torch.int64)
    stays_on_its_device(action)
    assert len(splits) > 1
    assert bool(tightenings) == (early == 0)


@pytest.mark.slow
def test_evidence_and_votes_stay_on_their_device():
    from saddlepoint.certificates import check_evidence

    def followed(device):
        classifier, ball = network().to(device), sp.L2(0.05)
        proof = sp.certify(classifier, X, Y, ball, method="alpha-crown", evidence=True)
        return check_evidence(classifier, X, Y, ball, proof.evidence)

    def voted(device):
        smoothed = sp.SmoothedClassifier(classifier=network().to(device), sigma=0.25, samples=100, selection=10)
        found = smoothed.certify(X, ids=["a", "b"])
        return [found.radius, found.label]

    stays_on_its_device(followed)
    stays_on_its_device(voted)


@pytest.mark.parametrize(
    "name", [n if n in ("adversarial", "sabr") else pytest.param(n, marks=pytest.mark.slow) for n in OBJECTIVES]
)
def test_objectives_stay_on_their_device(name):
    objective = OBJECTIVES[name]

    def action(device):
        classifier, y = network(norm=True).to(device), Y
        if name == "robust-linear":
            torch.manual_seed(0)
            classifier, y = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(90, 2))).to(device), Y % 2
        delta = torch.zeros(X.shape, device=device).requires_grad_()
        known = {
            "ball": sp.Linf(0.02),
            "key": torch.arange(2, device=device),
            "x_adv": None,
            "delta": delta,
            "program": program_of(classifier, (3, 6, 5)) if objective.bounds else None,
        }
        classifier.train()
        terms = objective.of(Recipe(objective=name, eps=0.02, tightness=0.1), 0.5, known)(
            classifier, X.to(device), y.to(device)
        )
        terms.loss.mean().backward()
        return [terms.loss.detach(), [parameter.grad for parameter in classifier.parameters()]]

    stays_on_its_device(action)


@pytest.mark.slow
def test_an_evaluation_stays_on_its_device():
    data = of_arrays("made", "made", X.numpy(), Y.numpy())

    def action(device):
        found = sp.evaluate(
            network().to(device), data, [sp.Linf(0.01), sp.L2(0.2)], suite=sp.PGD(steps=4), batch_size=2, checks=False
        )
        rows = sorted(found.rows().to_pylist(), key=lambda row: row["key"])
        return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]

    stays_on_its_device(action)


def test_what_mixes_devices_or_computes_otherwise_is_seen():
    def mixes(device):
        return X.to(device) + X

    def differs(device):
        return X.to(device).sum() + (device != torch.device("cpu"))

    with pytest.raises(LawViolation, match="on one device, and one of shape"):
        stays_on_its_device(mixes)
    with pytest.raises(LawViolation, match="others than on the CPU"):
        stays_on_its_device(differs)


def test_waits_are_counted_and_nothing_else():
    with pretended() as waits:
        x = X.to(DEVICE)
        y = (2 * x).flatten(1).sum(1)
        assert not waits
        assert float(y[0]) == pytest.approx(2 * float(X[0].sum()), rel=1e-5)
        y.tolist(), y.cpu(), x[x > 0.5], bool((y > 0).all())
        with pytest.raises(TypeError, match="another device to numpy"):
            y.numpy()
    assert waits.total() == 5
    assert torch.tensor([1.0]).device.type == "cpu"  # nothing is left behind
    assert (X.to("meta") + 1).is_meta
