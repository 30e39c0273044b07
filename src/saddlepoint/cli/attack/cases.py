"""Everything there is to report of images of one shape, once they have been attacked."""

from dataclasses import dataclass

from torch import Tensor

from saddlepoint.attacks import AttackResult
from saddlepoint.cli.attack.output import Adversarial, AttackedImage, Case, Clean, Perturbation, Written
from saddlepoint.cli.attack.pictures import write_pictures
from saddlepoint.cli.attack.settings import Settings
from saddlepoint.cli.attack.subjects import Subject
from saddlepoint.cli.attack.trace import Trace
from saddlepoint.cli.attack.views import View, look, views
from saddlepoint.data import levels, pixels
from saddlepoint.geometry import L1, L2, Linf


@dataclass(frozen=True, slots=True)
class Group:
    """Images of one shape: the 8-bit crops (B, 3, H, W), clean logits (B, K) and true classes (B,)."""

    subjects: list[Subject]
    crops: Tensor
    logits: Tensor
    y: Tensor

    def select(self, rows: list[int]) -> "Group":
        """Return some of the rows."""
        return Group([self.subjects[row] for row in rows], self.crops[rows], self.logits[rows], self.y[rows])


@dataclass(frozen=True, slots=True)
class _Points:
    """The three points of one image: what the model says there, the 8-bit crop, and δ in float64."""

    clean: View
    adversarial: View
    final: View
    written: Tensor
    delta: Tensor


def failed(subject: Subject, error: str) -> Case:
    """Return the case of an image that could not be attacked."""
    return Case(index=subject.index, image=str(subject.path), error=error)


def model_pixels(settings: Settings, crops: Tensor) -> Tensor:
    """Return 8-bit crops as the classifier takes them."""
    return pixels(crops).to(settings.classifier.device)


def cases(settings: Settings, group: Group, x: Tensor, result: AttackResult, trace: Trace) -> list[Case]:
    """Evaluate both adversarial points of every row, write its pictures, and return its case.

    Args:
        settings: what the user asked for, resolved.
        group: the images of one shape, with their labels and crops.
        x: the images as the classifier takes them, (B, C, H, W).
        result: what the attack found.
        trace: the loss after each step.
    """
    classifier, y = settings.classifier, group.y.cpu()
    written = levels(group.crops, result.x_adv.cpu(), settings.ball)
    points = zip(
        views(classifier, group.logits, y),
        views(classifier, look(classifier, result.x_adv, settings.bounds), y),
        views(classifier, look(classifier, model_pixels(settings, written)), y),
        written,
        result.x_adv.cpu().double() - x.cpu().double(),
        strict=True,
    )
    return [
        Case(
            index=subject.index,
            image=str(subject.path),
            findings=_findings(settings, group, result, trace, row, _Points(*point)),
            truth=classifier.name_of(int(y[row])),
        )
        for row, (subject, point) in enumerate(zip(group.subjects, points, strict=True))
    ]


def _findings(
    settings: Settings, group: Group, result: AttackResult, trace: Trace, row: int, points: _Points
) -> AttackedImage:
    subject, clean, adversarial = group.subjects[row], points.clean, points.adversarial
    linf, l2, l1 = (float(ball(1.0).norm(points.delta[None])) for ball in (Linf, L2, L1))
    return AttackedImage(
        clean=Clean(label=clean.label, name=clean.name, probability=clean.probability, loss=clean.loss),
        adversarial=Adversarial(
            label=adversarial.label,
            name=adversarial.name,
            probability=adversarial.probability,
            true_class_probability=adversarial.true,
            loss=adversarial.loss,
        ),
        written=_written(points.final, settings.target, int(group.y[row])),
        success=bool(result.success[row]),
        perturbation=Perturbation(linf=linf, l2=l2, l1=l1),
        trace=trace.of(subject.identity, result.restart[row]),
        forwards=int(result.forwards[row]),
        backwards=int(result.backwards[row]),
        files=write_pictures(settings, subject, clean, points.final, points.written, points.delta),
    )


def _written(view: View, target: int | None, y: int) -> Written:
    return Written(
        label=view.label,
        name=view.name,
        probability=view.probability,
        true_class_probability=view.true,
        success=view.label != y if target is None else view.label == target,
    )
