"""TensorBoard event files, written synchronously: a write that fails is an error of the run, not of a hidden thread.

`tensorboardX.SummaryWriter` writes in a thread; when that dies of a full disk its queue fills up and training waits for
ever. Its protocol buffers and checksum are used here without the thread.
"""

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from emojax.files import write_all


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
