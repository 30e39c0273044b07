"""Certificates: lower bounds of the worst margin, proven for every point of a set."""

from saddlepoint.certificates.api import Certificates, certify, check_evidence, graphs_of
from saddlepoint.certificates.graph import Graph
from saddlepoint_audit.proofs import Hints

__all__ = ["Certificates", "Graph", "Hints", "certify", "check_evidence", "graphs_of"]
