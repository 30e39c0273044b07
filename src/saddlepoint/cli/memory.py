"""Running out of memory, as one line."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from saddlepoint.errors import InputError


@contextmanager
def bounded() -> Iterator[None]:
    """Turn the errors by which memory runs out into one that says what to do.

    Raises:
        InputError: there was not enough memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not known:
            raise
        raise InputError(
            "out of memory; expected smaller batches: pass a smaller --batch-size, or fewer images"
        ) from None
