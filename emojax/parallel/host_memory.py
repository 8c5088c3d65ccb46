"""Memory of the host that a step works in: kept between steps."""

import ctypes
import platform

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
