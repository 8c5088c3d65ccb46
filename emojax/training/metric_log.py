"""Writes numbers of a run where people and programs look: metrics.jsonl and TensorBoard events."""

import contextlib
import json
from pathlib import Path
from typing import Self

from emojax.errors import TrainingError
from emojax.files import atomic_write, write_all
from emojax.training.event_file import EventFile
from emojax.workdir import METRICS, check_inside, read_metric_records

TENSORBOARD = "tensorboard"
"""Folder of a workdir with the event files."""


class MetricLog:
    """Appends scalars by step; a context manager.

    A resumed run first drops what was logged after the checkpoint it continues from, and lines that are no records,
    so that the file reads like that of a run without interruption.
    """

    def __init__(self, workdir: Path, resume_step: int, *, writing: bool = True):
        """Opens the log of a workdir at a step (0 for a fresh run); without `writing`, it does nothing.

        Raises:
          TrainingError: a file cannot be read or written.
          CheckpointError: a file or folder is a link that leads out of the workdir.
        """
        self._writing = writing
        if not writing:
            return
        self._path, events = workdir / METRICS, workdir / TENSORBOARD
        for path in (self._path, events):
            check_inside(workdir, path)
        try:
            _drop_after(self._path, resume_step)
            # Without a buffer: what a full disk refused is not tried again, with a traceback, when the file is closed.
            self._lines = self._path.open("ab", buffering=0)
            self._events = EventFile(events, resume_step + 1)
        except OSError as error:
            raise TrainingError(f"{error.filename or events}: cannot be written ({error.strerror})") from error

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes the files."""
        for file in (self._lines, self._events) if self._writing else ():
            with contextlib.suppress(OSError):  # nothing is left to be written
                file.close()

    def write(self, step: int, epoch: int, scalars: dict[str, float]) -> None:
        """Logs scalars of a step, e.g. `{"train/loss": 0.6}`; they are in the files when it returns.

        Raises:
          TrainingError: a file cannot be written (full disk).
        """
        if not self._writing:
            return
        path = self._path
        try:
            write_all(self._lines, (json.dumps({"step": step, "epoch": epoch, **scalars}) + "\n").encode())
            path = self._events.path
            self._events.write(step, scalars)
        except OSError as error:
            raise TrainingError(f"{path}: cannot be written ({error.strerror})") from error


def _drop_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = [line + b"\n" for line, record in read_metric_records(path) if record["step"] <= step]
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"".join(kept))
