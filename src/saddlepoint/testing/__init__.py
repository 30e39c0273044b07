"""The laws as a conformance suite, for one's own balls, regions, attacks and certifiers, and traps for evaluations.

Nothing here needs a test framework.
"""

from saddlepoint.testing.attacks import ATTACK_LAWS
from saddlepoint.testing.certifiers import never_false
from saddlepoint.testing.geometry import BALL_LAWS, REGION_LAWS
from saddlepoint.testing.traps import TRAPS, Trap

__all__ = ["ATTACK_LAWS", "BALL_LAWS", "REGION_LAWS", "TRAPS", "Trap", "never_false"]
