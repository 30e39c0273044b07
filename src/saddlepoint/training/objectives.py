"""Objectives of training, as functions: one loss per example, to be averaged and differentiated in the parameters.

    empirical risk        ℓ(h(x), y)
    adversarial           ℓ(h(x + δ*), y),  δ* = argmax_{δ∈Δ} ℓ(h(x + δ), y)                     (Madry et al. 2018)
    FGSM-RS               ℓ(h(x + δ¹), y),  δ¹ one step from a random start in the ball           (Wong et al. 2020)
    TRADES                ℓ(h(x), y) + β KL(h(x) ‖ h(x + δ*)),  δ* the maximiser of the KL term   (Zhang et al. 2019)
    Free                  adversarial, δ moved by the gradient of the same backward               (Shafahi et al. 2019)
    MART                  BCE(h(x + δ*), y) + β KL(h(x) ‖ h(x + δ*)) (1 − p_y(x))                 (Wang et al. 2020)
    Gaussian noise        ℓ(h(x + σn), y), n standard normal                                      (Cohen et al. 2019)
    robust linear         log(1 + exp(−(margin − ε‖w‖_*))): the inner maximum in closed form      (Kolter & Madry 2)

By Danskin's theorem the gradient of max_δ ℓ in θ is that of ℓ at a maximiser δ*, which is held constant. The inner
maximisation runs in eval mode, so that it neither moves the statistics of batch norms nor draws from dropout, with
frozen parameters, of which no gradient is ever computed. What is differentiated in θ is computed in the mode in which
the caller has put the module.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from saddlepoint import random
from saddlepoint.attacks import PGD, Attack, Last, maximise, pose
from saddlepoint.attacks.protocol import Problem
from saddlepoint.classifier import Classifier
from saddlepoint.errors import InputError
from saddlepoint.geometry import Ball
from saddlepoint.typing import Images, Keys, Labels, Logits, Mask, PerExample

_ONE_STEP = PGD(steps=1, travel=1.25)

Precision = str
"""Of the inner maximisation: "fp32", or "bf16" by autocast."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What an objective says of a batch.

    Attributes:
        loss: per example, (B,), with a graph to the parameters.
        correct: whether each example is right, for each input that the objective evaluated: "clean" at x, "robust" at
            x + δ.
        x_adv: x + δ*, (B, C, H, W), where there was an inner maximisation: it may be handed in again, and is then used.
    """

    loss: PerExample
    correct: dict[str, Mask] = field(default_factory=dict)
    x_adv: Images | None = None


def empirical(classifier: Classifier, x: Images, y: Labels, *, smoothing: float = 0.0) -> Terms:
    """Return the cross-entropy at the clean pixels; `smoothing` mixes the label with the uniform distribution.

    Args:
        classifier: of pixels, in the mode in which it is to be trained.
        x: pixels, (B, C, H, W).
        y: labels, (B,).
        smoothing: the share of the label that is spread over all classes.
    """
    logits = classifier(x)
    return Terms(_cross_entropy(logits, y, smoothing), {"clean": _right(logits, y)})


def adversarial(
    classifier: Classifier,
    x: Images,
    y: Labels,
    *,
    ball: Ball,
    attack: Attack,
    key: Keys | None = None,
    smoothing: float = 0.0,
    precision: Precision = "fp32",
    x_adv: Images | None = None,
) -> Terms:
    """Return the cross-entropy at the points that an attack finds, misclassified examples included.

    `PGD(steps=7)` makes it the training of Madry et al. 2018.

    Args:
        classifier: of pixels, in the mode in which it is to be trained.
        x: pixels, (B, C, H, W).
        y: labels, (B,).
        ball: Δ, before the box of pixels.
        attack: the inner maximisation.
        key: the random stream of each example, (B,); their places in the batch when not given.
        smoothing: the share of the label that is spread over all classes.
        precision: of the inner maximisation: "fp32", or "bf16" by autocast.
        x_adv: points that were found already, in place of an inner maximisation.
    """
    point = searched(classifier, x, y, ball, attack, key, precision) if x_adv is None else x_adv
    logits = classifier(point)
    return Terms(_cross_entropy(logits, y, smoothing), {"robust": _right(logits, y)}, point)


def fgsm_rs(
    classifier: Classifier,
    x: Images,
    y: Labels,
    *,
    ball: Ball,
    attack: Attack = _ONE_STEP,
    key: Keys | None = None,
    smoothing: float = 0.0,
    precision: Precision = "fp32",
    x_adv: Images | None = None,
) -> Terms:
    """Return the cross-entropy at Π_Δ(δ⁰ + α sign ∇ℓ), α = 1.25 ε, δ⁰ uniform in the ball (Wong, Rice & Kolter 2020).

    δ⁰ is *not* projected onto the box of pixels, as in the authors' code. With a projected start, half of the black
    pixels of MNIST begin at exactly 0, and training overfits to the single step.

    Args:
        classifier: of pixels, in the mode in which it is to be trained.
        x: pixels, (B, C, H, W).
        y: labels, (B,).
        ball: Δ, before the box of pixels.
        attack: the inner maximisation.
        key: the random stream of each example, (B,); their places in the batch when not given.
        smoothing: the share of the label that is spread over all classes.
        precision: of the inner maximisation: "fp32", or "bf16" by autocast.
        x_adv: points that were found already, in place of an inner maximisation.
    """
    start = ball.sample(_keys(key, x), x)
    point = searched(classifier, x, y, ball, attack, key, precision, start) if x_adv is None else x_adv
    return adversarial(classifier, x, y, ball=ball, attack=attack, smoothing=smoothing, x_adv=point)


def trades(
    classifier: Classifier,
    x: Images,
    y: Labels,
    *,
    ball: Ball,
    attack: Attack,
    beta: float = 6.0,
    key: Keys | None = None,
    smoothing: float = 0.0,
    precision: Precision = "fp32",
    x_adv: Images | None = None,
) -> Terms:
    """Return ℓ(h(x), y) + β KL(h(x) ‖ h(x + δ*)); the attack ascends the KL term, from noise of deviation 0.001.

    Args:
        classifier: of pixels, in the mode in which it is to be trained.
        x: pixels, (B, C, H, W).
        y: labels, (B,).
        ball: Δ, before the box of pixels.
        attack: the inner maximisation.
        beta: weight of the KL term.
        key: the random stream of each example, (B,); their places in the batch when not given.
        smoothing: the share of the label that is spread over all classes.
        precision: of the inner maximisation: "fp32", or "bf16" by autocast.
        x_adv: points that were found already, in place of an inner maximisation.
    """
    if x_adv is None:
        with searching(classifier), torch.no_grad():
            there = classifier(x).log_softmax(1)

        def divergence(logits: Logits, problem: Problem) -> PerExample:
            return _divergence(there, logits.log_softmax(1))

        noise = 0.001 * random.normal(_keys(key, x), 1, tuple(x.shape[1:]))
        start = ball.at(x).project(noise.to(x.device))
        x_adv = searched(classifier, x, y, ball, _with_loss(attack, divergence), key, precision, start=start)
    clean, moved = classifier(x), classifier(x_adv)
    loss = _cross_entropy(clean, y, smoothing) + beta * _divergence(clean.log_softmax(1), moved.log_softmax(1))
    return Terms(loss, {"clean": _right(clean, y), "robust": _right(moved, y)}, x_adv)


def mart(
    classifier: Classifier,
    x: Images,
    y: Labels,
    *,
    ball: Ball,
    attack: Attack,
    beta: float = 5.0,
    key: Keys | None = None,
    precision: Precision = "fp32",
    x_adv: Images | None = None,
) -> Terms:
    """Return BCE(h(x + δ*), y) + β KL(h(x) ‖ h(x + δ*)) (1 − p_y(x)), with BCE = −log p_y − log(1 − max_{j≠y} p_j).

    Args:
        classifier: of pixels, in the mode in which it is to be trained.
        x: pixels, (B, C, H, W).
        y: labels, (B,).
        ball: Δ, before the box of pixels.
        attack: the inner maximisation.
        beta: weight of the KL term.
        key: the random stream of each example, (B,); their places in the batch when not given.
        precision: of the inner maximisation: "fp32", or "bf16" by autocast.
        x_adv: points that were found already, in place of an inner maximisation.
    """
    point = searched(classifier, x, y, ball, attack, key, precision) if x_adv is None else x_adv
    clean, moved = classifier(x), classifier(point)
    others = moved.softmax(1).scatter(1, y[:, None], 0).amax(1)
    # 1.0001, as in the authors' code: the logarithm stays finite where another class has all probability.
    boosted = _cross_entropy(moved, y, 0.0) - torch.log(1.0001 - others)
    doubt = 1 - clean.softmax(1).gather(1, y[:, None])[:, 0]
    loss = boosted + beta * _divergence(clean.log_softmax(1), moved.log_softmax(1)) * doubt
    return Terms(loss, {"clean": _right(clean, y), "robust": _right(moved, y)}, point)


def free(classifier: Classifier, x: Images, y: Labels, *, delta: Images, smoothing: float = 0.0) -> Terms:
    """Return the cross-entropy at x + δ, differentiable in δ, too: one backward serves both (Shafahi et al. 2019).

    The caller steps θ, moves δ by its gradient, and uses the minibatch again.

    Args:
        classifier: of pixels, in the mode in which it is to be trained.
        x: pixels, (B, C, H, W).
        y: labels, (B,).
        delta: δ, (B, C, H, W), which moves by its gradient.
        smoothing: the share of the label that is spread over all classes.
    """
    logits = classifier(x + delta)
    return Terms(_cross_entropy(logits, y, smoothing), {"robust": _right(logits, y)})


def noisy(
    classifier: Classifier, x: Images, y: Labels, *, sigma: float, key: Keys | None = None, smoothing: float = 0.0
) -> Terms:
    """Return the cross-entropy under Gaussian noise of deviation σ, which is not clipped: for randomized smoothing.

    Args:
        classifier: of pixels, in the mode in which it is to be trained.
        x: pixels, (B, C, H, W).
        y: labels, (B,).
        sigma: deviation of the noise.
        key: the random stream of each example, (B,); their places in the batch when not given.
        smoothing: the share of the label that is spread over all classes.
    """
    noise = random.normal(_keys(key, x), 0, tuple(x.shape[1:])).to(x.device)
    logits = classifier(x + sigma * noise)
    return Terms(_cross_entropy(logits, y, smoothing), {"clean": _right(logits, y)})


def robust_linear(classifier: Classifier, x: Images, y: Labels, *, ball: Ball) -> Terms:
    """Return the exact worst-case loss of a linear classifier of two classes, without a pixel box.

    max_{‖δ‖≤ε} ℓ = log(1 + exp(−(z_y − z_other − ε‖w_y − w_other‖_*))).

    Args:
        classifier: of pixels, in the mode in which it is to be trained.
        x: pixels, (B, C, H, W).
        y: labels, (B,).
        ball: Δ, before the box of pixels.

    Raises:
        InputError: the module is not one linear layer of two outputs.
    """
    layers = [part for part in classifier.module.modules() if not isinstance(part, nn.Sequential | nn.Flatten)]
    if len(layers) != 1 or not isinstance(layers[0], nn.Linear) or layers[0].out_features != 2:
        raise InputError(
            f"{type(classifier.module).__name__} is not one linear layer with two outputs; expected Flatten and Linear "
            "for the exact inner maximum, or another objective"
        )
    normal = (layers[0].weight[1] - layers[0].weight[0]).reshape(x.shape[1:]) / classifier.std
    reach = torch.as_tensor(ball.eps).to(x) * ball.dual_norm(normal[None])[0].to(x.dtype)
    logits = classifier(x)
    margin = (logits[:, 1] - logits[:, 0]) * (2 * y - 1)
    worst = margin - reach
    return Terms(functional.softplus(-worst), {"clean": margin > 0, "robust": worst > 0})


@contextmanager
def searching(classifier: Classifier) -> Iterator[None]:
    """Put a classifier into eval mode, with parameters that require no gradient, and restore both."""
    modes = [(part, part.training) for part in classifier.modules()]
    wanted = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    classifier.eval()
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
        for part, mode in modes:
            part.training = mode


def searched(
    classifier: Classifier,
    x: Images,
    y: Labels,
    ball: Ball,
    attack: Attack,
    key: Keys | None,
    precision: Precision = "fp32",
    start: Images | None = None,
) -> Images:
    """Return x + δ*, the last iterate of the attack, in memory of its own and without a graph.

    Args:
        classifier: the network; its mode and its parameters' are restored.
        x: images in [0, 1], (B, C, H, W).
        y: labels, (B,).
        ball: the set of perturbations.
        attack: the inner maximisation.
        key: one random key for each row, (B,); None for keys 0, 1, ….
        precision: "fp32" or "bf16", in which the network is evaluated.
        start: δ to begin at, (B, C, H, W); None for the attack's own.
    """
    low = precision == "bf16"

    def model(pixels: Images) -> Logits:
        with torch.autocast(pixels.device.type, dtype=torch.bfloat16, enabled=low):
            logits: Tensor = classifier(pixels)
            return logits.float()

    with searching(classifier):
        delta = maximise(attack, pose(x, y, ball, key=_keys(key, x), start=start), model, goal=Last())
    return x + delta


def _with_loss(attack: Attack, loss: object) -> Attack:
    if not hasattr(attack, "loss"):
        raise InputError(f"{attack.name} has no objective to choose; expected an attack with one, such as sp.PGD()")
    return replace(attack, loss=loss)  # type: ignore[type-var]


def _keys(key: Keys | None, x: Images) -> Keys:
    return torch.arange(len(x), device=x.device) if key is None else key


def _cross_entropy(logits: Logits, y: Labels, smoothing: float) -> PerExample:
    return functional.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)


def _divergence(p: Tensor, q: Tensor) -> PerExample:
    """Return KL(p ‖ q) of each row, from log-probabilities."""
    terms: Tensor = p.exp() * (p - q)
    return terms.sum(1)


def _right(logits: Logits, y: Labels) -> Mask:
    return logits.detach().argmax(1) == y
