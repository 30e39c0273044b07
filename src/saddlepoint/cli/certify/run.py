"""`saddlepoint certify --onnx NET --vnnlib PROPERTY`: the form of the verification competition."""

import json
import math
from argparse import Namespace
from pathlib import Path

from saddlepoint.errors import InputError
from saddlepoint.properties import Answer, prove, read_property

UNDECIDED = 3
"""The exit code where the time or the effort was spent first."""


def run(args: Namespace) -> int:
    """Prove the property or find a counterexample; return the exit code."""
    if args.onnx is None or args.vnnlib is None:
        raise InputError("--onnx names a network and --vnnlib a property of it; expected both, or neither")
    limits = {"timeout": args.timeout, "domains": args.domains, "seed": args.seed}
    answer = prove(args.onnx, args.vnnlib, **limits, proof=args.proof)
    print(json.dumps(_fields(args, answer), ensure_ascii=False) if args.json else _text(args, answer), flush=True)
    if args.witness is not None and answer.witness is not None:
        answer.witness.write(Path(args.witness), read_property(args.vnnlib))
    missing = args.proof is not None and answer.outcome == "unsat" and answer.proof is None
    return 0 if answer.outcome in ("sat", "unsat") and not missing else UNDECIDED


def _fields(args: Namespace, answer: Answer) -> dict[str, object]:
    witness = answer.witness
    return {
        "network": args.onnx,
        "property": args.vnnlib,
        "outcome": answer.outcome,
        "least": answer.least if math.isfinite(answer.least) else None,
        "method": answer.method,
        "domains": answer.domains,
        "seconds": round(answer.seconds, 3),
        "proof": answer.proof,
        "witness": None if witness is None else {"x": witness.x.tolist(), "y": witness.y.tolist()},
    }


def _text(args: Namespace, answer: Answer) -> str:
    """Return the outcome in the first line, as the competition wants it, and below it what it rests on."""
    after = f"{answer.seconds:.1f} s" + (f", {answer.domains} domains" if answer.domains else "")
    if answer.witness is not None:
        where = f"; written to {args.witness}" if args.witness is not None else "; --witness FILE keeps it"
        return f"sat\nonnxruntime confirms the counterexample, without any tolerance{where} ({after})"
    if answer.outcome == "unsat":
        shown = f"unsat\nproven in real arithmetic by {answer.method}, least violation {answer.least:.3g} ({after})"
        return shown if args.proof is None else f"{shown}\n{_kept(args, answer)}"
    bound = f"; proven so far: at least {answer.least:.3g}" if math.isfinite(answer.least) else ""
    return f"{answer.outcome}\nneither a proof nor a counterexample was found{bound} ({after}); try a longer --timeout"


def _kept(args: Namespace, answer: Answer) -> str:
    """Return what became of the proof."""
    if answer.proof is None:
        return "no proof was kept: an audit does not come to one from what the search has found"
    holds = "every float32 execution" if answer.proof == "float32" else "real arithmetic"
    command = f"python -m saddlepoint_audit {args.proof} --vnnlib {args.vnnlib} --weights {args.onnx}"
    return f"{args.proof} has the proof, which holds of {holds}: {command}"
