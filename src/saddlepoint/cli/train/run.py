"""A training run on the command line: progress, and what came out."""

import json
import os
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from saddlepoint.cli.printable import console as console_of
from saddlepoint.cli.table import table
from saddlepoint.errors import InputError
from saddlepoint.models import load_classifier
from saddlepoint.training import Trained, load_recipe, train
from saddlepoint.training.loop import Observe
from saddlepoint.training.state import State


def run(args: Namespace, changed: Mapping[str, Any]) -> int:
    """Train, and say what the model reaches."""
    recipe = load_recipe(args.recipe, args.data, changed)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    begin = time.perf_counter()
    follows = int(os.environ.get("RANK", "0")) > 0  # of several processes one speaks
    with _progress(silent=args.json or follows) as draw, tensorboard(None if follows else args.tensorboard) as log:
        watchers = [watch for watch in (draw, log) if watch is not None]

        def observe(now: State, steps: int) -> None:
            for watch in watchers:
                watch(now, steps)

        start = None if args.start is None else load_classifier(args.start)
        trained = train(start, args.data, recipe, out=args.out, seed=args.seed, device=device, observe=observe)
    seconds = time.perf_counter() - begin
    if follows:
        return 0
    if args.json:
        told = {"out": str(trained.folder), "recipe": recipe.plain(), "seconds": seconds, **_told(trained)}
        print(json.dumps(told, ensure_ascii=False))
        return 0
    model = args.start or recipe.arch
    print(f"{recipe.name} · {args.data} · {model} · {_ball(recipe.norm, recipe.eps)}seed {args.seed}\n")
    if trained.accuracies:
        table([_row(name, share) for name, share in trained.accuracies.items()])
    print(f"\n{len(trained.metrics)} epochs · {seconds:.1f} s in this session · {trained.folder}")
    print(f"saddlepoint attack --data {args.data} --model {trained.folder}")
    return 0


@contextmanager
def tensorboard(folder: str | None) -> Iterator[Observe | None]:
    """Yield what writes each epoch's metrics for TensorBoard; None without a folder.

    Raises:
        InputError: TensorBoard is not installed.
    """
    if folder is None:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("--tensorboard needs TensorBoard; pip install tensorboard") from None
    writer, written = SummaryWriter(folder), 0

    def observe(now: State, steps: int) -> None:
        nonlocal written
        for metrics in now.metrics[written:]:
            for name, value in metrics.items():
                writer.add_scalar(name, value, int(metrics["epoch"]))
        written = len(now.metrics)

    with closing(writer):
        yield observe


def _told(trained: Trained) -> dict[str, Any]:
    return {"accuracies": trained.accuracies, "metrics": list(trained.metrics)}


def _row(name: str, share: float) -> dict[str, object]:
    part, _, kind = name.partition("_")
    what = {"clean": "clean", "robust": "under ten steps of PGD", "certified": "certified by intervals"}[kind]
    return {"images": part, "accuracy": what, "%": f"{100 * share:.1f}"}


def _ball(norm: str, eps: float) -> str:
    return f"{norm} ε {eps:.4g} · " if eps else ""


@contextmanager
def _progress(*, silent: bool) -> Iterator[Observe | None]:
    console = console_of(stderr=True)
    if silent or not console.is_terminal:
        yield None
        return
    columns = (BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[last]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, last="")

        def observe(now: State, steps: int) -> None:
            last = now.metrics[-1] if now.metrics else {}
            shown = " ".join(f"{name} {value:.3g}" for name, value in last.items() if name != "lr")
            bar.update(task, total=steps, completed=now.step, last=shown)

        yield observe
