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


def take(tree: Tree, rows: list[int]) -> Tree:
    """Return the given rows of every tensor in the tree, in that order; rows may repeat."""
    return _map(lambda tensor: tensor[_index(rows, tensor)], tree)


def put(tree: Tree, rows: list[int], fresh: Tree) -> Tree:
    """Return the tree with its given rows replaced by those of `fresh`, which has len(rows) of them."""
    return _map(lambda tensor, new: tensor.index_copy(0, _index(rows, tensor), new), tree, fresh)


def where(condition: Tensor, yes: Tree, no: Tree) -> Tree:
    """Return, row by row, `yes` where the condition (B,) holds and `no` elsewhere."""
    return _map(lambda a, b: torch.where(condition.reshape(-1, *[1] * (a.ndim - 1)), a, b), yes, no)


def _index(rows: list[int], tensor: Tensor) -> Tensor:
    return torch.tensor(rows, device=tensor.device)


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
