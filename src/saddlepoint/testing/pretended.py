"""A pretended accelerator, so that what would fail or stall on a GPU is seen on a machine that has none.

    with pretended() as waits:
        classifier = sp.Classifier(module).to(DEVICE)
        sp.attack(classifier, x, y, sp.Linf(8 / 255))
    waits.total()
    stays_on_its_device(lambda device: sp.attack(make().to(device), x, y, sp.Linf(8 / 255)).margin)

Its tensors say that they are elsewhere and hold their numbers on the CPU. As on a GPU, an operation that mixes them
with tensors of the CPU raises RuntimeError; each time the host would have to wait for a number is counted, by what it
asked. Numbers are those of the CPU, bit for bit. Of speed it says nothing.
"""
# ruff: noqa: ANN401 - what torch hands to a dispatch has any type

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from saddlepoint.errors import LawViolation

DEVICE = torch.device("meta")
"""Its name: of the devices that torch knows, one that needs no driver."""
_MAY_MIX = ("aten::_to_copy", "aten::copy_", "aten::index", "aten::_index_put", "aten::set_")
"""Operations that take tensors of two devices, as on a GPU; indices may be on the CPU."""
_WAITING = (
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::equal",
    "aten::is_nonzero",
    "aten::_unique2",
    "aten::unique_dim",
)
"""Operations whose result, or the shape of it, the host must know before it goes on."""


class _There(Tensor):
    """A tensor that says it is elsewhere; `held` are its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls: type["_There"], held: Tensor, waits: "Counter[str]") -> "_There":
        return Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )

    def __init__(self, held: Tensor, waits: "Counter[str]") -> None:
        self.held, self.waits = held, waits

    is_meta = property(lambda self: False)
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        there = next(value for value in tree_flatten((args, kwargs or {}))[0] if isinstance(value, _There))
        return _run(func, args, kwargs or {}, there.waits)

    # Python lists as indices are made into tensors of the CPU before a dispatch sees them.
    def __getitem__(self, index: Any) -> Any:
        return Tensor.__getitem__(self, self._moved(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        Tensor.__setitem__(self, self._moved(index), value)

    def _moved(self, index: Any) -> Any:
        return _There(torch.tensor(index), self.waits) if isinstance(index, list) else index

    def tolist(self) -> Any:
        """Count a wait."""
        self.waits["tolist"] += 1
        return self.held.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        """Raise, as a tensor of a GPU does."""
        raise TypeError("can't convert a tensor on another device to numpy; use .cpu()")

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"there({self.held})"


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees also what is made on the device from nothing."""

    def __init__(self, waits: "Counter[str]") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits = waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self.waits)


def _run(func: Any, args: Any, kwargs: Any, waits: "Counter[str]") -> Any:
    name, flat = func.name(), tree_flatten((args, kwargs))[0]
    there = any(isinstance(value, _There) for value in flat)
    target = kwargs.get("device")
    comes = target is not None and torch.device(target) == DEVICE
    leaves = there and target is not None and not comes
    if there:
        _refuse_mixture(name, flat)
        waits.update(_waits(name, args, leaves=leaves))

    def bare(value: object) -> object:
        if isinstance(value, _There):
            return value.held
        return torch.device("cpu") if isinstance(value, torch.device) else value

    result = func(*tree_map(bare, args), **tree_map(bare, kwargs))
    if name == "aten::_local_scalar_dense" or leaves or not (there or comes):
        return result
    if args and isinstance(args[0], _There) and result is args[0].held:
        return args[0]  # in place
    return tree_map(lambda value: _There(value, waits) if type(value) is Tensor else value, result)


def _refuse_mixture(name: str, flat: list[Any]) -> None:
    if name.startswith(_MAY_MIX):
        return
    for value in flat:
        if isinstance(value, Tensor) and not isinstance(value, _There) and value.dim() > 0:
            shape = tuple(value.shape)
            raise RuntimeError(f"{name}: expected all tensors on one device, and one of shape {shape} is on the CPU")


def _waits(name: str, args: Any, *, leaves: bool) -> Iterator[str]:
    if name in _WAITING:
        yield name
    elif name == "aten::index.Tensor":
        if any(isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1]):
            yield "index by mask"
    elif name == "aten::copy_" and not isinstance(args[0], _There):
        yield "copied to the CPU"
    if leaves:
        yield "moved to the CPU"


@contextmanager
def pretended() -> "Iterator[Counter[str]]":
    """Pretend that `DEVICE` is an accelerator; yield what the host has waited for, as it is counted."""
    waits = Counter[str]()

    def onto(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        # torch.tensor makes its storage before any mode sees it.
        def made(data: object, *args: Any, device: Any = None, **settings: Any) -> Tensor:
            there = device is not None and torch.device(device) == DEVICE
            if isinstance(data, _There):
                return data if there or device is None else data.to(device)
            tensor = make(data, *args, **({} if there else {"device": device}), **settings)
            return _There(tensor, waits) if there else tensor

        return made

    begin = torch.autocast.__init__

    def autocast(self: torch.autocast, device_type: str, *args: Any, **settings: Any) -> None:
        begin(self, "cpu" if device_type == DEVICE.type else device_type, *args, **settings)

    with (
        patch.object(torch, "tensor", onto(torch.tensor)),
        patch.object(torch, "as_tensor", onto(torch.as_tensor)),
        patch.object(torch.autocast, "__init__", autocast),
        _Mode(waits),
    ):
        yield waits


def stays_on_its_device(action: Callable[[torch.device], Any]) -> "Counter[str]":
    """Run something on the CPU and on a pretended accelerator: the numbers must be the same, and nothing may mix.

    Args:
        action: of a device, to tensors in tuples, lists and dictionaries.

    Returns:
        What the host has waited for.

    Raises:
        LawViolation: tensors of two devices met, or the numbers differ.
    """
    due = tree_flatten(action(torch.device("cpu")))[0]
    try:
        with pretended() as waits:
            leaves = tree_flatten(action(DEVICE))[0]
    except RuntimeError as error:
        raise LawViolation(f"on an accelerator: {' '.join(str(error).split())}") from error
    held = [value.held if isinstance(value, _There) else value for value in leaves]
    same = len(held) == len(due) and all(
        torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b
        for a, b in zip(held, due, strict=True)
    )
    if not same:
        raise LawViolation("on an accelerator with the CPU's arithmetic the numbers are others than on the CPU")
    return waits
