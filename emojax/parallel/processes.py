"""Multi-process programs: joining, collective decisions, and detection of lost processes."""

import contextlib
import ctypes
import functools
import importlib.util
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
from jax.experimental import multihost_utils

from emojax.errors import ConfigError, EmojaxError
from emojax.interruption import end_process, sigterm_shared_with_jax, started_with_others

LOST = "error: another process was lost; run the same command again on all of them to continue"

_MESSAGE_BYTES = 1024
"""Longest error message that one process sends to the others."""

_TPU_DEVICES = ("/dev/accel0", "/dev/vfio/0")
"""Device files of a machine with a TPU."""

_BAD_CAST = b"St8bad_cast"
_CALLBACKS: list[Any] = []
"""References to callbacks held by C++."""


def join_processes(
    coordinator: str = "",
    num_processes: int = 0,
    process_id: int = -1,
    *,
    join_seconds: int = 300,
    heartbeat_seconds: int = 100,
) -> None:
    """Joins the other processes of this program, if any; must be called before JAX initialises its devices.

    Without arguments, processes started by srun or mpirun and the hosts of a TPU slice are detected; otherwise the
    process runs alone.

    Args:
      coordinator: HOST:PORT of process 0, reachable by the other processes.
      num_processes: number of processes.
      process_id: index of this process, from 0.
      join_seconds: timeout for joining (s).
      heartbeat_seconds: time without heartbeat after which a process is considered lost, and the others stop (s).

    Raises:
      ConfigError: some of the first three arguments are missing or invalid.
      EmojaxError: the coordinator cannot be reached.
    """
    given = (bool(coordinator), num_processes > 0, process_id >= 0)
    if any(given) and not all(given):
        raise ConfigError("--coordinator, --num_processes and --process_id must be given together, or none of them")
    if not any(given) and not _started_with_others():
        return
    explicit: dict[str, Any] = {}
    if any(given):
        explicit = {"coordinator_address": coordinator, "num_processes": num_processes, "process_id": process_id}
        host, port = _address(coordinator)
        if process_id >= num_processes:
            raise ConfigError(f"--process_id must be < --num_processes ({num_processes}), got {process_id}")
        context = f"process {process_id} of {num_processes}, coordinator {coordinator}"
        print(f"{context}: waiting up to {join_seconds} s for the others", file=sys.stderr, flush=True)
        if process_id:
            _wait_for_listener(host, port, join_seconds, context)
    try:
        with sigterm_shared_with_jax(), exit_when_process_lost():
            jax.distributed.initialize(
                **explicit, initialization_timeout=join_seconds, heartbeat_timeout_seconds=heartbeat_seconds
            )
    except ValueError:
        if explicit:
            raise
        return  # a single machine with a TPU


def _address(coordinator: str) -> tuple[str, int]:
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 2**16):
        raise ConfigError(f"--coordinator must be HOST:PORT, got {coordinator!r}")
    return host, int(port)


def _wait_for_listener(host: str, port: int, seconds: float, context: str) -> None:
    """Waits until the coordinator accepts connections; JAX itself aborts without an understandable message."""
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise EmojaxError(f"{context}: cannot be reached after {seconds} s ({error})") from error
            time.sleep(0.2)


def _started_with_others() -> bool:
    if started_with_others():
        return True
    return any(Path(path).exists() for path in _TPU_DEVICES) and importlib.util.find_spec("libtpu") is not None


@contextlib.contextmanager
def exit_when_process_lost() -> Iterator[None]:
    """Wraps `jax.distributed.initialize` so that the loss of a process ends this one with a one-line message.

    JAX reports a lost process by a missed heartbeat or, in some versions, by a C++ exception (`std::bad_cast`) in one
    of its threads, which would abort the process with a trace.
    """
    from jax._src.lib import _jax

    name = "get_distributed_runtime_client"
    client = getattr(_jax, name, None)
    if client is None:
        yield
        return
    with mock.patch.object(_jax, name, functools.partial(client, missed_heartbeat_callback=_exit_lost)):
        yield
    with contextlib.suppress(OSError, AttributeError):  # not GNU's C++ library
        _exit_on_bad_cast()


def _exit_lost(*status: Any) -> None:
    end_process(1, LOST)


def _exit_on_bad_cast() -> None:
    library = ctypes.CDLL("libstdc++.so.6")
    current_type = library.__cxa_current_exception_type
    current_type.restype = ctypes.c_void_p
    set_terminate = library._ZSt13set_terminatePFvvE  # std::set_terminate
    set_terminate.restype, set_terminate.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    handler = ctypes.CFUNCTYPE(None)

    def terminate() -> None:
        type_info = current_type()
        # A std::type_info starts with two pointers: its virtual table and its name.
        name = ctypes.c_void_p.from_address(type_info + ctypes.sizeof(ctypes.c_void_p)).value if type_info else None
        if name and ctypes.string_at(name) == _BAD_CAST:
            _exit_lost()
        previous()

    callback = handler(terminate)
    previous = handler(set_terminate(ctypes.cast(callback, ctypes.c_void_p)))
    _CALLBACKS.extend((callback, previous))


def is_first_process() -> bool:
    """Whether this process is the one that writes logs, tables and plots."""
    return is_single_process() or jax.process_index() == 0


def is_single_process() -> bool:
    """Whether the program has a single process."""
    return not jax.distributed.is_initialized() or jax.process_count() == 1  # the first initialises no devices


def is_lost_process_error(error: Exception) -> bool:
    """Whether an error was probably caused by the loss of another process, judged by its message."""
    words = ("gloo", "connection", "unavailable", "deadline", "heartbeat", "coordination", "barrier", "nccl", "peer")
    message = str(error).lower()
    return not is_single_process() and isinstance(error, RuntimeError) and any(word in message for word in words)


def sync_processes(name: str) -> None:
    """Blocks until every process has called it; `name` appears in the error after a timeout."""
    if not is_single_process():
        multihost_utils.sync_global_devices(name)


def leave_processes() -> None:
    """Waits until every process ends, so that none is considered lost when this one ends at once."""
    if not is_single_process():
        jax.distributed.shutdown()


def run_on_first_process(action: Callable[[], object], name: str) -> None:
    """Runs an action in the first process; an error is raised in all processes.

    Args:
      action: function that may raise an EmojaxError.
      name: name of the barrier in the error after a timeout.

    Raises:
      EmojaxError: raised by the action, with the same message in every process.
    """
    if is_single_process():
        action()
        return
    message = b""
    if is_first_process():
        try:
            action()
        except EmojaxError as error:
            message = str(error).encode()[:_MESSAGE_BYTES]
    sync_processes(name)
    padded = np.frombuffer(message.ljust(_MESSAGE_BYTES, b"\0"), np.uint8)
    received = np.asarray(multihost_utils.broadcast_one_to_all(padded)).astype(np.uint8).tobytes().rstrip(b"\0")
    if received:
        raise EmojaxError(received.decode(errors="replace"))


def min_over_processes(number: int) -> int:
    """Returns the minimum of a number over all processes, each of which must call it."""
    if is_single_process():
        return number
    return int(np.min(multihost_utils.process_allgather(np.int32(number))))


def stop_requested(step: int) -> bool:
    """Whether any process received SIGTERM, agreed on so that all stop after the same step.

    Args:
      step: number of completed steps; every process must call this after every step.
    """
    return not is_single_process() and multihost_utils.reached_preemption_sync_point(step)
