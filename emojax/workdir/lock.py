"""Write lock of a workdir or feature store, on local disks and NFS.

The lock is a file, `.lock`, with host and process id of its holder. Where the file system supports flock, the kernel
detects whether the holder is alive; elsewhere, and for a holder on another host, a heartbeat does: the modification
time of the file, renewed while the holder runs. Reading needs no lock.
"""

import collections
import contextlib
import errno
import functools
import inspect
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from emojax.errors import EmojaxError
from emojax.feature_store.layout import STORE
from emojax.files import LOCK, is_temporary, remove_temporaries
from emojax.interruption import cleaned_up, end_process
from emojax.parallel import run_on_first_process
from emojax.workdir.files import CONFIG

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_BYTES = 4096
_HEARTBEAT_SECONDS = 20.0
_STALE_SECONDS = 180.0
"""Age of the last heartbeat after which a holder on another host is considered dead."""

_SETTLE_SECONDS = 0.5
"""Without flock, delay after which two processes that take a stale lock concurrently detect each other."""

P = ParamSpec("P")
T = TypeVar("T")
_held: collections.Counter[Path] = collections.Counter()
"""Nesting depth of the locks that this process holds, by folder."""


def holds(parameter: str, *, create: bool = True) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorates a function that writes in a folder to hold the folder's lock while it runs.

    Args:
      parameter: name of the function's argument with the folder.
      create: see `hold`.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def holding(*args: P.args, **kwargs: P.kwargs) -> T:
            with hold(Path(signature.bind(*args, **kwargs).arguments[parameter]), create=create):
                return function(*args, **kwargs)

        return holding

    return decorate


@contextlib.contextmanager
def hold(folder: Path, *, create: bool = True) -> Iterator[None]:
    """Holds the lock of a folder for all processes of this program; may be nested.

    Removes temporary files that killed processes left.

    Args:
      folder: folder of a run or feature store.
      create: create an absent folder (and remove it again if nothing was written into it); otherwise an absent folder
        is not locked.

    Raises:
      EmojaxError: another program holds the lock (the message names host and process), or the folder cannot be
        written. The first process acquires the lock; on failure all processes raise.
    """
    absolute = folder.absolute()
    if not absolute.exists() and not create:
        yield
        return
    with contextlib.ExitStack() as stack:
        if not _held[absolute]:
            run_on_first_process(lambda: stack.enter_context(_locked(absolute)), f"{folder} is locked")
        _held[absolute] += 1
        try:
            yield
        finally:
            _held[absolute] -= 1


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if folder.exists() and not folder.is_dir():
        raise EmojaxError(f"{folder}: must be a folder, got a file")
    created = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path)
    except OSError as error:
        raise EmojaxError(f"{folder}: cannot be written ({error.strerror})") from error
    own = os.pread(descriptor, _BYTES, 0)
    released = threading.Event()
    threading.Thread(target=_renew_heartbeat, args=(path, descriptor, own, released), daemon=True).start()

    def release() -> None:
        released.set()
        with contextlib.suppress(OSError):
            if path.read_bytes() == own:
                _remove_temporaries(folder)
                path.unlink()
        with contextlib.suppress(OSError):
            os.close(descriptor)
            for parent in created:
                parent.rmdir()

    with cleaned_up(release):
        _remove_temporaries(folder)
        yield


def _remove_temporaries(folder: Path) -> None:
    """Removes temporary files from a workdir or store, but not from other folders, named by mistake."""
    is_run_or_store = any((folder / name).exists() for name in (CONFIG, STORE))
    # The folder of a process that was killed at its start has neither file.
    if is_run_or_store or all(path.name == LOCK or is_temporary(path.name) for path in folder.iterdir()):
        remove_temporaries(folder)


def _acquire(path: Path) -> int:
    """Acquires the lock; returns a descriptor of the lock file."""
    for _ in range(20):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            flock_works = _flock(path, descriptor)
            # The previous holder removes the file when it releases the lock; a lock on a removed file is void.
            if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.stat()):
                os.close(descriptor)
                continue
            _check_no_writer(path, descriptor, flock_works)
            os.ftruncate(descriptor, 0)
            own = json.dumps(_this_process()).encode()
            os.pwrite(descriptor, own, 0)
            if not flock_works:
                time.sleep(_SETTLE_SECONDS)
                if path.read_bytes() != own:
                    raise _held_by(path, _read(path.read_bytes()))
            return descriptor
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            raise
    raise _held_by(path, None)


def _flock(path: Path, descriptor: int) -> bool:
    """Locks the file; returns False if the file system has no locks, raises if another process holds the lock."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            return False  # ENOLCK, ENOTSUP: not supported by this file system
    for _ in range(20):  # until the holder, which may just have started, has written its id
        holder = _read(os.pread(descriptor, _BYTES, 0))
        if holder is not None:
            break
        time.sleep(0.05)
    raise _held_by(path, holder)


def _check_no_writer(path: Path, descriptor: int, flock_works: bool) -> None:
    """Raises if the process named in the file may be alive although its lock could be acquired."""
    holder, this = _read(os.pread(descriptor, _BYTES, 0)), _this_process()
    if holder is None:
        return
    same_kernel = holder["boot"] == this["boot"] if this["boot"] else holder["host"] == this["host"]
    # Within one kernel, a lock that could be acquired was free. Without flock, the process is looked up.
    if same_kernel and (flock_works or (holder["host"] == this["host"] and not _is_alive(holder))):
        return
    # `utime` and `stat` both use the clock of the file server.
    seen = os.fstat(descriptor).st_mtime
    os.utime(descriptor)
    age = os.fstat(descriptor).st_mtime - seen
    os.utime(descriptor, (seen, seen))
    if age < _STALE_SECONDS:
        raise _held_by(path, holder, age)


def _held_by(path: Path, holder: dict[str, Any] | None, age: float | None = None) -> EmojaxError:
    process = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
    heartbeat = ""
    if age is not None:
        heartbeat = f"; its last heartbeat was {max(age, 0):.0f} s ago, the lock expires after {_STALE_SECONDS:.0f} s"
    return EmojaxError(f"{path.parent}: {process} is writing there; wait for it, or use another folder{heartbeat}")


def _this_process() -> dict[str, Any]:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _start_time(os.getpid()),
        "boot": boot.read_text().strip() if boot.exists() else "",
        "token": secrets.token_hex(8),  # distinguishes processes that take a stale lock concurrently
    }


def _is_alive(holder: dict[str, Any]) -> bool:
    """Whether a process of this host is running, and is not another one with the same id."""
    if Path("/proc/self/stat").exists():
        return _start_time(holder["pid"]) == holder["started"] != ""
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _start_time(pid: int) -> str:
    """Returns the start time of a process of this host in kernel ticks; "" if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _read(content: bytes) -> dict[str, Any] | None:
    """Parses the content of a lock file; None if it is empty or damaged."""
    try:
        found = json.loads(content)
        return {
            "host": str(found["host"])[:100],
            "pid": int(found["pid"]),
            "started": str(found["started"]),
            "boot": str(found["boot"]),
        }
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _renew_heartbeat(path: Path, descriptor: int, own: bytes, stopped: threading.Event) -> None:
    """Renews the heartbeat; ends the process if it was suspended so long that another one took the lock."""
    while not stopped.wait(_HEARTBEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(descriptor)
            found = path.read_bytes()
            if found != own and not stopped.is_set():
                error = _held_by(path, _read(found))
                end_process(1, f"error: {error} (this process was suspended for too long)")
