"""Suites: attacks in cascade, as values. Each sees only what those before it did not break.

A suite is a tuple, so that one's own is an expression: `(*sp.STANDARD, sp.PGD(restarts=10))`. Of its attacks those run
that can search the ball at hand. `EOT`, `IfDoubted` and `OnSample` say on what terms.
"""

from saddlepoint.attacks.apgd import APGD
from saddlepoint.attacks.apgd_l1 import APGDL1
from saddlepoint.attacks.fab import FAB
from saddlepoint.attacks.square import Square
from saddlepoint.attacks.sweep import Sweep
from saddlepoint.attacks.wrappers import EOT, IfDoubted, OnSample, Step

Suite = tuple[Step, ...]

STANDARD: Suite = (
    APGD(),
    APGDL1(restarts=5),
    APGD(loss="dlr", targets=9),
    APGDL1(loss="dlr", targets=5),
    FAB(targets=9),
    Square(queries=5000),
)
"""AutoAttack's standard version (Croce & Hein 2020; in ℓ1, Croce & Hein 2021): APGD-CE, APGD-T, FAB-T, Square."""

PLUS: Suite = (
    APGD(restarts=5),
    APGDL1(restarts=5),
    APGD(loss="dlr", restarts=5),
    APGDL1(loss="dlr", restarts=5),
    FAB(targets=0, restarts=5),
    Square(queries=5000),
    APGD(loss="dlr", targets=9),
    APGDL1(loss="dlr", targets=5),
    FAB(targets=9),
)
"""AutoAttack's version "plus": more restarts, and the untargeted FAB, too."""

RAND: Suite = (EOT(APGD()), EOT(APGDL1()), EOT(APGD(loss="dlr")), EOT(APGDL1(loss="dlr")))
"""AutoAttack's version "rand", for stochastic models: APGD-CE and APGD-DLR over means of 20 draws."""

FAST: Suite = (
    Sweep(),
    APGDL1(loss="dlr", targets=5),
    Square(queries=100, p_init=0.3),
    OnSample(APGD(loss="dlr", targets=9)),
    *map(IfDoubted, STANDARD),
)
"""Ours: a sweep; a short probe without gradients, from where it ended; a longer attack on a sample of what stands;
STANDARD where gradients are in doubt, and on all that stands if the sample was broken.

In ℓ1, where a sweep alone is not as strong as AutoAttack, its targeted APGD comes between, on all.
"""
