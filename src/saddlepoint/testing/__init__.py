"""The laws as a conformance suite, for one's own balls, regions, attacks and certifiers, and traps for evaluations.

Nothing here needs a test framework.
"""

from saddlepoint.testing.attack_laws import ATTACK_LAWS
from saddlepoint.testing.ball_laws import BALL_LAWS, REGION_LAWS
from saddlepoint.testing.certifier_laws import CERTIFIER_LAWS, never_false, never_looser
from saddlepoint.testing.pretended import pretended, stays_on_its_device
from saddlepoint.testing.traps import TRAPS, Trap

__all__ = [
    "ATTACK_LAWS",
    "BALL_LAWS",
    "CERTIFIER_LAWS",
    "REGION_LAWS",
    "TRAPS",
    "Trap",
    "never_false",
    "never_looser",
    "pretended",
    "stays_on_its_device",
]
