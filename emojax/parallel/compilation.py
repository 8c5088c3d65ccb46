"""Keeps compiled programs on disk, so that a command compiles only what no earlier one has; counts what it compiles."""

import os

import jax

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
