"""Handling of Ctrl-C and SIGTERM: a graceful stop where work can be saved, otherwise immediate exit.

A command calls `watch_signals` before its heavy imports. A thread then receives both signals, so that they are handled
while the main thread compiles, waits for a lock, or runs a callback that swallows exceptions. Without an active
`Interruption` the process exits with a one-line message; within one, the first signal sets `received` and the second
exits. The module imports the standard library only, so that it is available before the heavy imports.

It also configures native logging, which must happen before jaxlib is imported.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Self

INTERRUPTED, TERMINATED = 130, 143
"""Exit status after Ctrl-C or SIGTERM outside of an `Interruption`."""

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
_STATUS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


_TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
"""Environment variables with the number of processes that srun or Open MPI's mpirun started."""


def started_with_others() -> bool:
    """Whether srun or mpirun started this process as one of several."""
    return any(int(os.environ.get(name) or 1) > 1 for name in _TASKS)


def quiet_native_logs() -> None:
    """Silences C++ logs of lost connections; must run before jaxlib is imported. A level set by the user is kept."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # what JAX sets itself
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


class Interruption:
    """Receives SIGTERM and SIGINT while active; a second signal has its default effect.

    Without `watch_signals` it installs signal handlers while active, in the main thread only: Python allows no handlers
    in other threads, where nothing is received.
    """

    def __init__(self, *, together: bool = False) -> None:
        """Creates an inactive receiver.

        Args:
          together: for multi-process programs: notifies JAX, which stops all processes at the same step
            (`emojax.parallel.stop_requested`), instead of setting `received`.
        """
        self._together = together
        self.received: signal.Signals | None = None
        self._asked = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Starts receiving signals."""
        if _watch.active:
            _watch.receivers.append(self)
        elif threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT,) if self._together else (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        """Restores the previous handlers."""
        if self in _watch.receivers:
            _watch.receivers.remove(self)
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def request(self, number: signal.Signals) -> bool:
        """Requests a stop; returns False if one was requested before."""
        if self._asked:
            return False
        self._asked = True
        if not self._together:
            self.received = number
        elif _watch.notify_jax is not None:
            _watch.notify_jax()
        else:  # SIGTERM goes to JAX
            os.kill(os.getpid(), signal.SIGTERM)
        return True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        for each, handler in self._previous.items():
            signal.signal(each, handler)
        self.request(signal.Signals(number))


class _Watch:
    """Process-wide state of signal handling."""

    def __init__(self) -> None:
        self.active = False
        self.program = ""
        self.receivers: list[Interruption] = []
        self.cleanups: list[Callable[[], None]] = []
        self.notify_jax: Callable[[], None] | None = None


_watch = _Watch()


def watch_signals(program: str = "") -> None:
    """Starts the thread that receives Ctrl-C and SIGTERM; called once by a command, in its main thread.

    Args:
      program: prefix of the message printed at exit.
    """
    if _watch.active:
        return
    _watch.active, _watch.program = True, program
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    for number in _NAMES:
        signal.signal(number, _ignore)
    threading.Thread(target=_receive, args=(reading, writing), name="emojax-signals", daemon=True).start()
    # Ctrl-C goes to the whole process group. It is blocked in this thread and in worker processes started from it, so
    # that only the receiving thread handles it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.register_at_fork(after_in_child=_reset_in_child)
    # Python's resource tracker frees the shared memory of workers killed at exit; its warning is suppressed.
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")


@contextlib.contextmanager
def cleaned_up(cleanup: Callable[[], None]) -> Iterator[None]:
    """Calls `cleanup` when the block ends, or when a signal ends the process within the block."""
    _watch.cleanups.append(cleanup)
    try:
        yield
    finally:
        _watch.cleanups.remove(cleanup)
        cleanup()


@contextlib.contextmanager
def sigterm_shared_with_jax() -> Iterator[None]:
    """Wraps `jax.distributed.initialize`, which installs a SIGTERM handler that would swallow the signal.

    Restores the handler of this module, and calls JAX's handler when an `Interruption` is active.
    """
    if not _watch.active:
        yield
        return
    libc = ctypes.CDLL(None)
    libc.signal.restype, libc.signal.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    ours = libc.signal(signal.SIGTERM, None)
    signal.signal(signal.SIGTERM, _ignore)
    try:
        yield
    finally:
        theirs = libc.signal(signal.SIGTERM, None)
        signal.signal(signal.SIGTERM, _ignore)
        if theirs and theirs != ours:
            handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(theirs)
            _watch.notify_jax = lambda: handler(signal.SIGTERM)


def end_process(status: int, message: str = "") -> None:
    """Ends this process and its worker processes immediately, from any thread, without running exit handlers.

    Args:
      status: exit status.
      message: one line for stderr.
    """
    if message:
        _write_line(message)
    for cleanup in reversed(_watch.cleanups):
        with contextlib.suppress(Exception):
            cleanup()
    multiprocessing = sys.modules.get("multiprocessing")
    with contextlib.suppress(Exception):
        for child in multiprocessing.active_children() if multiprocessing else ():
            child.kill()
    os._exit(status)


def _receive(reading: socket.socket, writing: socket.socket) -> None:
    """Runs the receiving thread; the reference to `writing` keeps the socket open."""
    while True:
        for number in reading.recv(64):
            if number in _STATUS:
                _handle_signal(signal.Signals(number))


def _handle_signal(number: signal.Signals) -> None:
    name = _NAMES[number]
    if not _watch.receivers:
        end_process(_STATUS[number], f"{_watch.program}stopped by {name}; the same command can be run again")
    elif not _watch.receivers[-1].request(number):
        end_process(_STATUS[number], f"{_watch.program}stopped at once by a second signal ({name})")


def _write_line(message: str) -> None:
    """Writes a line to stderr without Python's buffers, whose locks another thread may hold."""
    with contextlib.suppress(OSError, ValueError):
        beginning = "\n" if os.isatty(2) else ""  # the progress line has no line break
        if select.select((), (2,), (), 1.0)[1]:  # does not wait for a suspended terminal
            os.write(2, f"{beginning}{message}\n".encode())


def _ignore(number: int, frame: FrameType | None) -> None:
    """Does nothing; Python writes to the wakeup file descriptor only if a handler is set."""


def _reset_in_child() -> None:
    """Restores the default handlers in a forked child."""
    if _watch.active:
        _watch.active, _watch.receivers, _watch.cleanups = False, [], []
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
