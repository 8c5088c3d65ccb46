"""One process at a time writes in a workdir or store: a lock that tells who holds it, on local disks and over NFS.

The lock is a file, `.lock`, that names host and process. Where the file system has flock, the kernel says whether the
holder lives; elsewhere, and for a holder on another host, its sign of life does: the file's time, renewed while it
runs. Reading never needs the lock.
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
from emojax.parallel import first_decides
from emojax.workdir.files import CONFIG

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_BYTES = 4096
_BEAT_SECONDS = 20.0
_STALE_SECONDS = 180.0
"""A holder on another host that gave no sign of life for so long is dead."""

_SETTLE_SECONDS = 0.5
"""Without flock, two that take a stale lock at the same moment find out after so long."""

P = ParamSpec("P")
T = TypeVar("T")
_held: collections.Counter[Path] = collections.Counter()
"""Folders this process holds, and how many blocks deep."""


def holds(parameter: str, *, create: bool = True) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorates a function that writes in a folder: it holds the folder while it runs.

    Args:
      parameter: name of the function's argument that is the folder.
      create: as of `hold`.
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
    """Holds a folder for the processes of this program; may be nested.

    What killed processes left half-written in it is removed.

    Args:
      folder: of a run or store.
      create: create the folder if need be (and remove it again if nothing was written into it); without, a folder that
        is not there is not held.

    Raises:
      EmojaxError: another program holds it (the message names host and process), or it cannot be written. Of several
        processes, the first asks and all of them raise.
    """
    place = folder.absolute()
    if not place.exists() and not create:
        yield
        return
    with contextlib.ExitStack() as stack:
        if not _held[place]:
            first_decides(lambda: stack.enter_context(_locked(place)), f"{folder} is free")
        _held[place] += 1
        try:
            yield
        finally:
            _held[place] -= 1


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    if folder.exists() and not folder.is_dir():
        raise EmojaxError(f"{folder}: must be a folder, is a file")
    created = [place for place in (folder, *folder.parents) if not place.exists()]
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path)
    except OSError as error:
        raise EmojaxError(f"{folder}: cannot be written ({error.strerror})") from error
    own = os.pread(descriptor, _BYTES, 0)
    released = threading.Event()
    threading.Thread(target=_beat, args=(path, descriptor, own, released), daemon=True).start()

    def release() -> None:
        released.set()
        with contextlib.suppress(OSError):
            if path.read_bytes() == own:
                _remove_temporaries(folder)
                path.unlink()
        with contextlib.suppress(OSError):
            os.close(descriptor)
            for place in created:
                place.rmdir()

    with cleaned_up(release):
        _remove_temporaries(folder)
        yield


def _remove_temporaries(folder: Path) -> None:
    """Removes them from a folder of ours: somebody may have named another one by mistake."""
    ours = any((folder / name).exists() for name in (CONFIG, STORE))
    # Or of a process that was killed as it began.
    if ours or all(path.name == LOCK or is_temporary(path.name) for path in folder.iterdir()):
        remove_temporaries(folder)


def _acquire(path: Path) -> int:
    """Returns a descriptor of the lock file, which then names this process."""
    for _ in range(20):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            working = _flock(path, descriptor)
            # The holder before us removes the file at its end; a lock on a removed file protects nothing.
            if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.stat()):
                os.close(descriptor)
                continue
            _check_no_writer(path, descriptor, working)
            os.ftruncate(descriptor, 0)
            own = json.dumps(_this_process()).encode()
            os.pwrite(descriptor, own, 0)
            if not working:
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
    """Locks the file where the file system can; raises where another process has locked it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            return False  # ENOLCK, ENOTSUP: not on this file system
    for _ in range(20):  # until the holder, who may just have begun, has written who it is
        holder = _read(os.pread(descriptor, _BYTES, 0))
        if holder is not None:
            break
        time.sleep(0.05)
    raise _held_by(path, holder)


def _check_no_writer(path: Path, descriptor: int, flock_works: bool) -> None:
    """Raises where the process the file names may be alive although its lock could be taken."""
    holder, this = _read(os.pread(descriptor, _BYTES, 0)), _this_process()
    if holder is None:
        return
    same_kernel = holder["boot"] == this["boot"] if this["boot"] else holder["host"] == this["host"]
    # Within one kernel a lock that could be taken was nobody's. Without locks, the process is looked for.
    if same_kernel and (flock_works or (holder["host"] == this["host"] and not _lives(holder))):
        return
    # `utime` and `stat` both give the file server's clock.
    seen = os.fstat(descriptor).st_mtime
    os.utime(descriptor)
    age = os.fstat(descriptor).st_mtime - seen
    os.utime(descriptor, (seen, seen))
    if age < _STALE_SECONDS:
        raise _held_by(path, holder, age)


def _held_by(path: Path, holder: dict[str, Any] | None, age: float | None = None) -> EmojaxError:
    who = f"process {holder['pid']} on {holder['host']}" if holder else "another process"
    seen = ""
    if age is not None:
        seen = f"; its last sign of life was {max(age, 0):.0f} s ago, after {_STALE_SECONDS:.0f} s the folder is free"
    return EmojaxError(f"{path.parent}: {who} is writing there; wait for it, or use another folder{seen}")


def _this_process() -> dict[str, Any]:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "boot": boot.read_text().strip() if boot.exists() else "",
        "token": secrets.token_hex(8),  # tells apart two that take a lock at the same moment
    }


def _lives(holder: dict[str, Any]) -> bool:
    """Whether a process of this host is running, and not another one with the same number."""
    if Path("/proc/self/stat").exists():
        return _started(holder["pid"]) == holder["started"] != ""
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _started(pid: int) -> str:
    """When a process of this host started, in the kernel's ticks, "" where none has this number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _read(content: bytes) -> dict[str, Any] | None:
    """Who a lock file names; None where it is empty or damaged."""
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


def _beat(path: Path, descriptor: int, own: bytes, stopped: threading.Event) -> None:
    """Gives signs of life; a process that was suspended so long that another took the folder must not go on."""
    while not stopped.wait(_BEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(descriptor)
            found = path.read_bytes()
            if found != own and not stopped.is_set():
                taken = _held_by(path, _read(found))
                end_process(1, f"error: {taken} (this process was suspended for too long)")
