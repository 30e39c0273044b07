"""Which examples have all their records, and which are attacked although a certificate covers them."""

from collections.abc import Mapping
from typing import Any

from saddlepoint import random
from saddlepoint.evaluation.job import Job
from saddlepoint.evaluation.spec import ThreatModel
from saddlepoint.results.schema import key_of

AUDITED, LEAST_AUDITED = 0.05, 100
"""This share of the certified examples is attacked all the same; of few examples, so many of them in expectation."""


def complete(job: Job, identity: str, earlier: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether an example has all its records, by their keys; a session may have ended between two of them."""
    return all(_settled(job, identity, threat, earlier) for threat in job.spec.threats)


def _settled(job: Job, identity: str, threat: ThreatModel, earlier: Mapping[str, Mapping[str, Any]]) -> bool:
    shared = {"id": identity, "norm": threat.norm, "eps": threat.eps}
    attack, proof = (earlier.get(key_of({**shared, "kind": kind})) for kind in ("attack", "certificate"))
    if attack is not None and (attack["success"] or not job.spec.certify):
        return True
    if proof is None or not job.spec.suite:
        return proof is not None
    cheap = proof["lower_bound"] > 0 and proof["method"].startswith(f"{job.spec.certify[0]} ")
    return attack is not None or (cheap and not audited(job.spec.seed, identity, len(job.data)))


def audited(seed: int, identity: str, examples: int) -> bool:
    """Tell whether an example is attacked although a certificate covers it: its id, the seed and the number decide."""
    return random.key(seed, "audit", identity) % 10_000 < 10_000 * max(AUDITED, LEAST_AUDITED / examples)
