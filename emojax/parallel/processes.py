"""Several processes as one program: joining, agreeing, and noticing a lost one."""

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

LOST = "error: another process was lost; the same command, on all of them, continues"

_BAD_CAST = b"St8bad_cast"
_CALLBACKS: list[Any] = []
"""Keeps what C++ calls alive."""


@contextlib.contextmanager
def ends_with_one_line() -> Iterator[None]:
    """Around `jax.distributed.initialize`: a lost process then ends this one as described above."""
    from jax._src.lib import _jax

    name = "get_distributed_runtime_client"
    client = getattr(_jax, name, None)
    if client is None:
        yield
        return
    with mock.patch.object(_jax, name, functools.partial(client, missed_heartbeat_callback=_end)):
        yield
    with contextlib.suppress(OSError, AttributeError):  # another C++ library than GNU's
        _end_on_bad_cast()


def _end(*status: Any) -> None:
    end_process(1, LOST)


def _end_on_bad_cast() -> None:
    library = ctypes.CDLL("libstdc++.so.6")
    current_type = library.__cxa_current_exception_type
    current_type.restype = ctypes.c_void_p
    set_terminate = library._ZSt13set_terminatePFvvE  # std::set_terminate
    set_terminate.restype, set_terminate.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    handler = ctypes.CFUNCTYPE(None)

    def terminate() -> None:
        found = current_type()
        # A std::type_info begins with two pointers: its virtual table and its name.
        place = ctypes.c_void_p.from_address(found + ctypes.sizeof(ctypes.c_void_p)).value if found else None
        if place and ctypes.string_at(place) == _BAD_CAST:
            _end()
        previous()

    ours = handler(terminate)
    previous = handler(set_terminate(ctypes.cast(ours, ctypes.c_void_p)))
    _CALLBACKS.extend((ours, previous))


_MESSAGE_BYTES = 1024
"""Of an error that one process reports to the others."""

_TPU_DEVICES = ("/dev/accel0", "/dev/vfio/0")
"""Files of a machine with a TPU."""


def join_processes(
    coordinator: str = "",
    num_processes: int = 0,
    process_id: int = -1,
    *,
    join_seconds: int = 300,
    heartbeat_seconds: int = 100,
) -> None:
    """Joins the other processes of this program, if it has any; must come before anything touches a device.

    Without arguments, processes started by srun or mpirun and the hosts of a TPU slice find each other; anything else
    runs alone.

    Args:
      coordinator: HOST:PORT of process 0, which the other processes can reach.
      num_processes: how many there are.
      process_id: number of this one, from 0.
      join_seconds: how long to wait for the others.
      heartbeat_seconds: a process that was not heard of for so long is lost, and the others stop.

    Raises:
      ConfigError: some, but not all three of the arguments are given.
      EmojaxError: the others did not come.
    """
    given = (bool(coordinator), num_processes > 0, process_id >= 0)
    if any(given) and not all(given):
        raise ConfigError("--coordinator, --num_processes and --process_id belong together; allowed: all or none")
    if not any(given) and not _started_with_others():
        return
    named: dict[str, Any] = {}
    if any(given):
        named = {"coordinator_address": coordinator, "num_processes": num_processes, "process_id": process_id}
        who = f"process {process_id} of {num_processes}, coordinator {coordinator}"
        print(f"{who}: waits up to {join_seconds} s for the others", file=sys.stderr, flush=True)
        if process_id:
            _wait_for_listener(coordinator, join_seconds, who)
    try:
        with sigterm_shared_with_jax(), ends_with_one_line():
            jax.distributed.initialize(
                **named, initialization_timeout=join_seconds, heartbeat_timeout_seconds=heartbeat_seconds
            )
    except ValueError:
        if named:
            raise
        return  # one machine with a TPU of its own: nobody else was found


def _wait_for_listener(address: str, seconds: float, who: str) -> None:
    """Returns when somebody listens there; JAX itself would abort without a word that can be understood."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--coordinator: {address!r} is not allowed; allowed: HOST:PORT")
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise EmojaxError(f"{who}: nobody listens there after {seconds} s ({error})") from error
            time.sleep(0.2)


def is_first() -> bool:
    """Whether this process writes what is written once: logs, tables, plots."""
    return is_alone() or jax.process_index() == 0


def is_alone() -> bool:
    """Whether there are no other processes."""
    return not jax.distributed.is_initialized() or jax.process_count() == 1  # the first part touches no device


def lost_process(error: Exception) -> bool:
    """Whether an error is what is raised where another process is gone, as far as its words tell."""
    words = ("gloo", "connection", "unavailable", "deadline", "heartbeat", "coordination", "barrier", "nccl", "peer")
    message = str(error).lower()
    return not is_alone() and isinstance(error, RuntimeError) and any(word in message for word in words)


def wait_for_all(name: str) -> None:
    """Returns when every process has come here; `name` says where, for the error of one that waits in vain."""
    if not is_alone():
        multihost_utils.sync_global_devices(name)


def first_decides(action: Callable[[], object], name: str) -> None:
    """Runs an action in the first process; where it fails, all of them fail.

    Args:
      action: may raise an EmojaxError.
      name: says where, for the error of a process that waits in vain.

    Raises:
      EmojaxError: the action's, with the same message in every process.
    """
    if is_alone():
        action()
        return
    message = b""
    if is_first():
        try:
            action()
        except EmojaxError as error:
            message = str(error).encode()[:_MESSAGE_BYTES]
    wait_for_all(name)
    padded = np.frombuffer(message.ljust(_MESSAGE_BYTES, b"\0"), np.uint8)
    answer = np.asarray(multihost_utils.broadcast_one_to_all(padded)).astype(np.uint8).tobytes().rstrip(b"\0")
    if answer:
        raise EmojaxError(answer.decode(errors="replace"))


def smallest_of_all(number: int) -> int:
    """Returns the smallest number that any process gives; every process must ask."""
    if is_alone():
        return number
    return int(np.min(multihost_utils.process_allgather(np.int32(number))))


def all_should_stop(step: int) -> bool:
    """Whether any process was told to stop (SIGTERM), decided so that all stop after the same step.

    Args:
      step: number of steps done; every process must ask after every step.
    """
    return not is_alone() and multihost_utils.reached_preemption_sync_point(step)


def _started_with_others() -> bool:
    if started_with_others():
        return True
    return any(Path(path).exists() for path in _TPU_DEVICES) and importlib.util.find_spec("libtpu") is not None
