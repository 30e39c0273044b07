"""Check a run of Saddlepoint with NumPy and the standard library alone: no torch, and nothing of the package it checks.

    files          JSON and safetensors, as they lie in the folder
    operations     the network: a list of affine operations and ReLUs
    enclosures     what every real number and every float32 execution lies in: intervals, and linear bounds
    proofs         hints of one example, and the margin that follows from them
    runs           every claim of a folder, looked at again
    weights        the network's arrays, compared with the model's own file
    manifest       a digest of every file

Read them in this order; `docs/audit.md` says what is claimed, what is checked and what is trusted.
"""

from saddlepoint_audit.files import Refused
from saddlepoint_audit.operations import Network
from saddlepoint_audit.proofs import Hints, prove
from saddlepoint_audit.runs import Report, audit

__all__ = ["Hints", "Network", "Refused", "Report", "audit", "prove"]
