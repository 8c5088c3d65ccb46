"""Atomic builds: a corpus is built in a staging folder and renamed when complete."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from emojax.errors import CorpusError
from emojax.interruption import cleaned_up

_SECONDS_FOR_WORKERS_TO_END = 5.0


@contextlib.contextmanager
def staging_directory(data_dir: Path, name: str) -> Iterator[Path]:
    """Creates a locked empty folder in `data_dir` for a build of `name`, and removes it at the end.

    A killed process leaves `.NAME.building`, which readers ignore and the next build of `name` clears.

    Raises:
      CorpusError: another process is building `name`, or `data_dir` cannot be written.
    """
    directory = data_dir / f".{name}.building"
    try:
        lock = _lock(directory)
    except BlockingIOError as error:
        raise CorpusError(f"{name} is being built in {data_dir} by another process") from error
    except OSError as error:
        raise CorpusError(f"{data_dir}: cannot be written ({error.strerror})") from error

    def remove() -> None:
        for _ in range(3):  # a signal may end the process while another thread writes here
            shutil.rmtree(directory, ignore_errors=True)
        os.close(lock)

    with cleaned_up(remove):
        for leftover in directory.iterdir():
            shutil.rmtree(leftover)
        yield directory


def move_into_place(built: Path, target: Path, retired: Path) -> None:
    """Renames a complete folder to `target`; an existing one is moved to `retired`, and restored on failure."""
    target.parent.mkdir(parents=True, exist_ok=True)

    def restore() -> None:
        if retired.exists() and not target.exists():
            retired.rename(target)

    with cleaned_up(restore):
        if target.exists():
            target.rename(retired)
        built.rename(target)


def _lock(directory: Path) -> int:
    """Locks the folder; the system releases the lock when the process ends.

    Worker processes of a killed build hold its lock for a short time, which this function waits for.
    """
    deadline = time.monotonic() + _SECONDS_FOR_WORKERS_TO_END
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The previous holder removes its folder when it ends; a lock on a removed folder is void.
            if directory.exists() and os.path.samestat(os.fstat(descriptor), directory.stat()):
                return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise
            time.sleep(0.1)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
