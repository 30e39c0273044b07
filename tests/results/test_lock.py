"""One writer at a time: a live one is never robbed, a dead one never waited for."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from results.specimens import SPEC, point, record
from saddlepoint.results import RunError, open_run, writing

HOLD = """
import sys
from saddlepoint.results import writing
with writing(sys.argv[1], {"attack": "PGD()", "seed": 0}, {}, "all"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder):
    command = [sys.executable, "-c", HOLD, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def write(folder):
    with writing(folder, SPEC, {}, "all") as run:
        run.add(record(0), point(0))


def test_a_second_writer_is_told_who_holds_the_folder(tmp_path):
    with holder(tmp_path) as process:
        for _ in range(2):
            with pytest.raises(RunError, match=rf"is being written by process {process.pid} on .* since 20.*; wait"):
                write(tmp_path)
        assert open_run(tmp_path).rows().num_rows == 0  # readers are free
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert json.loads((tmp_path / "lock").read_bytes())["pid"] == process.pid  # it could not give it back
        write(tmp_path)
    assert (tmp_path / "lock").read_bytes() == b""


def test_a_second_writer_in_the_same_process_is_refused(tmp_path):
    with writing(tmp_path, SPEC, {}, "all"), pytest.raises(RunError, match="is being written by process"):
        write(tmp_path)
    write(tmp_path)


def test_where_bytes_are_locked_as_on_windows_a_second_writer_is_refused(tmp_path, monkeypatch):
    """The branch that has no `flock`, with what Windows would answer; the far byte leaves the name readable."""
    at = []

    def locking(descriptor, mode, count):
        at.append((os.lseek(descriptor, 0, os.SEEK_CUR), mode, count))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(13, "Permission denied") from None

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2))
    with (
        writing(tmp_path, SPEC, {}, "all"),
        pytest.raises(RunError, match=f"is being written by process {os.getpid()}"),
    ):
        write(tmp_path)
    write(tmp_path)
    assert set(at) == {(2**30, 2, 1)}
    assert (tmp_path / "lock").read_bytes() == b""


@pytest.mark.parametrize("left", [b"", b"{", b"\xff", b"[1]", b"[" * 5000, b'{"host": 3, "boot": ', b"\0" * 99])
def test_a_torn_lock_is_taken(tmp_path, left):
    write(tmp_path)
    (tmp_path / "lock").write_bytes(left)
    with writing(tmp_path, SPEC, {}, "all"):
        assert json.loads((tmp_path / "lock").read_bytes())["pid"]


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_a_lock_that_leads_elsewhere_is_refused_and_its_target_left_alone(tmp_path, link):
    precious, folder = tmp_path / "precious", tmp_path / "run"
    precious.write_text("precious")
    folder.mkdir()
    getattr(folder / "lock", link)(precious)
    with pytest.raises(RunError, match="the lock '.*lock'"):
        write(folder)
    assert precious.read_text() == "precious"


def test_a_lock_of_another_machine_is_not_stolen(tmp_path):
    write(tmp_path)
    (tmp_path / "lock").write_text('{"host": "far\\naway", "boot": "b", "pid": 7, "started": "2026-01-01"}')
    with pytest.raises(RunError, match=r"process 7 on far away since 2026-01-01; if that has ended, remove '.*lock'"):
        write(tmp_path)
    (tmp_path / "lock").unlink()
    with writing(tmp_path, SPEC, {}, "all"):
        pass
