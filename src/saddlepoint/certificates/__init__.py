"""Certificates: lower bounds of the worst margin, proven for every point of a set."""

from saddlepoint.certificates.api import Certificates, certify

__all__ = ["Certificates", "certify"]
