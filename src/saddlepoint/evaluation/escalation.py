"""Whether the attacks of an evaluation were long enough, by a sample of what they left; and what follows if not.

A sample of what stands has met a longer attack (`OnSample`). Where that broke one, all that stands meets the attacks
for examples in doubt, in a second run beside the first: records are never changed.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from saddlepoint.attacks import OnSample, escalation
from saddlepoint.attacks.wrappers import attack_of, in_sample
from saddlepoint.evaluation.earlier_run import points_of
from saddlepoint.evaluation.job import Job
from saddlepoint.evaluation.provenance import provenance
from saddlepoint.results import Attacked, Certified, Keep, RunFolder, open_run, writing
from saddlepoint.results.records.bracket import LEVEL, clopper_pearson
from saddlepoint.results.records.masking import SAMPLE_BROKEN


@dataclass(frozen=True, slots=True)
class Sampled:
    """What became of the sample at the largest ε of a norm.

    Attributes:
        met: examples that stood and met a longer attack.
        fell: of these.
        standing: examples that stand.
    """

    met: int
    fell: int
    standing: int

    def in_words(self) -> str:
        """Return one line: how many fell, and what that says of the others, at 95 %."""
        low, high = clopper_pearson(self.fell, self.met, 1 - LEVEL)
        fell = f"{self.fell} fell" if self.fell else "none fell"
        would = f"{low:.1%} to {high:.1%}" if self.fell else f"at most {high:.1%}"
        return f"a sample of {self.met} that stood met a longer attack, {fell}: of the others {would} would, at 95 %"


def samples_of(run: RunFolder) -> dict[str, Sampled]:
    """Return what became of the sample in each norm in which one was drawn."""
    largest = {threat["norm"]: threat["eps"] for threat in run.spec["threats"]}
    samples = {norm: _sample_of(run, norm, eps) for norm, eps in largest.items()}
    return {norm: sample for norm, sample in samples.items() if sample is not None}


def _sample_of(run: RunFolder, norm: str, eps: float) -> Sampled | None:
    spec = run.spec
    shares = [step["share"] for step in spec["suite"] if step["name"] == OnSample.__name__]
    attacks = [attacked for attacked in _attacked(run) if (attacked.norm, attacked.eps) == (norm, eps)]
    standing = [attacked for attacked in attacks if attacked.stands]
    stood = sum(any(in_sample(share, spec["seed"], attacked.id) for share in shares) for attacked in standing)
    fell = sum(map(_broke, attacks))
    return Sampled(stood + fell, fell, len(standing)) if stood + fell else None


def escalated(job: Job, folder: Path, keep: Keep = "broken") -> tuple[Job, Path] | None:
    """Return what all that stands is to meet, and the folder of that run; None where no sample was broken.

    The records of certificates are taken over.
    """
    run, further = open_run(folder), escalation(job.spec.suite)
    if not further or not any(map(_broke, _attacked(run))):
        return None
    # A norm that no longer attack searches keeps the attacks that it had.
    alone = [norm for norm in job.spec.norms if not any(norm in attack_of(step).norms for step in further)]
    further += tuple(step for norm in alone for step in job.spec.attacks(norm) if step not in further)
    points, beside = points_of(run, job.spec.norms), folder.with_name(f"{folder.name}-escalated")
    spec = replace(job.spec, suite=further, points=points.described())
    with writing(beside, spec.plain(), provenance(job.classifier), keep) as writer:
        for record in run.records():
            if record.kind == Certified.kind:
                writer.add(record, None, again=True)
    return replace(job, spec=spec, points=points, pending=None), beside


def _attacked(run: RunFolder) -> list[Attacked]:
    return [record for record in run.records() if isinstance(record, Attacked)]


def _broke(attack: Attacked) -> bool:
    return SAMPLE_BROKEN in attack.doubts
