"""The laws as a conformance suite, for one's own balls, regions and attacks; nothing here needs a test framework."""

from saddlepoint.testing.attacks import ATTACK_LAWS
from saddlepoint.testing.geometry import BALL_LAWS, REGION_LAWS

__all__ = ["ATTACK_LAWS", "BALL_LAWS", "REGION_LAWS"]
