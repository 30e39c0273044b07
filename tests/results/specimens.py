"""Examples as an attack would have found them, and a program that writes them while it is being killed."""

import os
import random
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pyarrow.acero
import pyarrow.compute  # noqa: F401 - else the first sort imports both, in each process that is to be killed

from saddlepoint.results import open_run, writing
from saddlepoint.results.records.record import from_row
from saddlepoint.results.records.schema import NAMES

SPEC = {"attack": "PGD()", "seed": 0}
FATES = ("stands", "broken", "broken", "clean", "error")
_WATCHED = {"open", "os.rename", "os.remove", "os.mkdir", "os.truncate"}


def row(index, fate="broken", label=None, **changed):
    """The row of one example; everything in it follows from the index."""
    given = {
        "id": f"class/{index:03} é.png",
        "index": index,
        "kind": "attack",
        "name": "suite",
        "method": "PGD(steps=10)",
        "norm": "linf",
        "eps": 2 / 255,
    }
    if fate == "error":
        return {**given, "error": "truncated", **changed}
    attack = {"stands": None, "broken": "PGD", "clean": "clean"}[fate]
    found = {
        "digest": f"{index:064x}",
        "label": index % 3 if label is None else label,
        "clean_label": index % 3,
        "clean_margin": 0.1 * index,
        "clean_correct": fate != "clean",
        "success": attack is not None,
        "accuracy": float(attack is None),
        "attack": attack,
        "restart": 0,
        "adversarial_label": 1,
        "margin": (1 if attack is None else -1) / (index + 3),
        "distance": 2 / 255,
        "linf": 2 / 255,
        "l2": 0.3,
        "l1": 1 / 3,
        "steps": index,
        "forwards": index + 2,
        "backwards": index,
    }
    return {**given, **found, **changed}


def record(index, fate="broken", label=None, **changed):
    """The record that the row holds; what is changed need not be valid."""
    return from_row({**dict.fromkeys(NAMES), "kept": False, **row(index, fate, label, **changed)})


def point(index, shape=(1, 2, 3)):
    """The point of one example."""
    return np.random.default_rng(index).random(shape, np.float32)


def fate(index):
    return random.Random(index).choice(FATES)


def attack(folder, count, keep, pause=0.0, **how):
    """Attack what is not done, in an order of its own each time, as a loop with refilled slots would."""
    with writing(folder, SPEC, {"pid": os.getpid()}, keep, **how) as run:
        left = [index for index in range(count) if row(index)["id"] not in run.done]
        random.Random(os.getpid()).shuffle(left)
        for index in left:
            time.sleep(pause)
            run.add(record(index, fate(index)), None if fate(index) == "error" else point(index))
        return run.finish()


def content(folder):
    """What a run comes to: its rows, its points and the bytes of its summary."""
    run = open_run(folder)
    rows = run.rows().to_pylist()
    points = {one["id"]: run.point(one["id"]).tolist() for one in rows if one["kept"]}
    return rows, points, (Path(folder) / "summary.json").read_bytes()


def _forked(work, kill_after=None, folder=None):
    """Do the work in a process of its own; return its exit code, negative when it was killed.

    The kill comes that many seconds after the session has noted itself in the folder.
    """
    sessions = folder and Path(folder) / "provenance.json"
    before = sessions.stat().st_mtime_ns if sessions and sessions.exists() else None
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if kill_after is not None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not (sessions.exists() and sessions.stat().st_mtime_ns != before):
            time.sleep(0.001)
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _dies_before(number, work):
    """Return work that is killed before its file operation of that number."""

    def doomed():
        seen = 0

        def watch(event, _):
            nonlocal seen
            if event in _WATCHED:
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        work()

    return doomed


def killed_at_random(folder, seed):
    """Kill a writer again and again at random moments; return how many of these got some rows written, but not all.

    A kill comes up to 0.1 s after the session has noted itself, lest a slow machine be killed on its way there only.
    """
    draw, useful, before = random.Random(seed), 0, 0
    for _ in range(25):
        code = _forked(lambda: attack(folder, 60, 2, 0.003, shard_rows=5, seconds=0.01), draw.uniform(0, 0.1), folder)
        after = len(list(Path(folder).glob("rows/*.parquet")))
        useful, before = useful + (code < 0 and after > before), after
    assert _forked(lambda: attack(folder, 60, 2, shard_rows=5)) == 0
    return useful


def killed_everywhere(folder, keep):
    """Kill a writer before each of its file operations, and resume it each time; return how many there are."""
    whole = Path(folder) / "whole"
    attack(whole, 7, keep, shard_rows=3)
    number, code = 0, -1
    while code < 0:
        number, part = number + 1, Path(folder) / "part"
        code = _forked(_dies_before(number, lambda: attack(part, 7, keep, shard_rows=3)))  # noqa: B023
        assert code in (0, -signal.SIGKILL), code
        assert _forked(lambda: attack(part, 7, keep, shard_rows=3)) == 0  # noqa: B023
        assert content(part) == content(whole), f"after a kill before operation {number}"
        left = [path for path in part.rglob("*") if path.name.startswith(".")]
        assert not left, f"after a kill before operation {number}: {left}"
        shutil.rmtree(part)
    return number - 1


if __name__ == "__main__":
    how, place, argument = sys.argv[1:]
    count = {"random": killed_at_random, "everywhere": killed_everywhere}[how](place, int(argument))
    sys.stdout.write(f"{count}\n")
