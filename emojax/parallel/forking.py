"""A process forked after JAX has started cannot compute: the threads JAX waits for exist in its parent alone."""

import os
import sys

from emojax.errors import EmojaxError

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
