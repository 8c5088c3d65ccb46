"""What a process does when another one of its program is gone: one line and exit status 1, in place of an abort.

JAX's client ends the process with a stack trace (SIGABRT) when the coordination service reports a lost process. The
client takes a callback instead, but `jax.distributed.initialize` does not hand one on, and in the versions of jaxlib
known here the call fails in C++ before it reaches Python (its argument has no conversion: `std::bad_cast`), which
ends in `std::terminate`. So the callback is passed on, and `std::terminate` by that error is taken for it.
"""

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from typing import Any
from unittest import mock

from emojax.interruption import end_process

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
