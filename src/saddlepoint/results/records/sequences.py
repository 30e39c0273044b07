"""What the first t of N examples, in a random order, say about all N, at whichever t one stops."""

import math

import numpy as np
from numpy.typing import NDArray


def sequence(right: int, seen: int, whole: int, alpha: float, surely: int | None = None) -> tuple[int, int]:
    """Return the least and the largest number of right examples of all N that the first t do not contradict.

    A number n is kept if  hypergeom(S; N, n, t) ≥ α · betabinom(S; t, 1, 1) = α/(t + 1). With probability 1 − α the
    truth is kept at every t at once, so that one may look after each example and stop when one likes; at t = N one
    number is left (prior-posterior ratio, Waudby-Smith & Ramdas 2020).

    Args:
        right: S, of the first t.
        seen: t.
        whole: N.
        alpha: probability that the truth is missed at any t.
        surely: S where examples of which nothing is known count as wrong, for the lower end; `right` counts them as
            right. The same when not given.
    """
    low = _kept(right if surely is None else surely, seen, whole, math.log(alpha) - math.log(seen + 1))[0]
    return low, _kept(right, seen, whole, math.log(alpha) - math.log(seen + 1))[1]


def planned(right: int, seen: int, whole: int, alpha: float, surely: int | None = None) -> tuple[int, int]:
    """Return the exact interval of one planned look: the n whose tails at S are no less than α/2.

    Args:
        right: the examples that may count, of those seen.
        seen: S, how many have been seen.
        whole: N, how many there are.
        alpha: 1 − the level of confidence of this look.
        surely: the examples that count for certain; None where that is `right`.
    """
    from scipy.stats import hypergeom

    n = np.arange(whole + 1)
    least = right if surely is None else surely
    above = hypergeom.sf(least - 1, whole, n, seen) >= alpha / 2  # P(X ≥ S)
    below = hypergeom.cdf(right, whole, n, seen) >= alpha / 2  # P(X ≤ S)
    low, high = n[above & _possible(n, least, seen, whole)], n[below & _possible(n, right, seen, whole)]
    return int(low.min()), int(high.max())


def _kept(right: int, seen: int, whole: int, least: float) -> tuple[int, int]:
    from scipy.stats import hypergeom

    n = np.arange(right, whole - (seen - right) + 1)  # the others are impossible
    kept = n[hypergeom.logpmf(right, whole, n, seen) >= least]
    return int(kept.min()), int(kept.max())


def _possible(n: NDArray[np.int64], right: int, seen: int, whole: int) -> NDArray[np.bool_]:
    return (n >= right) & (n <= whole - (seen - right))
