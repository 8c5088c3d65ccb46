"""The host process: compilation cache, freed memory, forking."""

import ctypes
import os
import platform
import sys

import jax

from emojax.errors import EmojaxError
from emojax.files import user_cache

_COMPILED = "/jax/core/compile/backend_compile_duration"


def use_compilation_cache() -> None:
    """Turns on JAX's persistent cache in the user's cache folder, unless `$JAX_COMPILATION_CACHE_DIR` names another."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    jax.config.update("jax_compilation_cache_dir", str(user_cache() / "xla"))


class _Compilations:
    """Programs made so far in this process, and the seconds that took; reading one from the cache counts too."""

    def __init__(self) -> None:
        self.programs, self.seconds = 0, 0.0

    def note(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILED:
            self.programs, self.seconds = self.programs + 1, self.seconds + duration_secs


COMPILATIONS = _Compilations()
"""Of this process, since this module was imported."""

jax.monitoring.register_event_duration_secs_listener(COMPILATIONS.note)


_state = {"started": False, "forked": False}


def check_not_forked() -> None:
    """Checks that JAX can compute in this process, at the entry of everything that would otherwise hang.

    Raises:
      EmojaxError: the process was forked (`os.fork`, multiprocessing's "fork") after JAX had started in its parent.
    """
    if _state["forked"]:
        raise EmojaxError(
            "this process was forked after JAX had started, so JAX would hang in it; start it with "
            "multiprocessing.get_context('spawn'), or load the model in the child alone"
        )


def _before_fork() -> None:
    bridge = sys.modules.get("jax._src.xla_bridge")  # JAX has no public name for this
    started = getattr(bridge, "backends_are_initialized", lambda: False)
    _state["started"] = started()


def _in_child() -> None:
    _state["forked"] = _state["forked"] or _state["started"]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_in_child)


# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Makes this process keep memory it has freed, for what it allocates next; call it before JAX starts its threads.

    On a CPU, XLA allocates the working memory of a program as one block and frees it when the program ends. glibc maps
    blocks that large anew every time, and the first touch of each page is a fault: a fifth to a third of the time of a
    training step of a small model (benchmarks/host_memory.py). In exchange the process stays as large as it ever was.
    For commands, not for a library, which is a guest in somebody's process.

    Returns:
      Whether it was done: only glibc has these settings, elsewhere nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    set_option = ctypes.CDLL(None).mallopt
    # Only blocks of the first arena are kept; the others give theirs back whatever is set.
    wanted = ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _LARGEST), (_M_TRIM_THRESHOLD, _LARGEST))
    taken = [set_option(option, value) == 1 for option, value in wanted]
    return all(taken)
