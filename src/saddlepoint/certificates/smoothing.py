"""Randomized smoothing (Cohen, Rosenfeld & Kolter 2019): a classifier that votes under Gaussian noise, and its radius.

    g(x) = argmax_c P(h(x + σn) = c),  n standard normal
    g is constant on ‖δ‖₂ < R = σ Φ⁻¹(p_A) if P(h(x + σn) = c_A) ≥ p_A > 1/2                                (theorem 1)

p_A is a lower confidence bound from samples, so that each certificate may be wrong with probability α.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, final

import torch

from saddlepoint import random
from saddlepoint.classifier import Classifier
from saddlepoint.classifier.validation import check_images, check_logits
from saddlepoint.errors import InputError
from saddlepoint.results.records.bracket import clopper_pearson
from saddlepoint.results.records.verdicts import Verdict
from saddlepoint.typing import Images, Labels, PerExample

ABSTAIN: Final = -1
"""In the place of a class: the votes do not single one out with the confidence that was asked for."""


@final
@dataclass(frozen=True, eq=False)
class Radii:
    """What smoothing certifies of B examples.

    Attributes:
        label: the class that g predicts on the whole ball, or ABSTAIN, (B,).
        radius: R, (B,), float64; 0 where g abstains. Each holds with probability 1 − α, not certainty.
        probability: p_A, the lower confidence bound, (B,).
        alpha: α.
        arithmetic: of what the theorem is about: real numbers. Noise and network are computed in float32, which the
            theorem does not cover (Jin et al. 2022, "Getting a-Round Guarantees").
    """

    label: Labels
    radius: PerExample
    probability: PerExample
    alpha: float
    arithmetic: str = "real; noise sampled in float32"

    def verdict(self, y: Labels, eps: float) -> tuple[Verdict, ...]:
        """Return CERTIFIED where g predicts y on the whole ℓ2 ball of radius ε, with confidence 1 − α; else UNKNOWN."""
        proven = (self.label == y.cpu()) & (self.radius > eps)
        return tuple(Verdict.CERTIFIED if radius else Verdict.UNKNOWN for radius in proven.tolist())


@final
@dataclass(frozen=True, kw_only=True)
class SmoothedClassifier:
    """g(x) = argmax_c P(h(x + σn) = c). Train h under the same noise: the recipe `smoothing`.

    Attributes:
        classifier: h.
        sigma: σ, in pixel units of [0, 1]. Noisy pixels are not clipped.
        samples: n, the votes of each example.
        selection: n₀, the votes, of their own, that choose the class to certify.
        alpha: α, the probability that a certificate, or a prediction, is wrong.
        batch_size: rows of every call of the model.
        seed: of the noise; a row's noise depends on (seed, id) alone.
    """

    classifier: Classifier
    sigma: float
    samples: int = 10_000
    selection: int = 100
    alpha: float = 0.001
    batch_size: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.sigma > 0 and math.isfinite(self.sigma)):
            raise InputError(f"sigma is {self.sigma!r}; expected a positive number, such as 0.25")
        if not 0 < self.alpha < 1:
            raise InputError(f"alpha is {self.alpha!r}; expected a probability between 0 and 1, such as 0.001")
        if min(self.samples, self.selection, self.batch_size) < 1:
            raise InputError("samples, selection and batch_size must be at least 1")
        if self.largest_radius == 0:
            least = samples_needed(0.0, self.sigma, self.alpha)
            raise InputError(
                f"{self.samples} samples certify nothing at alpha {self.alpha:g}, whatever the votes; expected at "
                f"least {least}"
            )

    @property
    def largest_radius(self) -> float:
        """R when all votes agree: σ Φ⁻¹(α^{1/n}). No certificate can be larger."""
        return _radius(self.alpha ** (1 / self.samples), self.sigma)

    def predict(self, x: Images, ids: Sequence[int | str] | None = None) -> Labels:
        """Return g(x), (B,), wrong with probability α at most each, or ABSTAIN (Cohen et al. 2019, PREDICT).

        The two classes with most votes are compared by a two-sided binomial test (Hung & Fithian 2019).
        """
        from scipy.stats import binomtest

        labels = []
        for _, votes in self._voted(x, ids, "predict", self.samples):
            (first, most), (_, second) = (*votes.most_common(2), (ABSTAIN, 0))[:2]
            sure = binomtest(most, most + second, 0.5).pvalue <= self.alpha
            labels.append(first if sure else ABSTAIN)
        return torch.tensor(labels)

    def certify(self, x: Images, ids: Sequence[int | str] | None = None) -> Radii:
        """Return the class and the radius of each example (Cohen et al. 2019, CERTIFY)."""
        chosen = [votes.most_common(1)[0][0] for _, votes in self._voted(x, ids, "select", self.selection)]
        bounds = [
            clopper_pearson(votes[chosen[row]], self.samples, 2 * self.alpha)[0]  # one side of a two-sided interval
            for row, votes in self._voted(x, ids, "certify", self.samples)
        ]
        radius = torch.tensor([_radius(bound, self.sigma) for bound in bounds], dtype=torch.float64)
        label = torch.where(radius > 0, torch.tensor(chosen), ABSTAIN)
        return Radii(label, radius, torch.tensor(bounds, dtype=torch.float64), self.alpha)

    @torch.no_grad()
    def _voted(
        self, x: Images, ids: Sequence[int | str] | None, purpose: str, count: int
    ) -> Iterator[tuple[int, "Counter[int]"]]:
        """Yield each row with the votes of `count` noisy copies; every call of the model has one shape."""
        x = check_images(x, channels=self.classifier.channels)
        names = range(len(x)) if ids is None else ids
        if len(names) != len(x):
            raise InputError(f"ids has {len(names)} entries for {len(x)} examples; expected one for each")
        with self.classifier.frozen() as model:
            for row, (image, identity) in enumerate(zip(x, names, strict=True)):
                votes: Counter[int] = Counter()
                for begin in range(0, count, self.batch_size):
                    keys = torch.tensor(
                        [
                            random.key(self.seed, "smoothing", purpose, identity, begin + i)
                            for i in range(self.batch_size)
                        ]
                    )
                    noise = random.normal(keys.to(self.classifier.device), 0, tuple(image.shape))
                    logits = check_logits(model.decide(image.to(noise.device) + self.sigma * noise))
                    votes.update(logits.argmax(1)[: count - begin].tolist())
                yield row, votes


def samples_needed(radius: float, sigma: float, alpha: float = 0.001) -> int:
    """Return the least n for which n agreeing votes certify more than a radius: α^{1/n} > Φ(r/σ).

    Raises:
        InputError: no number that a computer counts to is enough.
    """
    tail = NormalDist().cdf(-radius / sigma)
    if tail < 1e-15:
        raise InputError(f"a radius of {radius:g} needs over 10¹⁵ samples at sigma {sigma:g}; expected a larger sigma")
    return math.floor(math.log(alpha) / math.log1p(-tail)) + 1


def _radius(probability: float, sigma: float) -> float:
    """Return σ Φ⁻¹(p), 0 for p ≤ 1/2."""
    return sigma * NormalDist().inv_cdf(min(probability, 1 - 1e-16)) if probability > 0.5 else 0.0
