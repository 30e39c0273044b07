"""Which examples have all their records, and which are attacked although a certificate covers them."""

from collections.abc import Mapping

from saddlepoint import random
from saddlepoint.evaluation.job import Job
from saddlepoint.evaluation.spec import ThreatModel
from saddlepoint.results import Attacked, Certified, Record
from saddlepoint.results.records.record import key_of

AUDITED, LEAST_AUDITED = 0.05, 100
"""This share of the certified examples is attacked all the same; of few examples, so many of them in expectation."""


def complete(job: Job, identity: str, earlier: Mapping[str, Record]) -> bool:
    """Tell whether an example has all its records, by their keys; a session may have ended between two of them."""
    return all(_complete_under(job, identity, threat, earlier) for threat in job.spec.threats)


def _complete_under(job: Job, identity: str, threat: ThreatModel, earlier: Mapping[str, Record]) -> bool:
    attack, proof = (
        earlier.get(key_of(kind, threat.norm, threat.eps, identity)) for kind in (Attacked.kind, Certified.kind)
    )
    if isinstance(attack, Attacked) and (attack.success or not job.spec.certify):
        return True
    if proof is None or not job.spec.suite:
        return proof is not None
    cheap = isinstance(proof, Certified) and proof.proven and proof.name == job.spec.certify[0]
    return attack is not None or (cheap and not audited(job.spec.seed, identity, len(job.data)))


def audited(seed: int, identity: str, examples: int) -> bool:
    """Tell whether an example is attacked although a certificate covers it: its id, the seed and the number decide."""
    return random.key(seed, "audit", identity) % 10_000 < 10_000 * max(AUDITED, LEAST_AUDITED / examples)
