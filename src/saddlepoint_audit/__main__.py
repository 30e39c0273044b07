"""`python -m saddlepoint_audit RUN`: exit 0 if every claim holds, 1 if one does not, 2 if a file cannot be read."""

import argparse
import contextlib
import ctypes
import sys
import time
from pathlib import Path

from saddlepoint_audit.files import Refused
from saddlepoint_audit.manifest import NAME, differing, digest
from saddlepoint_audit.runs import audit
from saddlepoint_audit.weights import compared

SHOWN = 5
"""Claims that do not hold, and are told one by one."""


def _keep_memory() -> None:
    """Let the allocator of Linux keep what is freed: the same large arrays are wanted again and again."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (-1, -3):  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
            mallopt(parameter, 2**30)


def main(arguments: list[str] | None = None) -> int:
    """Audit a run folder and print what came of it."""
    parser = argparse.ArgumentParser("python -m saddlepoint_audit", description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a folder of saddlepoint evaluate or certify --evidence")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="the model's safetensors or ONNX file")
    told = parser.parse_args(arguments)
    _keep_memory()
    began, foreign = time.monotonic(), list[str]()
    try:
        if not (told.run / "evidence" / NAME).is_file():
            raise Refused(
                f"{told.run} has no {NAME}; expected a finished run of saddlepoint evaluate or certify --evidence"
            )
        if told.weights is not None:
            foreign = _weights(told.run / "evidence", told.weights)
        foreign += sorted(differing(told.run))
        reports = audit(told.run)
    except Refused as error:
        print(f"saddlepoint_audit: {error}", file=sys.stderr)
        return 2
    wrong = foreign + [line for report in reports for line in report.wrong]
    for report in reports:
        print(report.in_words())
    for line in wrong[:SHOWN]:
        print(f"does not hold: {line}")
    if told.weights is None:
        print("the weights are those that the run came with; --weights FILE compares them with the model's own")
    print(f"manifest SHA-256 {digest(told.run / 'evidence' / NAME)}: whoever signs it signs this run")
    verdict = "NOT verified" if wrong else "verified"
    print(
        f"{verdict} in {time.monotonic() - began:.0f} s. That attacks broke nothing cannot be replayed: it is no claim."
    )
    return 1 if wrong else 0


def _weights(evidence: Path, model: Path) -> list[str]:
    """Print which arrays are the model's, and return what is foreign."""
    same, told, foreign = compared(evidence, model)
    print(f"{same} arrays of the network are those of {model.name}, bit by bit")
    for line in told:
        print(f"not in the file: {line}")
    return foreign


if __name__ == "__main__":
    sys.exit(main())
