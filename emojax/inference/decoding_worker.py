"""A process that decodes files: its tasks, its events, and what is left of them if it ends."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import socket
import threading
from multiprocessing.connection import Connection, wait
from typing import Any

from emojax.inference.reading import End, Event, Failure, Reading, read_clips
from emojax.inference.sources import Clip
from emojax.parallel import keep_freed_memory

_SENT_BYTES = 1 << 20
"""Bytes of a clip that a process has sent and that were not received; systems may allow fewer."""

Task = list[tuple[int, Clip]]
"""Clips of one file with their numbers."""


class Worker:
    """One process, and what it reads.

    Attributes:
      connection: connection to the process.
      task: clips that it reads; None: none.
    """

    def __init__(self, context: Any, inherited: list[Connection]):
        self.connection, other = context.Pipe()
        _hold_a_clip(other)
        own = [self.connection] if context.get_start_method() == "fork" else []
        self._process = context.Process(target=serve, args=(other, [*inherited, *own]), daemon=True)
        self._process.start()
        other.close()
        self.task: Task | None = None
        self._finished: set[int] = set()

    def give(self, task: Task | None, reading: Reading) -> None:
        """Sends a task, if there is one."""
        self.task, self._finished = task, set()
        if task is not None:
            with contextlib.suppress(OSError):  # a process that has ended is found when its events are received
                self.connection.send(([(n, dataclasses.replace(clip, transcript=None)) for n, clip in task], reading))

    def receive(self) -> Event | None:
        """The next event of the task; None at its end."""
        event = self.connection.recv()
        if isinstance(event, End | Failure):
            self._finished.add(event.clip)
        return event

    def failures(self) -> list[Failure]:
        """Failures of the clips that a process that has ended did not finish."""
        self._process.join()
        self.connection.close()
        code = self._process.exitcode or 0
        how = f"signal {-code}" if code < 0 else f"status {code}"
        message = f"cannot be read as audio (the process that decoded it ended with {how})"
        left = [(n, clip) for n, clip in self.task or () if n not in self._finished]
        return [Failure(n, f"{clip.name}: {message}") for n, clip in left]

    def stop(self) -> None:
        """Ends the process."""
        self.connection.close()
        self._process.join(0.2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _hold_a_clip(connection: Connection) -> None:
    """Lets the socket of a connection hold a clip of seconds, so that sending one does not wait for its reader."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT_BYTES)


def serve(connection: Connection, inherited: list[Connection]) -> None:
    """Runs a worker process, which ends when the other side closes the connection or ends.

    Args:
      connection: connection to the process that gives tasks.
      inherited: copies of that process's ends of connections, which would keep them open.
    """
    for each in inherited:
        each.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes of a terminal
    keep_freed_memory()
    threading.Thread(target=end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            task, reading = connection.recv()
            for event in read_clips(task, reading):
                connection.send(event)
            connection.send(None)


def end_with_parent() -> None:
    """Ends this process with the one that started it, also while a file system does not answer."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
