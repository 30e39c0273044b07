"""What befalls a machine ends a session with one line and costs no record: the same command comes to the same end."""

import errno
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest

from saddlepoint.cli.main import main
from saddlepoint.results.folder.lock import locked

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x):
        if len(x) > 32:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return self.net(x)
"""


@pytest.fixture
def task(tmp_path):
    """The flags of a small evaluation, but for its folder."""
    model, draw = tmp_path / "model.py", np.random.default_rng(0)
    model.write_text(MODEL)
    np.savez(tmp_path / "data.npz", x=draw.random((40, 1, 8, 8), np.float32), y=draw.integers(0, 4, 40))
    where = ["--model", f"{model}:Net", "--data", f"npz:{tmp_path / 'data.npz'}", "--no-checks"]
    return [*where, "--eps", "0.02", "0.1", "--suite", "pgd", "--batch-size", "8"]


def evaluated(task, out):
    """Evaluate to the end; return the summary's bytes."""
    assert main(["evaluate", *task, "--out", str(out)]) == 0
    return (out / "summary.json").read_bytes()


def line(capsys):
    """Return the one line that was printed as an error."""
    told = [each for each in capsys.readouterr().err.splitlines() if each.startswith("saddlepoint: ")]
    assert len(told) == 1
    return told[0]


@pytest.mark.parametrize("after", [0, 3, 9])
def test_a_full_disk_is_one_line_and_the_same_command_goes_on(after, task, tmp_path, monkeypatch, capsys):
    due, real, left = evaluated(task, tmp_path / "whole"), os.fsync, [after]

    def full(descriptor):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main(["evaluate", *task, "--out", str(tmp_path / "run")]) == 2
    assert "No space left on device" in line(capsys)
    assert evaluated(task, tmp_path / "run") == due
    assert not list((tmp_path / "run").rglob("*.part"))


def test_a_folder_that_cannot_be_written_is_one_line(task, tmp_path, monkeypatch, capsys):
    def refused(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refused)
        assert main(["evaluate", *task, "--out", str(tmp_path / "run")]) == 2
    told = line(capsys)
    assert "Read-only file system" in told
    assert str(tmp_path / "run") in told


def test_too_little_memory_names_a_smaller_batch_and_that_works(task, tmp_path, capsys):
    assert main(["evaluate", *task, "--batch-size", "40", "--out", str(tmp_path / "run")]) == 2
    assert "out of memory; expected smaller batches: pass a smaller --batch-size" in line(capsys)
    evaluated(task, tmp_path / "small")


def test_two_evaluations_cannot_write_one_folder(task, tmp_path, capsys):
    due = evaluated(task, tmp_path / "run")
    with locked(tmp_path / "run" / "lock"):
        assert main(["evaluate", *task, "--out", str(tmp_path / "run")]) == 2
    assert f"is being written by process {os.getpid()}" in line(capsys)
    assert evaluated(task, tmp_path / "run") == due


def test_clocks_that_jump_change_no_record(task, tmp_path, monkeypatch):
    due, chance, ahead = evaluated(task, tmp_path / "whole"), random.Random(0), [0.0]
    wall, steady, fine = time.time, time.monotonic, time.perf_counter

    def leaping(clock):
        def now():
            ahead[0] += chance.choice((0, 0, 0, 3600.0))  # a laptop that sleeps
            return clock() + ahead[0]

        return now

    monkeypatch.setattr(time, "time", lambda: wall() + chance.uniform(-1e6, 1e6))
    monkeypatch.setattr(time, "monotonic", leaping(steady))
    monkeypatch.setattr(time, "perf_counter", leaping(fine))
    assert evaluated(task, tmp_path / "run") == due
