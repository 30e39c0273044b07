"""Published weights over the network, or one line that says what was tried."""

import contextlib
import io
import socket
import sys
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from saddlepoint.errors import WeightsError

PATIENCE = 30.0
"""Seconds without an answer after which a download is given up."""


def download(entry: Any) -> dict[str, Tensor]:  # noqa: ANN401 - torchvision has no types
    """Return the state dict of a torchvision weights entry, from torch's cache or the network.

    Raises:
        WeightsError: it cannot be had, or what arrived is not what was published.
    """
    try:
        with _quiet():
            state: dict[str, Tensor] = entry.get_state_dict(
                progress=sys.stderr.isatty(), check_hash=True, weights_only=True, map_location="cpu"
            )
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WeightsError(
            f"could not download {entry.url} ({reason}); fetch that file where there is a network and pass it with "
            "--weights FILE (weights=FILE in Python)"
        ) from None
    return state


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep standard output clean, where torch announces its downloads, and do not wait long for a silent network."""
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(PATIENCE)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(patience)
