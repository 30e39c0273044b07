"""What can be said of an example and a set."""

from enum import StrEnum


class Verdict(StrEnum):
    """One word for what was shown, and never more than that.

    CERTIFIED: no point of the set is misclassified: the proven margin is finite and positive.
    FALSIFIED: a point of the set is misclassified, as the untouched model said of it.
    UNKNOWN: neither was shown.
    TIMEOUT: neither was shown, and the time was over.
    """

    CERTIFIED = "certified"
    FALSIFIED = "falsified"
    UNKNOWN = "unknown"
    TIMEOUT = "timeout"
