"""Certified training: the worst-case loss that is minimised is never below the loss at a point of the ball."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import saddlepoint as sp
from saddlepoint.certificates.sets import around
from saddlepoint.testing import toys
from saddlepoint.training import adversarial, certified, robust_linear
from saddlepoint.training.certified import crown_ibp, ibp, init_for_intervals, mtl_ibp, program_of, sabr
from saddlepoint.training.intervals import ends, intervals, worst_logits

BALL = sp.Linf(0.03)


def _case(count=6):
    classifier, x = toys.convolutional().eval(), toys.pixels(count, (3, 6, 5))
    return classifier, x, torch.arange(count) % 4, program_of(classifier, (3, 6, 5))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_the_proven_loss_bounds_the_loss_at_every_point_that_is_found(beta):
    classifier, x, y, program = _case()
    proven = crown_ibp(classifier, x, y, ball=BALL, program=program, kappa=0.0, beta=beta)
    attacked = adversarial(classifier, x, y, ball=BALL, attack=sp.PGD(steps=30))
    noise = sp.Linf(0.03).at(x).maximiser(torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    for points in (x, attacked.x_adv, x + noise):
        assert (proven.loss >= functional.cross_entropy(classifier(points), y, reduction="none") - 1e-5).all()
    assert (~proven.correct["certified"] | attacked.correct["robust"]).all()


@given(st.integers(0, 10**6), st.floats(0, 0.2))
@settings(max_examples=10)
def test_of_a_linear_model_the_proven_loss_is_exact(seed, eps):
    torch.manual_seed(seed)
    classifier = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), mean=0.3, std=0.5)
    x, y = 0.2 + 0.6 * torch.rand(5, 1, 2, 2), torch.randint(2, (5,))  # the box cuts nothing
    exact = robust_linear(classifier, x, y, ball=sp.Linf(eps))
    terms = ibp(classifier, x, y, ball=sp.Linf(eps), program=program_of(classifier, (1, 2, 2)), kappa=0.0)
    assert torch.allclose(terms.loss, exact.loss, atol=1e-5)


def test_folding_the_last_layer_is_never_looser():
    _, x, y, program = _case()
    graph = program.graph()
    found = intervals(graph, around(x, BALL, (0.0, 1.0)))
    low, high = (side.flatten(1) for side in ends(found)[-1])
    unfolded = (high - low.gather(1, y[:, None])).scatter(1, y[:, None], 0.0)
    assert (worst_logits(graph, found, y) <= unfolded + 1e-5).all()


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_sabr_searches_a_cube_inside_of_the_ball(share):
    classifier, x, y, program = _case()
    attack = sp.PGD(steps=3)
    small = sabr(classifier, x, y, ball=BALL, attack=attack, program=program, share=share)
    whole = ibp(classifier, x, y, ball=BALL, program=program, kappa=0.0)
    assert (small.loss <= whole.loss + 1e-5).all()
    if share == 1:
        assert torch.allclose(small.loss, whole.loss, atol=1e-5)


def test_mtl_ibp_mixes_both_losses():
    classifier, x, y, program = _case()
    inner = {"ball": BALL, "attack": sp.PGD(steps=3)}
    proven = ibp(classifier, x, y, ball=BALL, program=program, kappa=0.0)
    attacked = adversarial(classifier, x, y, **inner)
    mixed = mtl_ibp(classifier, x, y, **inner, program=program, share=0.25)
    assert torch.allclose(mixed.loss, 0.25 * proven.loss + 0.75 * attacked.loss, atol=1e-5)


def test_the_gradient_reaches_the_weights_of_the_module():
    classifier, x, y, program = _case()
    weights = [parameter for parameter in classifier.parameters() if parameter.ndim > 1]

    def loss():
        return ibp(classifier, x, y, ball=BALL, program=program, tightness=0.5).loss.mean()

    gradients = torch.autograd.grad(loss(), weights)
    norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
    before, step = loss().item(), 1e-3
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients, strict=True):
            weight += step * gradient / norm
    assert (loss().item() - before) / step == pytest.approx(norm.item(), rel=0.05)


@pytest.mark.parametrize("objective", [ibp, sabr])
def test_at_radius_0_bounds_normalise_by_the_batch_as_the_module_does(objective):
    torch.manual_seed(0)
    norms = (nn.BatchNorm2d(4), nn.BatchNorm1d(8))
    module = nn.Sequential(nn.Conv2d(1, 4, 3), norms[0], nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), norms[1], nn.ReLU())
    classifier = sp.Classifier(nn.Sequential(module, nn.Linear(8, 3)), mean=0.4, std=0.3).train()
    x, y, program = torch.rand(16, 1, 6, 6), torch.arange(16) % 3, program_of(classifier, (1, 6, 6))
    inner = {"kappa": 0.0} if objective is ibp else {"attack": sp.PGD(steps=1)}
    terms = objective(classifier, x, y, ball=sp.Linf(0.0), program=program, **inner)
    loss = functional.cross_entropy(classifier(x), y, reduction="none")
    assert torch.allclose(terms.loss, loss, atol=1e-4)
    assert (terms.correct["clean"] == terms.correct["certified"]).all()
    weights = [norms[0].weight, module[0].weight]
    ours, due = (torch.autograd.grad(each.mean(), weights) for each in (terms.loss, loss))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, due, strict=True))
    assert all(norm.num_batches_tracked == 2 for norm in norms)  # one forward each


def test_the_initialisation_keeps_the_radii_of_intervals():
    torch.manual_seed(0)
    layers = [layer for _ in range(6) for layer in (nn.Linear(256, 256), nn.ReLU())]
    module = nn.Sequential(nn.Flatten(), *layers, nn.Linear(256, 4))
    init_for_intervals(module)
    classifier = sp.Classifier(module)
    graph = program_of(classifier, (1, 16, 16)).graph()
    found = intervals(graph, around(torch.full((1, 1, 16, 16), 0.5), BALL, (0.0, 1.0)))
    radii = [radius.mean().item() for _, radius in found]
    assert 0.3 < radii[-1] / radii[0] < 3


def test_progress_is_measured_by_what_is_proven():
    classifier, x, y, program = _case()
    y = classifier.predict(x).label
    some = certified.certified(classifier, program, x, y, sp.Linf(0.001))
    assert some.any()
    assert not certified.certified(classifier, program, x, (y + 1) % 4, sp.Linf(0.001)).any()
    verdicts = sp.certify(classifier, x, y, sp.Linf(0.001), method="interval").verdict
    assert [bool(each) for each in some] == [each == "certified" for each in verdicts]


@pytest.mark.parametrize("recipe", ["ibp", "crown-ibp", "sabr", "mtl-ibp"])
def test_a_certified_recipe_trains_and_says_what_is_proven(recipe, tmp_path):
    trained = sp.train(None, "digits", sp.training.load_recipe(recipe, "digits", {"epochs": 1}), out=tmp_path)
    found = trained.accuracies
    assert found["validation_certified"] <= found["validation_robust"] <= found["validation_clean"]
    assert "validation_certified" in trained.metrics[0]


def test_other_norms_are_refused():
    with pytest.raises(sp.InputError, match="trains cubes; expected the norm linf"):
        sp.training.load_recipe("ibp", "digits", {"norm": "l2"})
