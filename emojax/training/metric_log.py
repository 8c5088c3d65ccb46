"""Writes metrics of a run: metrics.jsonl and TensorBoard events, synchronously."""

import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from emojax.errors import TrainingError
from emojax.files import atomic_write, write_all
from emojax.workdir import METRICS, check_inside, read_metric_records


class EventFile:
    """One new event file of a run; every write is complete when it returns."""

    def __init__(self, folder: Path, first_step: int):
        """Creates a file that TensorBoard reads.

        Args:
          folder: with the event files of the run; created if need be.
          first_step: TensorBoard drops what earlier files hold of this step and later ones.

        Raises:
          OSError: it cannot be written.
        """
        from tensorboardX.proto import event_pb2

        folder.mkdir(parents=True, exist_ok=True)
        # As TensorFlow names them; the process id keeps two starts within one second apart.
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / name
        self._file = self.path.open("ab", buffering=0)
        self._write(event_pb2.Event(file_version="brain.Event:2"))
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._write(event_pb2.Event(step=first_step, session_log=start))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars of a step.

        Raises:
          OSError: they cannot be written (full disk).
        """
        from tensorboardX.proto import event_pb2, summary_pb2

        values = [summary_pb2.Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._write(event_pb2.Event(step=step, summary=summary_pb2.Summary(value=values)))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _write(self, event) -> None:
        event.wall_time = time.time()
        write_all(self._file, _record(event.SerializeToString()))


def _record(data: bytes) -> bytes:
    """Frames data as a TFRecord: length, its checksum, data, its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


TENSORBOARD = "tensorboard"
"""Folder of a workdir with the event files."""


class MetricLog:
    """Appends scalars by step; a context manager.

    A continued run first removes what was logged after its checkpoint, and lines that are no records, so that the file
    is that of a run without interruption.
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
