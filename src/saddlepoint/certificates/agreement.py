"""Graph and module are one function, to rounding, or nothing is proven; and every certificate is challenged.

A certificate speaks of the graph. That the graph is the module is compared class by class: at random pixels, one row
alone, two together and many; at x; and at the points of the set where a proof would be refuted first. What the module
computes may differ from real arithmetic by its rounding, whose size is that of independent errors of each operation,

    v(f(x))  =  L² v(x) + u² n (L² x² + b² + f(x)²)          L² the squares of L's coefficients, √v the deviation:

n partial sums, each as large as its terms or the whole, are each off by u (Higham & Mary 2019). A worst case grows too
fast with depth to tell rounding from another function.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn
from torch._C import DisableTorchFunction
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from saddlepoint import random
from saddlepoint.certificates.affine import Affine
from saddlepoint.certificates.aten.rules import name_of
from saddlepoint.certificates.graph import Graph, Input
from saddlepoint.certificates.relu import ReLU
from saddlepoint.classifier import Classifier
from saddlepoint.classifier.forms import tensors_in
from saddlepoint.classifier.frozen import Frozen, compiled
from saddlepoint.classifier.model import absorb
from saddlepoint.errors import CertificateError, ModelError
from saddlepoint.geometry import Region
from saddlepoint.losses import margin
from saddlepoint.typing import Images, Labels, Logits, PerExample

_UNIT, _LEAST = torch.finfo(torch.float32).eps / 2, torch.finfo(torch.float32).tiny
_DEVIATIONS = 8
"""How many deviations are taken for rounding: errors of one operation may be correlated."""
_MANY, _PIXELS = 64, 2**18
"""Rows of the working size, fewer for large images: so many pixels in all."""
_NEURONS = 2**22
"""Of all rows that are computed in float64 at once."""
_CORNERS = 2
"""Random corners of the set, besides its lowest, its highest and the minimiser of the bound."""


@torch.no_grad()
def computed(graph: Graph, x: Images) -> tuple[Logits, Logits]:
    """Return the graph's logits in float64, and by how much a float32 computation of them may be off, (B, K) each.

    Of large graphs one row is computed at a time, and what no later node reads is dropped.
    """
    together = max(1, _NEURONS // sum(node.size for node in graph.nodes))
    if len(x) > together:
        parts = zip(*(computed(graph, part) for part in x.split(together)), strict=True)  # type: ignore[no-untyped-call]
        logits, allowed = (torch.cat(part) for part in parts)
        return logits, allowed
    last = {parent: i for i, node in enumerate(graph.nodes) for parent in node.parents}
    values, variances = {0: x.double()}, {0: torch.zeros_like(x, dtype=torch.float64)}
    for i, node in enumerate(graph.nodes[1:], 1):
        operation, here = node.operation, [values[parent] for parent in node.parents]
        before = [variances[parent] for parent in node.parents]
        if isinstance(operation, Affine):
            values[i] = operation.forward(*here)
            squares = [weight.square() for weight in operation.weights]
            size = operation.linear(*(part.square() for part in here), *squares) + values[i].square()
            size = size if operation.constant is None else size + operation.constant.square()
            passed = operation.linear(*before, *squares)
            lost = (operation.terms * _LEAST) ** 2  # of products below the least normal number
            # A sum of n terms is n errors of a unit each, of random sign; 8 for scaling, shifting and a fused bias.
            variances[i] = passed + (operation.terms + 8) * _UNIT**2 * size + lost
        elif not isinstance(operation, Input):
            values[i], z, reach = operation.forward(*here), here[0], _DEVIATIONS * before[0].sqrt()
            steep = torch.stack(operation.slopes(z - reach, z + reach)).abs().amax(0)
            # A ReLU rounds nothing. Other functions are off by units of their value and of slope times input.
            own = 0.0 if isinstance(operation, ReLU) else (4 * _UNIT * (values[i].abs() + z.abs())).square()
            variances[i] = steep.square() * before[0] + own
        for parent in {parent for parent in node.parents if last[parent] == i}:
            del values[parent], variances[parent]
    logits, variance = values[len(graph.nodes) - 1].flatten(1), variances[len(graph.nodes) - 1].flatten(1)
    allowed = _DEVIATIONS * (variance.sqrt() + _UNIT * logits.abs()) + torch.finfo().tiny
    if not graph.normalised:
        return logits, allowed
    # log Σ exp z is off by no more than the largest of z; its float32 rounds sums of as many numbers as there are.
    scores, count = logits.log_softmax(1), logits.shape[1] + 8
    worst = allowed.amax(1, keepdim=True)
    return scores, 2 * worst + count * _UNIT * (1 + logits.abs().amax(1, keepdim=True) + scores.abs())


def compare(graph: Graph, x: Images, *seen: Tensor) -> tuple[Logits, Logits]:
    """Hold the module's logits of x, each time it was asked, against the graph's; return these and what was allowed.

    Where it was asked for more or fewer rows than x has, these are x, repeated or cut off.

    Raises:
        ModelError: the logit of a class differs by more than rounding explains.
    """
    logits, allowed = expected = computed(graph, x)
    for answer in seen:
        rows = torch.arange(len(answer), device=x.device) % len(x)
        logits, allowed = (part[rows] for part in expected)
        wrong = ~((answer.double() - logits).abs() <= allowed)  # NaN is wrong
        if bool(wrong.any()):
            row, label = (int(place) for place in wrong.nonzero()[0])
            raise ModelError(
                f"the module's logit of class {label} is {float(answer[row, label]):.6g}, its graph's "
                f"{float(logits[row, label]):.6g}, and rounding explains a difference of "
                f"{float(allowed[row, label]):.2g}; expected one function: does the module compute in another type, "
                "look at the size of its batch, or answer differently in each call?"
            )
    return expected


def compare_anywhere(graph: Graph, classifier: Classifier) -> str | None:
    """Hold the module against its graph at random pixels: one row alone, two together, twice, and many.

    Returns:
        A hash of what it did for the first: operations, numbers, tensors that are no weights, and the bits of its
        answer; None where operations cannot be seen.

    Raises:
        ModelError: they are not one function, or the module runs other operations for another number of rows.
    """
    keys = torch.tensor([random.key(0, "compare", row) for row in range(3)], device=classifier.device)
    pixels = random.uniform(keys, 0, graph.shape)
    many = max(3, min(_MANY, _PIXELS // pixels[0].numel()))
    tiled = pixels[torch.arange(many, device=pixels.device) % 3]
    with classifier.frozen() as model:
        one, two, again, all_ = (_Asked.of(model, rows) for rows in (pixels[:1], pixels[:2], pixels[:2], tiled))
    if one.reads is not None:
        raise ModelError(
            f"the module reads numbers that it computes ({one.reads}), so that it may branch on them; expected one "
            "function of all images: let it call neither item(), tolist() nor numpy(), bool(), float() or int() on one"
        )
    for first, second in ((one, two), (two, again), (two, all_)):
        if not _alike(first.calls, second.calls, len(first.logits), len(second.logits)):
            raise ModelError(
                f"the module computes otherwise for {len(second.logits)} rows than for {len(first.logits)} before; "
                "expected one function of each row: let it not look at the size of its batch, nor count its calls"
            )
    compare(graph, pixels, one.logits, two.logits, again.logits, all_.logits)
    return one.did


def challenge(
    graph: Graph, classifier: Classifier, region: Region, y: Labels, bound: PerExample, slope: Images
) -> PerExample:
    """Return the least margin of the untouched module at points of the set where a false certificate would show.

    Args:
        graph: in float64.
        classifier: whose graph it is.
        region: the sets of the certified examples.
        y: their labels.
        bound: the least margin that was proven of each.
        slope: the functional of the input that the bound rests on: it is least where the set is farthest along −slope.

    Raises:
        ModelError: graph and module differ at one of the points.
        CertificateError: the graph itself has a lower margin there than was proven.
    """
    points = region.x.unsqueeze(1) + _deltas(region, slope)
    shown = list[PerExample]()
    with classifier.frozen() as model:  # each example by itself: a verdict must not depend on who else is asked about
        for own, label in zip(points, y, strict=True):
            logits = torch.cat([model.decide(own), *(model.decide(point) for point in own.split(1))])
            shown.append(margin(logits, label.expand(len(logits))).amin())
            real, allowed = compare(graph, own, *torch.split(logits, len(own)))
            _hold(margin(real, label.expand(len(real))), bound[len(shown) - 1].to(real), allowed.amax(1))
    return torch.stack(shown)


def _deltas(region: Region, slope: Images) -> Tensor:
    """Return δ of the minimiser, the lowest and the highest corner, some random ones and x itself, (B, K, *shape)."""
    size = slope.abs().flatten(1).amax(1).clamp(min=torch.finfo().tiny)
    downhill = -(slope / size.reshape(-1, *(1 for _ in slope.shape[1:]))).to(region.x)
    keys = torch.tensor([random.key(0, "challenge", k) for k in range(_CORNERS)], device=region.x.device)
    corners = random.uniform(keys, 0, tuple(region.x.shape[1:])) - 0.5
    ones = torch.ones_like(corners[:1])
    fixed = torch.cat([-ones, ones, corners]).sign().expand(len(slope), -1, *region.x.shape[1:])
    deltas = region.maximiser(torch.cat([downhill.unsqueeze(1), fixed], 1))
    return torch.cat([deltas, torch.zeros_like(deltas[:, :1])], 1)


def _hold(real: PerExample, proven: Tensor, allowed: PerExample) -> None:
    """Raise CertificateError if a margin of the graph, in float64, is below what was proven of all of the set."""
    wrong = ~(real >= proven - 1e-6 * allowed)  # float64 rounds 2²⁹ times as finely as float32
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise CertificateError(
            f"a margin of at least {float(proven):.9g} was proven, and the same graph has {float(real[row]):.9g} "
            "in the set: that is a bug of saddlepoint; please report it with the model"
        )


@final
@dataclass(frozen=True, eq=False)
class _Asked:
    """What a module answered, and the ATen operations that it ran for it; None where those cannot be seen.

    Attributes:
        logits: the answer.
        calls: the operations.
        reads: one that hands a number to Python, if there is any.
        did: a hash of the operations, of tensors that are no weights, and of the answer.
    """

    logits: Logits
    calls: list[object] | None
    reads: str | None = None
    did: str | None = None

    @classmethod
    def of(cls, model: Frozen, pixels: Images) -> "_Asked":
        module = model.classifier.module
        if any(isinstance(part, torch.jit.ScriptModule) or compiled(part) for part in module.modules()):
            return cls(model.decide(pixels), None)
        with _Calls(module) as calls, _Leaves(calls):
            logits = model.decide(pixels)
        absorb(calls.strange, f"{calls.seen}", logits)
        return cls(logits, calls.seen, calls.reads, calls.strange.hexdigest())


class _Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The operations that are run, each with its constants and the module's tensors that it reads.

    A number that follows from the module's own tensors alone may be handed to Python: it is the same for all images.
    """

    _SILENT = ("view", "_unsafe_view", "reshape", "clone", "contiguous", "detach", "alias", "_to_copy")
    """What depends on the layout in memory, which the number of rows may change, and computes nothing."""

    _READING = ("_local_scalar_dense", "equal", "is_nonzero", "item")
    """What hands a number to Python."""

    _LIFTING = ("lift_fresh", "lift_fresh_copy")
    """What makes a tensor of numbers that Python has."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        own = (*module.named_parameters(), *module.named_buffers())
        self._names = {tensor.untyped_storage().data_ptr(): name for name, tensor in own}
        self._constants = {id(tensor): tensor for _, tensor in own}
        self._made = WeakIdKeyDictionary()
        self.strange = hashlib.sha256()
        self.seen = list[object]()
        self.reads: str | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        with DisableTorchFunction():  # `_Leaves` is about the module, not about us
            return self._seen(func, args, kwargs or {})

    def constant(self, value: object) -> bool:
        """Tell whether a tensor, or each of several, follows from the module's own tensors alone."""
        return all(id(tensor) in self._constants for tensor in tensors_in(value))

    def _seen(self, func: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401 - a dispatched call
        random_ = torch.Tag.nondeterministic_seeded in func.tags
        constant = not random_ and (name_of(func) in self._LIFTING or self.constant([args, kwargs]))
        if name_of(func) in self._READING and not constant:
            self.reads = name_of(func)
        if name_of(func) not in self._SILENT:
            self.seen.append([str(func), self._plain(args), self._plain(tuple(kwargs.values()))])
        for tensor in tensors_in([args, kwargs]):
            if tensor not in self._made and tensor.untyped_storage().data_ptr() not in self._names:
                absorb(self.strange, "", tensor)  # pixels, or what the module reads that is none of its tensors
        result = func(*args, **kwargs)
        self._made.update(dict.fromkeys(tensors_in(result)))
        if constant:
            self._constants |= {id(tensor): tensor for tensor in tensors_in(result)}
        elif func._schema.is_mutable:  # what depends on pixels may have been written to a constant
            self._constants.clear()
        return result

    def _plain(self, value: object) -> object:
        if isinstance(value, tuple | list):
            return [self._plain(item) for item in value]
        if isinstance(value, Tensor):
            return self._names.get(value.untyped_storage().data_ptr(), "tensor")
        return value


class _Leaves(TorchFunctionMode):
    """What hands a tensor's numbers to somebody else than torch, where no operation is seen any more."""

    _DOORS = ("numpy", "__array__", "tolist", "data_ptr", "storage", "untyped_storage", "__dlpack__", "__reduce_ex__")

    def __init__(self, calls: _Calls) -> None:
        super().__init__()
        self._calls = calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        name = getattr(func, "__name__", "")
        if name in self._DOORS and not self._calls.constant(args):
            self._calls.reads = name
        return func(*args, **(kwargs or {}))


def _alike(first: object, second: object, rows: int, others: int) -> bool:
    """Tell whether two runs are the same but for the numbers of rows, which may occur as constants."""
    if isinstance(first, list) and isinstance(second, list):
        pairs = zip(first, second, strict=False)
        return len(first) == len(second) and all(_alike(a, b, rows, others) for a, b in pairs)
    if type(first) is int and type(second) is int:
        return first == second or first * others == second * rows
    return bool(first == second)
