"""What can be wrong with a run folder."""

from saddlepoint.errors import InputError


class RunError(InputError):
    """Raised when a run folder is torn, foreign, newer, held by another writer, or was asked for something else."""


class TornError(RunError):
    """Raised when a file of a run folder is ours and damaged."""


def reason(error: BaseException) -> str:
    """Return what went wrong, short and on one line."""
    text = getattr(error, "strerror", None) or " ".join(str(error).split())[:100]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
