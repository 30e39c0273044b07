"""Killed anywhere, run again: the rows, the points and the summary are those of an undisturbed run."""

import subprocess
import sys
from pathlib import Path

from results import specimens
from saddlepoint.results import check_run


def run(how, folder, argument):
    command = [sys.executable, str(Path(specimens.__file__)), how, str(folder), str(argument)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_killed_at_random_moments(tmp_path):
    assert run("random", tmp_path / "run", 0) > 2
    specimens.attack(tmp_path / "undisturbed", 60, 2)
    assert specimens.content(tmp_path / "run") == specimens.content(tmp_path / "undisturbed")
    assert check_run(tmp_path / "run") == []


def test_killed_before_every_file_operation(tmp_path):
    assert run("everywhere", tmp_path, 1) > 20
