"""Properties of the verification competition: how many are decided, in what time, and whether any answer is wrong.

    python benchmarks/verify.py DIR/mnist_fc --network 256x2 --timeout 30
    python benchmarks/verify.py DIR/acasxu --every 10 --timeout 60 --fresh
    python benchmarks/verify.py DIR/cifar10_resnet --network resnet_2b --verdict unsat --every 5

DIR/instances.csv has the columns onnx, vnnlib, timeout_s and verdict, on which others agree.
With --fresh each is a process of its own, so that its time holds the start of Python and torch.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import saddlepoint as sp


def instances(args: argparse.Namespace) -> list[dict[str, str]]:
    """Return the lines that were asked for."""
    with (args.folder / "instances.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = [row for row in rows if args.network in row["onnx"] and args.verdict in (None, row["verdict"])]
    return chosen[:: args.every]


def answered(args: argparse.Namespace, row: dict[str, str]) -> tuple[str, str, int]:
    """Return the outcome, the method and the domains of one instance."""
    network, prop = (str(args.folder / row[name]) for name in ("onnx", "vnnlib"))
    if not args.fresh:
        answer = sp.prove(network, prop, timeout=args.timeout)
        return answer.outcome, answer.method, answer.domains
    command = [sys.executable, "-m", "saddlepoint.cli.main", "certify", "--onnx", network, "--vnnlib", prop, "--json"]
    done = subprocess.run([*command, "--timeout", str(args.timeout)], capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    return told["outcome"], told["method"], told["domains"]


def main() -> None:
    """Print one line for each instance, and what they add up to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", default="", help="a part of the network's name")
    parser.add_argument("--verdict", choices=("sat", "unsat", "unknown"), help="only those with this verdict")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth of them")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="S")
    parser.add_argument("--fresh", action="store_true", help="a process for each")
    args = parser.parse_args()
    counts, seconds = Counter[str](), []
    for row in instances(args):
        began = time.perf_counter()
        outcome, method, domains = answered(args, row)
        seconds.append(time.perf_counter() - began)
        wrong = {outcome, row["verdict"]} == {"sat", "unsat"}
        counts["wrong" if wrong else outcome] += 1
        names = f"{Path(row['onnx']).name} {Path(row['vnnlib']).name}"
        print(
            f"{names}: {outcome} (agreed: {row['verdict']}), {method}, {domains} domains, {seconds[-1]:.1f} s",
            flush=True,
        )
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    middle = f"median {statistics.median(seconds):.1f} s, longest {max(seconds):.1f} s, {sum(seconds):.0f} s in all"
    print(f"{len(seconds)} instances: {told}; {middle}")


if __name__ == "__main__":
    main()
