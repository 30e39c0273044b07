"""The laws as a conformance suite, for one's own balls, regions and attacks, and the traps that an evaluation must see.

Nothing here needs a test framework.
"""

from saddlepoint.testing.attacks import ATTACK_LAWS
from saddlepoint.testing.geometry import BALL_LAWS, REGION_LAWS
from saddlepoint.testing.traps import TRAPS, Trap

__all__ = ["ATTACK_LAWS", "BALL_LAWS", "REGION_LAWS", "TRAPS", "Trap"]
