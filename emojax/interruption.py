"""Ctrl-C and SIGTERM: a request to stop at the next step where work can be saved, elsewhere the end of the process.

A command calls `watch_signals` before its heavy imports. From then on a thread receives the two signals, so that they
are answered while the main thread compiles, waits for a lock, or runs a callback that swallows exceptions. Where no
`Interruption` is active the process ends with one line; within one, the first signal sets `received` and the second
ends the process. Imports of the standard library only, for the same reason.

Beside it, what a command sets up at the same moment: native logs, before jaxlib is imported.
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
"""Exit status of a process that Ctrl-C or SIGTERM ended before there was anything to save."""

_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}
_STATUS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


_TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
"""Variables in which srun and Open MPI's mpirun give the number of processes they started."""


def started_with_others() -> bool:
    """Whether srun or mpirun started this process as one of several."""
    return any(int(os.environ.get(name) or 1) > 1 for name in _TASKS)


def quiet_native_logs() -> None:
    """Turns off what C++ logs of lost connections, before jaxlib is imported; a level the user has set stays."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # what JAX sets itself
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


class Interruption:
    """Receives SIGTERM and SIGINT while active; a second signal acts as if nobody received it.

    Outside of commands (no `watch_signals`) it replaces the signal handlers while active, in the main thread; in
    another thread, where Python allows no handlers, nothing is ever received.
    """

    def __init__(self, *, together: bool = False) -> None:
        """Does nothing before it is entered.

        Args:
          together: of several processes that stop together: JAX is notified, which stops all of them
            (`emojax.parallel.all_should_stop`); nothing is ever `received`.
        """
        self._together = together
        self.received: signal.Signals | None = None
        self._asked = False
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Starts receiving."""
        if _watch.active:
            _watch.receivers.append(self)
        elif threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT,) if self._together else (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        """Gives the signals back."""
        if self in _watch.receivers:
            _watch.receivers.remove(self)
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def request(self, number: signal.Signals) -> bool:
        """Asks for a stop; returns False where that was asked before."""
        if self._asked:
            return False
        self._asked = True
        if not self._together:
            self.received = number
        elif _watch.tell_jax is not None:
            _watch.tell_jax()
        else:  # SIGTERM goes to JAX
            os.kill(os.getpid(), signal.SIGTERM)
        return True

    def _handle(self, number: int, frame: FrameType | None) -> None:
        for each, handler in self._previous.items():
            signal.signal(each, handler)
        self.request(signal.Signals(number))


class _Watch:
    """Whether signals are watched, and for whom."""

    def __init__(self) -> None:
        self.active = False
        self.program = ""
        self.receivers: list[Interruption] = []
        self.cleanups: list[Callable[[], None]] = []
        self.tell_jax: Callable[[], None] | None = None


_watch = _Watch()


def watch_signals(program: str = "") -> None:
    """Receives Ctrl-C and SIGTERM from now on until the process ends; for commands, called in their main thread.

    Args:
      program: named at the beginning of the line that tells of the end.
    """
    if _watch.active:
        return
    _watch.active, _watch.program = True, program
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    for number in _NAMES:
        signal.signal(number, _nothing)
    threading.Thread(target=_receive, args=(reading, writing), name="emojax-signals", daemon=True).start()
    # Ctrl-C goes to the whole process group. Blocked here and in what is started from here, it is received by the
    # thread alone, and worker processes leave the answer to this one.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.register_at_fork(after_in_child=_forget)
    # Shared memory of workers that end with this process is freed by Python's tracker; it need not tell so.
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")


@contextlib.contextmanager
def cleaned_up(cleanup: Callable[[], None]) -> Iterator[None]:
    """Calls `cleanup` when the block ends, and also where a signal ends the process within the block."""
    _watch.cleanups.append(cleanup)
    try:
        yield
    finally:
        _watch.cleanups.remove(cleanup)
        cleanup()


@contextlib.contextmanager
def sigterm_shared_with_jax() -> Iterator[None]:
    """Around `jax.distributed.initialize`, which takes SIGTERM for itself and would swallow it outside of training.

    Signals then come here first, and JAX's handler is called where an `Interruption` is active.
    """
    if not _watch.active:
        yield
        return
    libc = ctypes.CDLL(None)
    libc.signal.restype, libc.signal.argtypes = ctypes.c_void_p, (ctypes.c_int, ctypes.c_void_p)
    ours = libc.signal(signal.SIGTERM, None)
    signal.signal(signal.SIGTERM, _nothing)
    try:
        yield
    finally:
        theirs = libc.signal(signal.SIGTERM, None)
        signal.signal(signal.SIGTERM, _nothing)
        if theirs and theirs != ours:
            handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(theirs)
            _watch.tell_jax = lambda: handler(signal.SIGTERM)


def end_process(status: int, message: str = "") -> None:
    """Ends this process and its worker processes now, from any thread: no other thread and no exit handler is run.

    Args:
      status: exit status.
      message: one line for stderr.
    """
    if message:
        _tell(message)
    for cleanup in reversed(_watch.cleanups):
        with contextlib.suppress(Exception):
            cleanup()
    multiprocessing = sys.modules.get("multiprocessing")
    with contextlib.suppress(Exception):
        for child in multiprocessing.active_children() if multiprocessing else ():
            child.kill()
    os._exit(status)


def _receive(reading: socket.socket, writing: socket.socket) -> None:
    """The thread; it holds `writing` so that the socket stays open."""
    while True:
        for number in reading.recv(64):
            if number in _STATUS:
                _answer(signal.Signals(number))


def _answer(number: signal.Signals) -> None:
    name = _NAMES[number]
    if not _watch.receivers:
        end_process(_STATUS[number], f"{_watch.program}stopped by {name}; the same command can be run again")
    elif not _watch.receivers[-1].request(number):
        end_process(_STATUS[number], f"{_watch.program}stopped at once by a second signal ({name})")


def _tell(message: str) -> None:
    """Writes a line to stderr, past Python's buffers, whose locks another thread may hold."""
    with contextlib.suppress(OSError, ValueError):
        beginning = "\n" if os.isatty(2) else ""  # a progress bar has no line break
        if select.select((), (2,), (), 1.0)[1]:  # a terminal that was stopped is not waited for
            os.write(2, f"{beginning}{message}\n".encode())


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler must be there for the thread to receive a signal."""


def _forget() -> None:
    """A forked child does not answer for its parent."""
    if _watch.active:
        _watch.active, _watch.receivers, _watch.cleanups = False, [], []
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
