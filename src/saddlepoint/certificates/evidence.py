"""What proves a bound, kept so that `check` can validate it without the search that found it.

Bounds of the activations' inputs come in passes, each tightening the one before. In a pass, node by node in the order
of computation, the claimed bounds of a node follow from those before them: by interval arithmetic, by the bounds of the
earlier pass, or by lines. Lines at an activation are fixed by the range of its input and one parameter per coordinate
(for a ReLU the slope α ∈ [0, 1] of its lower line): the default one, or that which is kept for each neuron. The margins
follow from the last pass's bounds in the same way.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from torch import Tensor

from saddlepoint.certificates.slopes import Slopes
from saddlepoint.errors import InputError

_VERSION = "1"


@final
@dataclass(frozen=True, eq=False)
class Pass:
    """Bounds of activations' inputs, by the node's position.

    Attributes:
        lower: least values, (*shape).
        upper: greatest values.
        neurons: coordinates of the flattened node that have parameters of their own, (R,).
        slopes: these parameters, by the activation's position, (2R, *shape): of the R lower bounds, then of the upper.
    """

    lower: Mapping[int, Tensor]
    upper: Mapping[int, Tensor]
    neurons: Mapping[int, Tensor] = field(default_factory=dict)
    slopes: Mapping[int, Slopes] = field(default_factory=dict)


@final
@dataclass(frozen=True, eq=False)
class Evidence:
    """What proves the worst margin of one example.

    Attributes:
        passes: over the nodes, the first from nothing but the input's set.
        slopes: parameters for margins, by the activation's position, (K − 1, *shape); empty where default lines do.
        duals: multipliers of a linear program by the margin's place, (constraints,).
    """

    passes: tuple[Pass, ...] = ()
    slopes: Slopes = field(default_factory=dict)
    duals: Mapping[int, Tensor] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write everything to one safetensors file."""
        from safetensors.torch import save

        from saddlepoint.results.folder.documents import write_bytes

        tensors = {f"slopes/{i}": value for i, value in self.slopes.items()}
        tensors |= {f"duals/{i}": value for i, value in self.duals.items()}
        for k, claims in enumerate(self.passes):
            for name in ("lower", "upper", "neurons"):
                tensors |= {f"passes/{k}/{name}/{i}": value for i, value in getattr(claims, name).items()}
            tensors |= {f"passes/{k}/slopes/{i}/{j}": v for i, own in claims.slopes.items() for j, v in own.items()}
        whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        write_bytes(Path(path).absolute(), save(whole, {"saddlepoint": _VERSION, "passes": str(len(self.passes))}))

    @classmethod
    def load(cls, path: str | Path) -> "Evidence":
        """Return what `save` wrote.

        Raises:
            InputError: the file is no evidence.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), "pt") as file:
                about, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} cannot be read ({error}); expected evidence that saddlepoint wrote") from None
        if about.get("saddlepoint") != _VERSION or not about.get("passes", "").isdecimal():
            raise InputError(f"{path} holds no evidence of this version; expected a file of `saddlepoint certify`")
        try:
            passes = tuple(
                Pass(
                    **{name: _under(tensors, f"passes/{k}/{name}/") for name in ("lower", "upper", "neurons")},
                    slopes=_nested(tensors, f"passes/{k}/slopes/"),
                )
                for k in range(min(int(about["passes"]), len(tensors)))
            )
            return cls(passes, _under(tensors, "slopes/"), _under(tensors, "duals/"))
        except ValueError:
            raise InputError(f"{path} holds tensors of other names; expected evidence that saddlepoint wrote") from None


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[int, Tensor]:
    return {int(name.removeprefix(prefix)): value for name, value in tensors.items() if name.startswith(prefix)}


def _nested(tensors: Mapping[str, Tensor], prefix: str) -> dict[int, dict[int, Tensor]]:
    nested: dict[int, dict[int, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(prefix):
            i, j = map(int, name.removeprefix(prefix).split("/"))
            nested.setdefault(i, {})[j] = value
    return nested


def recorded(
    bounds: tuple[tuple[Tensor, Tensor], ...],
    inputs: list[int],
    neurons: Mapping[int, tuple[Tensor, Slopes]] | None = None,
) -> Pass:
    """Return a pass's bounds of one example, of the nodes in `inputs`, with the parameters of neurons."""
    own = neurons or {}
    return Pass(
        {i: bounds[i][0][0] for i in inputs},
        {i: bounds[i][1][0] for i in inputs},
        {i: rows for i, (rows, _) in own.items()},
        {i: slopes for i, (_, slopes) in own.items()},
    )
