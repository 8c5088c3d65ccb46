"""Settings of the host process: compilation cache, memory allocator, fork detection."""

import ctypes
import os
import platform
import sys
from pathlib import Path

import jax

from emojax.errors import EmojaxError
from emojax.files import user_cache

_COMPILED = "/jax/core/compile/backend_compile_duration"


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_compilation_cache() -> None:
    """Enables JAX's persistent compilation cache in the user's cache folder or `$JAX_COMPILATION_CACHE_DIR`."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    jax.config.update("jax_compilation_cache_dir", str(user_cache() / "xla"))


def compiled_programs() -> Path:
    """Folder of programs that are ready to run (`Predictor.keep_programs`), beside JAX's compilation cache if local."""
    cache = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    return (Path(cache) if cache and "://" not in cache else user_cache()) / "programs"


class _Compilations:
    """Number and total duration (s) of compilations in this process, reads from the persistent cache included."""

    def __init__(self) -> None:
        self.programs, self.seconds = 0, 0.0

    def note(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event == _COMPILED:
            self.programs, self.seconds = self.programs + 1, self.seconds + duration_secs


COMPILATIONS = _Compilations()
"""Compilations of this process since the import of this module."""

jax.monitoring.register_event_duration_secs_listener(COMPILATIONS.note)


_state = {"started": False, "forked": False}


def check_not_forked() -> None:
    """Checks that JAX was not started before this process was forked, in which case computations would hang.

    Raises:
      EmojaxError: the process was forked (`os.fork`, multiprocessing's "fork") after JAX had started in its parent.
    """
    if _state["forked"]:
        raise EmojaxError(
            "this process was forked after JAX had started, so JAX would hang in it; start it with "
            "multiprocessing.get_context('spawn'), or load the model in the child alone"
        )


def jax_started() -> bool:
    """Whether JAX has started its threads in this process, after which a process must not be forked from it."""
    bridge = sys.modules.get("jax._src.xla_bridge")  # JAX has no public name for this
    return getattr(bridge, "backends_are_initialized", lambda: False)()


def _before_fork() -> None:
    _state["started"] = jax_started()


def _in_child() -> None:
    _state["forked"] = _state["forked"] or _state["started"]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_in_child)


# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Makes malloc keep freed memory for later allocations; must be called before JAX starts its threads.

    On a CPU, XLA allocates the working memory of a program as one block and frees it when the program ends. glibc maps
    blocks of this size anew for every allocation, with a page fault per page: a fifth to a third of the time of a
    training step of a small model (benchmarks/host_memory.py). In exchange the process keeps its peak memory.
    For commands only; a library should not change the allocator of its process.

    Returns:
      Whether the settings were applied; they exist in glibc only.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    set_option = ctypes.CDLL(None).mallopt
    # Only the first arena keeps freed blocks; the other arenas ignore these settings.
    options = ((_M_ARENA_MAX, 1), (_M_MMAP_THRESHOLD, _LARGEST), (_M_TRIM_THRESHOLD, _LARGEST))
    applied = [set_option(option, value) == 1 for option, value in options]
    return all(applied)
