"""Certificates: lower bounds of the worst margin, proven for every point of a set."""

from saddlepoint.certificates.api import Certificates, certify, check_evidence, graphs_of
from saddlepoint.certificates.evidence import Evidence
from saddlepoint.certificates.graph import Graph

__all__ = ["Certificates", "Evidence", "Graph", "certify", "check_evidence", "graphs_of"]
