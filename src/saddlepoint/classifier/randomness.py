"""The global random states of Python, NumPy and torch: restored, or exchanged for states of one's own."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_States = tuple[Any, ...]


@contextmanager
def random_state() -> Iterator[None]:
    """Restore the global random states of Python, NumPy and torch on the way out."""
    before = _states()
    try:
        yield
    finally:
        _set_states(before)


class Randomness:
    """Global random states of one's own, which go on where they were left: stochastic modules draw from them."""

    def __init__(self, seed: int) -> None:
        self._seed = seed % 2**63
        self._states: _States | None = None

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """Draw from one's own states, and restore the others on the way out."""
        with random_state():
            if self._states is None:
                random.seed(self._seed)
                np.random.seed(self._seed % 2**32)  # noqa: NPY002
                seed_torch(self._seed)
            else:
                _set_states(self._states)
            try:
                yield
            finally:
                self._states = _states()


def _states() -> _States:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda  # noqa: NPY002 - a global


def seed_torch(seed: int) -> None:
    """Seed torch's generators; `torch.manual_seed` costs a millisecond, for it notes who asked for devices to come."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


def _set_states(states: _States) -> None:
    python, numpy, cpu, cuda = states
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
    torch.set_rng_state(cpu)
    if cuda:
        torch.cuda.set_rng_state_all(cuda)
