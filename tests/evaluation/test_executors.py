"""Workers of a Ray cluster come to the same records, whatever dies on the way.

The evaluations run in processes of their own: the tests' runtime checks of types wrap functions in what cannot be sent.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

import saddlepoint as sp
from saddlepoint.cli.main import main
from saddlepoint.evaluation.executors import Workers

MEASURED = ("seconds",)
SHORT = ("--limit", "48", "--eps", "0.02", "0.1", "--suite", "fgsm", "--certify", "interval")
LONG = ("--limit", "96", "--eps", "0.02", "--suite", "square", "--certify", "crown", "--budget", "400")


def started(out, task, *more):
    """Start an evaluation of the shipped standard model, whose threads are those of a worker."""
    command = [sys.executable, "-m", "saddlepoint.cli.main", "evaluate", "--model", "fashion-mnist-standard"]
    flags = ["--batch-size", "8", "--no-checks", "--json", "--out", str(out), *task, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    return subprocess.Popen([*command, *flags], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def ended(process):
    """Wait for its end, which must be a good one."""
    _, told = process.communicate(timeout=500)
    assert process.returncode == 0, told.decode()


def found(out):
    """Return the records without what was measured, and the summary's bytes."""
    rows = sorted(sp.open_run(out).rows().to_pylist(), key=lambda row: row["key"])
    return [{k: v for k, v in row.items() if k not in MEASURED} for row in rows], (out / "summary.json").read_bytes()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process finds, by task."""
    known = {}

    def of(task):
        if task not in known:
            out = tmp_path_factory.mktemp("alone") / "run"
            ended(started(out, task))
            known[task] = found(out)
        return known[task]

    return of


def test_two_workers_come_to_the_records_of_one_process(alone, tmp_path):
    ended(started(tmp_path / "run", SHORT, "--executor", "ray", "--workers", "2"))
    assert found(tmp_path / "run") == alone(SHORT)


def test_what_cannot_be_is_one_line(monkeypatch, capsys):
    with pytest.raises(sp.InputError, match="expected at least 1"):
        Workers(0)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(sp.InputError, match=r"pip install 'saddlepoint\[ray\]'"):
        Workers(1)
    assert main(["evaluate", "--workers", "2"]) == 2
    assert "expected --executor ray with them" in capsys.readouterr().err


DYING = """
import os, sys
from torch import nn

class Net(nn.Module):
    def forward(self, x):
        if "ray" in sys.modules and x.shape[0] > 4 and os.environ.get("RAY_JOB_ID"):
            os._exit(137)
        return x.flatten(1)[:, :10]
"""


@pytest.mark.slow
def test_workers_that_die_again_and_again_end_in_one_line(tmp_path):
    (tmp_path / "dying.py").write_text(DYING)
    script = (
        "import sys; from saddlepoint.evaluation import executors; executors.DEATHS = 1\n"
        "from saddlepoint.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    flags = ["--model", f"{tmp_path / 'dying.py'}:Net", "--limit", "16", "--certify", "none", "--suite", "fgsm"]
    where = ["--no-checks", "--executor", "ray", "--workers", "1", "--out", str(tmp_path / "run")]

    def run(size):
        command = [sys.executable, "-c", script, "evaluate", *flags, *where, "--batch-size", size]
        found = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        return found.returncode, found.stderr

    code, told = run("8")
    assert code == 2, told
    assert "workers died 1 times on the same examples; if their memory ran out" in told
    where[-1] = str(tmp_path / "small")
    assert run("4")[0] == 0  # the code of one's own file travels


@pytest.mark.slow
@pytest.mark.parametrize("count", ["1", "4"])
def test_any_number_of_workers_comes_to_the_same_records(count, alone, tmp_path):
    ended(started(tmp_path / "run", SHORT, "--executor", "ray", "--workers", count))
    assert found(tmp_path / "run") == alone(SHORT)


def worker_processes():
    """Return the ids of the actors' processes, by the names that ray gives them."""
    listed = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "cmdline").read_bytes().startswith(b"ray::_Worker"):
                listed.append(int(folder.name))
    return listed


@pytest.mark.slow
def test_workers_that_die_are_replaced(alone, tmp_path):
    """Their processes are killed at random moments, ten times at most."""
    chance, killed = random.Random(0), []
    process = started(tmp_path / "run", LONG, "--executor", "ray", "--workers", "2")
    while process.poll() is None and len(killed) < 10:
        time.sleep(chance.uniform(1, 6))
        if listed := worker_processes():
            killed.append(chance.choice(listed))
            with suppress(ProcessLookupError):
                os.kill(killed[-1], signal.SIGKILL)
    ended(process)
    assert killed
    assert found(tmp_path / "run") == alone(LONG)


@pytest.mark.slow
def test_a_writing_process_that_dies_goes_on(alone, tmp_path):
    chance, kills = random.Random(1), 0
    for _ in range(4):
        process = started(tmp_path / "run", LONG, "--executor", "ray", "--workers", "2")
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=chance.uniform(9, 16))
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        kills += 1
    ended(started(tmp_path / "run", LONG, "--executor", "ray", "--workers", "2"))
    assert kills
    assert found(tmp_path / "run") == alone(LONG)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # ray's own
def test_a_node_that_dies_is_replaced_by_another(alone, tmp_path):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node, lost = cluster.add_node(num_cpus=1), threading.Event()
        process = started(tmp_path / "run", LONG, "--executor", "ray", "--workers", "2", "--address", cluster.address)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        if process.poll() is None:
            cluster.remove_node(node, allow_graceful=False)
            lost.set()
            cluster.add_node(num_cpus=1)
        ended(process)
        assert lost.is_set()
        assert found(tmp_path / "run") == alone(LONG)
    finally:
        cluster.shutdown()
