"""The laws as a conformance suite, for one's own balls, regions, attacks and certifiers, and traps for evaluations.

Nothing here needs a test framework.
"""

from saddlepoint.testing.attack_laws import ATTACK_LAWS
from saddlepoint.testing.ball_laws import BALL_LAWS, REGION_LAWS
from saddlepoint.testing.certifier_laws import never_false
from saddlepoint.testing.traps import TRAPS, Trap

__all__ = ["ATTACK_LAWS", "BALL_LAWS", "REGION_LAWS", "TRAPS", "Trap", "never_false"]
