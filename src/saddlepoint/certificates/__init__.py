"""Certificates: lower bounds of the worst margin, proven for every point of a set."""

from saddlepoint.certificates.api import Certificates, certify, graphs_of
from saddlepoint.certificates.graph import Graph

__all__ = ["Certificates", "Graph", "certify", "graphs_of"]
