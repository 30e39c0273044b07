"""`python -m saddlepoint_audit RUN`: exit 0 if every claim holds, 1 if one does not, 2 if a file cannot be read.

RUN is a run folder, or with --vnnlib the file of a proof.
"""

import argparse
import contextlib
import ctypes
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from saddlepoint_audit.files import Array, Refused, arrays_of
from saddlepoint_audit.manifest import NAME, differing, digest
from saddlepoint_audit.operations import Network
from saddlepoint_audit.properties import Proof, Question, questions
from saddlepoint_audit.runs import audit
from saddlepoint_audit.weights import CLOSE, POINTS, compared, farthest, is_onnx

SHOWN = 5
"""Claims that do not hold, and are told one by one."""


def _keep_memory() -> None:
    """Let the allocator of Linux keep what is freed: the same large arrays are wanted again and again."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter in (-1, -3):  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
            mallopt(parameter, 2**30)


def main(arguments: list[str] | None = None) -> int:
    """Audit a run folder, or the proof of a property, and print what came of it."""
    parser = argparse.ArgumentParser("python -m saddlepoint_audit", description=__doc__)
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a folder of saddlepoint evaluate or certify --evidence, or a proof"
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="the model's safetensors or ONNX file")
    parser.add_argument("--vnnlib", type=Path, metavar="FILE", help="the property, where RUN is the file of a proof")
    told = parser.parse_args(arguments)
    _keep_memory()
    began = time.monotonic()
    try:
        wrong = _run(told.run, told.weights) if told.vnnlib is None else _property(told.run, told.vnnlib, told.weights)
    except Refused as error:
        print(f"saddlepoint_audit: {error}", file=sys.stderr)
        return 2
    for line in wrong[:SHOWN]:
        print(f"does not hold: {line}")
    if told.weights is None:
        print("the weights are those that came with it; --weights FILE compares them with the model's own")
    verdict = "NOT verified" if wrong else "verified"
    print(f"{verdict} in {time.monotonic() - began:.0f} s")
    return 1 if wrong else 0


def _run(run: Path, model: Path | None) -> list[str]:
    """Print what became of the claims of a run, and return what does not hold."""
    manifest = run / "evidence" / NAME
    if not manifest.is_file():
        expected = "a finished run of saddlepoint evaluate or certify --evidence, or with --vnnlib a proof"
        raise Refused(f"{run} has no {NAME}; expected {expected}")
    wrong = [] if model is None else _weights(arrays_of(run / "evidence" / "network.safetensors")[0], model)
    wrong += sorted(differing(run))
    reports = audit(run)
    for report in reports:
        print(report.in_words())
        wrong += report.wrong
    print(f"manifest SHA-256 {digest(manifest)}: whoever signs it signs this run")
    print("that attacks broke nothing cannot be replayed: it is no claim")
    return wrong


def _property(path: Path, prop: Path, model: Path | None) -> list[str]:
    """Print what a proof comes to, and return what does not hold."""
    proof, asked = Proof.read(path), questions(prop)
    wrong = [] if model is None else _weights(proof.arrays, model)
    if model is not None and is_onnx(model) and not wrong:
        wrong += _outputs(proof, asked, model)
    if wrong:  # whatever it proves, it is of another network
        return wrong
    least = proof.least(asked)
    what = "every float32 execution" if proof.arithmetic == "float32" else "real arithmetic"
    clauses = sum(len(question.clauses) for question in asked)
    print(f"{prop.name}: {clauses} clauses over {len(asked)} boxes, least violation {least:.6g}, of {what}")
    if not least > 0:
        wrong.append(f"{path.name} proves no violation of every clause: that is no proof")
    return wrong


def _outputs(proof: Proof, asked: Sequence[Question], model: Path) -> list[str]:
    """Print how far the list is from the model's file, and return that if it is too far."""
    network = Network.of(proof.entries, proof.arrays)
    apart = farthest(network, model, [question.region for question in asked]) if asked else 0.0
    told = f"at {POINTS} random points of the boxes the list is {apart:.1g} from {model.name}, of the largest output"
    print(told)
    return [] if apart <= CLOSE else [f"{told}: it is another network"]


def _weights(arrays: Mapping[str, Array], model: Path) -> list[str]:
    """Print which arrays are the model's, and return what is foreign."""
    same, told, foreign = compared(arrays, model)
    print(f"{same} arrays of the network are those of {model.name}, bit by bit")
    for line in told:
        print(f"not in the file: {line}")
    return foreign


if __name__ == "__main__":
    sys.exit(main())
