"""Whether a run goes on with the data that it was begun with."""

from collections.abc import Mapping

from saddlepoint.data.datasets import Dataset
from saddlepoint.errors import InputError
from saddlepoint.results import RunError


def check_unchanged(data: Dataset, digests: Mapping[str, str]) -> None:
    """Compare every example that is done with the digest in its row.

    Args:
        data: what is to be attacked now.
        digests: of what was attacked before, by id.

    Raises:
        RunError: an example is another one now.
    """
    for index, identity in enumerate(data.ids):
        if identity in digests and _digest(data, index) not in (None, digests[identity]):
            raise RunError(
                f"the example {identity!r} of {data.name} is another one than the run attacked (SHA-256 "
                f"{digests[identity][:12]}… before); restore the data, or pass another folder"
            )


def _digest(data: Dataset, index: int) -> str | None:
    """Return the digest of an example, None if it can no longer be read: its row holds all the same."""
    try:
        return data.read(index).digest
    except InputError:
        return None
