"""One writer at a time.

The lock is the operating system's (`flock`, on Windows that of a byte): it ends with its process, however that ends, so
a killed writer never has to be waited for and a live one is never robbed. The file's content is for people, and for one
case: a folder shared between machines, where `flock` may not reach. There, a lock that was not given back belongs to
whom it names.
"""

import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from saddlepoint.errors import RunError, reason

_FAR = 2**30
"""Of the byte that Windows locks, which nobody can read then: far behind what the file says."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock at `path`; the file stays, empty when nobody holds it, since removing it would let in two.

    Raises:
        RunError: another process holds it, or one on another machine did not give it back.
    """
    descriptor = _opened(path)
    try:
        _acquire(descriptor, path)
        _take(descriptor, path)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    """Return the lock's descriptor; it is going to be emptied, so it must be a file of this folder and no other."""
    # No link and no pipe: emptying the one destroys another file, opening the other waits for ever.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags, 0o644)
    except OSError as error:
        raise RunError(f"cannot open the lock {str(path)!r} ({reason(error)}); pass another folder") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise RunError(f"the lock {str(path)!r} is a link to another file, or none at all; remove it")
    return descriptor


def _acquire(descriptor: int, path: Path) -> None:
    try:
        _lock(descriptor)
    except (BlockingIOError, PermissionError):
        raise RunError(
            f"{str(path.parent)!r} is being written by {_named(_holder(descriptor))}; wait until it ends, or "
            "pass another folder"
        ) from None
    except OSError as error:
        raise RunError(f"{str(path)!r} cannot be locked ({reason(error)}); pass a folder on another disk") from None


def _lock(descriptor: int) -> None:
    """Lock, or raise BlockingIOError (Windows: PermissionError) where another process does."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _take(descriptor: int, path: Path) -> None:
    """Write our name, unless a holder that may be alive where `flock` does not reach is named."""
    holder, mine = _holder(descriptor), _here()
    if holder and holder.get("host") != mine["host"] and holder.get("boot") != mine["boot"]:
        raise RunError(
            f"{str(path.parent)!r} was being written by {_named(holder)}; if that has ended, remove {str(path)!r}"
        )
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps(mine).encode())


def _here() -> dict[str, Any]:
    # Containers of one machine have many names and one boot.
    boot = _BOOT.read_text().strip() if _BOOT.exists() else socket.gethostname()
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return {"host": socket.gethostname(), "boot": boot, "pid": os.getpid(), "started": started}


def _holder(descriptor: int) -> dict[str, Any]:
    """Return what the lock says; nothing when it is empty or torn."""
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        content = json.loads(os.read(descriptor, 4096))
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _named(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    host, pid, started = (f"{holder.get(key)!s:.60}" for key in ("host", "pid", "started"))
    return " ".join(f"process {pid} on {host} since {started}".split())
