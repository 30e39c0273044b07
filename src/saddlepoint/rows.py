"""The only re-indexing: rows of a tree of tensors.

A tree is a tensor with one row per example, a dataclass or tuple of trees, or a value without rows, which is kept.
"""

import copy
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

Tree = TypeVar("Tree")
Source = TypeVar("Source")

Places = list[int] | Tensor
"""Which rows, by number."""


def take(tree: Tree, rows: Places) -> Tree:
    """Return the given rows of every tensor in the tree, in that order; rows may repeat."""
    return _map(lambda tensor: tensor.index_select(0, _index(rows, tensor)), tree)


def put(tree: Tree, rows: Places, fresh: Tree) -> Tree:
    """Return the tree with its given rows replaced by those of `fresh`, which has len(rows) of them."""
    return _map(lambda tensor, new: tensor.index_copy(0, _index(rows, tensor), new), tree, fresh)


def where(condition: Tensor, yes: Tree, no: Tree) -> Tree:
    """Return, row by row, `yes` where the condition (B,) holds and `no` elsewhere."""
    return renew(condition, lambda tree: tree, yes, no)


def renew(condition: Tensor, make: Callable[[Source], Tree], source: Source, old: Tree) -> Tree:
    """Return, row by row, make(source) where the condition (B,) holds and `old` elsewhere.

    On a CPU, which knows the condition without waiting, only the rows that hold are made.

    Args:
        condition: which rows to make anew, (B,).
        make: a function of a tree to a tree, row by row.
        source: the tree that it takes.
        old: the tree that other rows keep.
    """
    if condition.device.type != "cpu":
        return _map(lambda a, b: torch.where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b), make(source), old)
    rows = condition.nonzero().flatten()
    if len(rows) == 0:
        return old
    return make(source) if len(rows) == len(condition) else put(old, rows, make(take(source, rows)))


def _index(rows: Places, tensor: Tensor) -> Tensor:
    return torch.as_tensor(rows, device=tensor.device)


def _map(function: Callable[..., Tensor], tree: Tree, *others: Tree) -> Tree:
    result: Any = tree
    if isinstance(tree, Tensor):
        result = function(tree, *others)
    elif isinstance(tree, tuple):
        result = tuple(_map(function, *parts) for parts in zip(tree, *others, strict=True))
    elif is_dataclass(tree) and not isinstance(tree, type):
        result = copy.copy(tree)  # not `replace`: a re-indexed value was checked when it was made
        for field in fields(tree):
            parts = [getattr(value, field.name) for value in (tree, *others)]
            object.__setattr__(result, field.name, _map(function, *parts))
    return result  # type: ignore[no-any-return]
