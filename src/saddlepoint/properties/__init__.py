"""Properties of networks: what must not happen, the files that say so, and whether it does."""

from saddlepoint.properties.api import Answer, prove
from saddlepoint.properties.property import Property, robustness
from saddlepoint.properties.vnnlib import read_property
from saddlepoint.properties.witness import Witness

__all__ = ["Answer", "Property", "Witness", "prove", "read_property", "robustness"]
