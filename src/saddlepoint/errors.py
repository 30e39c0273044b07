"""What can go wrong, as one tree.

    SaddlepointError
    ├── InputError        what the user gave cannot be used; also a ValueError
    │   ├── WeightsError  weights that cannot be had, read or fitted
    │   └── RunError      a run folder is torn, foreign, newer, held by another writer, or asked for something else
    ├── ModelError        the model breaks the contract of a classifier: shape, NaN, probabilities, randomness
    ├── AttackError       an attack broke a law of the loop, such as leaving Δ
    ├── CertificateError  what was proven does not hold at a point
    └── LawViolation      a conformance law does not hold; also an AssertionError

and two warnings: MaskingWarning, when an attack saw a sign of masked gradients, and InputWarning, when labels or
logits are probably not what was meant.

Every message is one line that says what was given, what was expected and how to mend it.
"""


class SaddlepointError(Exception):
    """Root of everything that saddlepoint raises on purpose."""


class InputError(SaddlepointError, ValueError):
    """Raised at a public entry when what was given cannot be used."""


class WeightsError(InputError):
    """Raised when weights cannot be downloaded, read safely or fitted to their architecture."""


class RunError(InputError):
    """Raised when a run folder is torn, foreign, newer, held by another writer, or was asked for something else."""


class TornError(RunError):
    """Raised when a file of a run folder is ours and damaged."""


class ModelError(SaddlepointError):
    """Raised when a model breaks the contract of a classifier.

    Attributes:
        example: the id of the one example on which it does, if it is one.
    """

    example: str | None = None


class CertificateError(SaddlepointError):
    """Raised when a point of the set contradicts what was proven of all of it."""


class AttackError(SaddlepointError):
    """Raised when an attack breaks a law that the loop relies on."""


class LawViolation(SaddlepointError, AssertionError):  # noqa: N818 - the name of what happened, as in the design
    """Raised by `saddlepoint.testing` when a law does not hold."""


class MaskingWarning(UserWarning):
    """Warned of when an attack met a sign of masked gradients: robust accuracy is overestimated."""


class InputWarning(UserWarning):
    """Warned of when labels, logits or pixels are probably not what was meant."""


def reason(error: BaseException) -> str:
    """Return what went wrong, short and on one line."""
    text = getattr(error, "strerror", None) or " ".join(str(error).split())[:100]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
