"""Keeps compiled programs on disk, so that a command compiles only what no earlier one has."""

import os
from pathlib import Path

import jax


def use_compilation_cache() -> None:
    """Turns on JAX's persistent cache in the user's cache folder, unless `$JAX_COMPILATION_CACHE_DIR` names another."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    folder = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "emojax" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(folder))
