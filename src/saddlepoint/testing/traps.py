"""Planted defences: networks that seem robust because an attack on them fails, not because no adversarial point exists.

Each is wrapped around an undefended twin whose robust accuracy is known, so that an evaluation has an answer to miss.
The signs by which such defences betray themselves are in Athalye, Carlini & Wagner 2018, "Obfuscated gradients give a
false sense of security", and Carlini et al. 2019, "On evaluating adversarial robustness".
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from saddlepoint.classifier import BPDA, Classifier
from saddlepoint.errors import InputError
from saddlepoint.typing import Images, Logits

Defence = Callable[[Classifier], Classifier]


@final
@dataclass(frozen=True, slots=True)
class Trap:
    """A defence that hides adversarial points from weak attacks.

    Attributes:
        name: of the trap.
        source: where it was proposed, or broken.
        defend: builds it around a twin.
        cues: words of the findings, or of the ModelError, that name it; none where our attacks see through it.
        remedy: what opens it: "log" of its outputs, "bpda", "eot", or None where a good search does without.
        opened: builds the classifier that the remedy attacks in its stead; None where `remedy` is "eot" or None.
        alike: whether it decides as its twin does, up to rounding, so that their robust accuracies are equal; else the
            twin's is an upper bound, for images on which the twin is at its best.
    """

    name: str
    source: str
    defend: Defence
    cues: tuple[str, ...] = ("black box beats gradients",)
    remedy: Literal["log", "bpda", "eot"] | None = None
    opened: Defence | None = None
    alike: bool = True


class _Layer(nn.Module):
    """A module whose representation, and so the digest of a model, tells its numbers."""

    def extra_repr(self) -> str:
        """Return them."""
        return ", ".join(f"{name}={value}" for name, value in vars(self).items() if type(value) in (int, float))


class Scaled(_Layer):
    """z ↦ scale·z. In float32 the softmax of large logits is exactly one-hot, and ∇ of its cross-entropy exactly 0."""

    def __init__(self, scale: float = 1e4) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, z: Logits) -> Logits:
        """Return the scaled logits."""
        return self.scale * z


class Quantised(_Layer):
    """x ↦ round(levels·x) / levels, whose derivative is 0 wherever it has one; thermometers (Buckman) are alike."""

    def __init__(self, levels: int = 16) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Images) -> Images:
        """Return the quantised pixels."""
        return (x * self.levels).round() / self.levels


class Clamped(_Layer):
    """x ↦ min(max(x, 0), 1): the identity on pixels, whose gradient torch sets to 0 *at* the bounds."""

    def forward(self, x: Images) -> Images:
        """Return the clamped pixels."""
        return x.clamp(0, 1)


class _Cut(torch.autograd.Function):
    """A clamp to [0, 1] with torch's gradient, 0 at the bounds, which no `TorchFunctionMode` can see into."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - torch's signature
        ctx.save_for_backward(x)
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Tensor:  # noqa: ANN401
        (x,) = ctx.saved_tensors
        return torch.where((x > 0) & (x < 1), gradient[0], 0)


class Cut(_Layer):
    """`Clamped`, written as an autograd function of its own: a search cannot give it another gradient."""

    def forward(self, x: Images) -> Images:
        """Return the clamped pixels."""
        pixels: Images = _Cut.apply(x)
        return pixels


class Compressed(_Layer):
    """Round the cosine transform C = D·x·Dᵀ to multiples of (1 + i + j)·step, as JPEG does; the image is one block."""

    def __init__(self, step: float = 1 / 256) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Images) -> Images:
        """Return the compressed pixels."""
        rows, columns = (_cosines(size, x) for size in x.shape[-2:])
        table = self.step * (1 + sum(torch.meshgrid(*(torch.arange(n).to(x) for n in x.shape[-2:]), indexing="ij")))
        pixels: Images = rows.T @ ((rows @ x @ columns.T / table).round() * table) @ columns
        return pixels


class Shattered(_Layer):
    """x ↦ x + a·sin(ωx): it moves no pixel by more than a, and its gradient 1 + aω·cos(ωx) points anywhere."""

    def __init__(self, amplitude: float = 1e-3, frequency: float = 1e5) -> None:
        super().__init__()
        self.amplitude, self.frequency = amplitude, frequency

    def forward(self, x: Images) -> Images:
        """Return the rippled pixels."""
        return x + self.amplitude * torch.sin(self.frequency * x)


class Randomised(_Layer):
    """Resize to between ¾ and twice the size, add noise, and resize back; torch's global generator decides."""

    def __init__(self, noise: float = 0.05) -> None:
        super().__init__()
        self.noise = noise

    def forward(self, x: Images) -> Images:
        """Return the randomised pixels."""
        height, width = x.shape[-2:]
        size = [int(torch.randint(3 * side // 4, 2 * side, ())) for side in (height, width)]
        x = functional.interpolate(x, size, mode="bilinear")
        x = x + self.noise * torch.randn_like(x)
        return functional.interpolate(x, [height, width], mode="bilinear")


class Detached(nn.Module):
    """h(x) + (h(x′) − sg h(x′)), with x′ upside down: the value is that of h, the gradient that of the branch beside.

    sg stops the gradient, as it does in h(x) itself.
    """

    def __init__(self, twin: nn.Module) -> None:
        super().__init__()
        self.twin = twin

    def forward(self, x: Images) -> Logits:
        """Return the twin's logits."""
        beside = self.twin(x.flip(-1, -2))
        logits: Logits = self.twin(x.detach()) + (beside - beside.detach())
        return logits


class Winners(_Layer):
    """Keep the k = share·n largest of an example's n activations, zero the rest: the winners change with every step."""

    def __init__(self, share: float = 0.2) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Return the winners in their places."""
        flat = x.flatten(1)
        least = flat.topk(max(1, round(self.share * flat.shape[1])), 1).values[:, -1:]
        return torch.where(flat >= least, flat, 0).reshape(x.shape)


class Rounded(_Layer):
    """h ↦ max(h, 0), of which every second unit is rounded to multiples of 1/levels: half of the gradient is hidden."""

    def __init__(self, levels: int = 4) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, h: Tensor) -> Tensor:
        """Return the units."""
        active = h.relu()
        rounded = (active * self.levels).round() / self.levels
        every_second = torch.arange(h.shape[1], device=h.device).reshape(-1, *[1] * (h.dim() - 2)) % 2 == 0
        return torch.where(every_second, rounded, active)


def with_units(unit: Callable[[], nn.Module]) -> Defence:
    """Return what makes the twin, of the same weights, with other units instead of ReLUs; InputError if it has none."""

    def defend(twin: Classifier) -> Classifier:
        defended, layered = copy.deepcopy(twin), False
        for parent in list(defended.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.ReLU):
                    setattr(parent, name, unit())
                    layered = True
        if not layered:
            raise InputError(f"{twin.name} has no nn.ReLU that could be replaced; expected one at least")
        return defended

    return defend


def _cosines(size: int, like: Images) -> Tensor:
    """Return the orthonormal matrix of the cosine transform: D_kn = c_k cos(π(2n + 1)k / 2N)."""
    n = torch.arange(size, dtype=like.dtype, device=like.device)
    cosines = torch.cos(math.pi * (2 * n + 1) * n[:, None] / (2 * size)) * math.sqrt(2 / size)
    return torch.cat([cosines[:1] / math.sqrt(2), cosines[1:]])


def _before(layer: nn.Module) -> Defence:
    return lambda twin: Classifier(nn.Sequential(layer, twin))


def _after(*layers: nn.Module) -> Defence:
    return lambda twin: Classifier(nn.Sequential(twin, *layers))


def _filter(name: str, source: str, layer: nn.Module, *cues: str) -> Trap:
    """Return the trap of a layer before the twin, which BPDA opens with the identity's derivative."""
    return Trap(name, source, _before(layer), cues, "bpda", _before(BPDA(layer)))


class _Log(nn.Module):
    def forward(self, p: Tensor) -> Tensor:
        return p.log()


TRAPS: dict[str, Trap] = {
    trap.name: trap
    for trap in (
        Trap("scaled logits", "Carlini & Wagner 2017", _after(Scaled()), cues=("zero gradient",)),
        Trap(
            "softmax outputs",
            "Carlini & Wagner 2017",
            _after(nn.Softmax(1)),
            cues=("probabilities",),
            remedy="log",
            opened=_after(nn.Softmax(1), _Log()),
        ),
        Trap("clamped input", "torch's clamp", _before(Clamped()), cues=()),
        _filter("clamp of its own", "torch's clamp", Cut(), "zero gradient"),
        _filter("quantised input", "Guo et al. 2018; Buckman et al. 2018", Quantised(), "zero gradient"),
        _filter("JPEG", "Guo et al. 2018", Compressed(), "zero gradient"),
        _filter("shattered gradients", "Athalye et al. 2018", Shattered(), "black box beats gradients"),
        Trap(
            "random resize and noise",
            "Xie et al. 2018",
            _before(Randomised()),
            cues=("stochastic",),
            remedy="eot",
            alike=False,
        ),
        Trap(
            "detached branch",
            "Athalye et al. 2018",
            lambda twin: Classifier(Detached(twin)),
            remedy="bpda",
            opened=lambda twin: Classifier(BPDA(Detached(twin), twin)),
        ),
        Trap(
            "k winners take all",
            "Xiao et al. 2020",
            with_units(Winners),
            cues=("black box beats gradients", "gradients mispredict"),
            alike=False,
        ),
        Trap(
            "rounded units",
            "Buckman et al. 2018, inside the network",
            with_units(Rounded),
            cues=("gradients mispredict", "black box beats gradients"),
            alike=False,
        ),
    )
}
"""The panel, by name. All take any classifier, but for those that replace its ReLUs and keep its weights."""
