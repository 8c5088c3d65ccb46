"""`python -m emojax.serve RUN`: predictions over HTTP and WebSockets; see docs/serve.md."""

from emojax.interruption import watch_signals

if __name__ == "__main__":
    watch_signals()  # what the command imports takes seconds

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from emojax.errors import ConfigError, EmojaxError
from emojax.serve.settings import add_options, parse_options

_PACKAGES = {"starlette": "starlette", "uvicorn": "uvicorn", "websockets": "websockets"}
_PACKAGES |= {"python_multipart": "python-multipart", "prometheus_client": "prometheus-client"}


def main(argv: list[str] | None = None, own_process: bool = False) -> int:
    """Runs the command; returns its exit status: 0 after a graceful stop, 1 an error, reported in one line.

    Args:
      argv: arguments; None: those of this process.
      own_process: whether the command may change settings of the process: compilation cache, memory allocator.
    """
    parser = argparse.ArgumentParser(
        prog="python -m emojax.serve", description="Serves a trained model over HTTP and WebSockets."
    )
    parser.add_argument("workdir", type=Path, metavar="RUN", help="folder of a trained model")
    add_options(parser)
    arguments = parser.parse_args(argv)
    try:
        config = parse_options(arguments)
        _check_packages()
        programs = _prepare_process() if own_process else None
        from emojax.serve.command import serve

        return serve(arguments.workdir, config, programs)
    except EmojaxError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _check_packages() -> None:
    for module, package in _PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise ConfigError(f"{package} is not installed; it is part of the extra `serve` of emojax")


def _prepare_process() -> Path:
    """Sets memory allocator and compilation cache; returns the folder of compiled programs."""
    import jax

    from emojax.parallel import compiled_programs, keep_freed_memory, use_compilation_cache

    keep_freed_memory()
    use_compilation_cache()
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # many small programs
    return compiled_programs()


if __name__ == "__main__":
    sys.exit(main(own_process=True))
