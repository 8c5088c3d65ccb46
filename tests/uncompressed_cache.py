"""Programs in the compilation cache of a test run are not compressed: that took longer than to serialise them."""

import functools
import zlib


def patch_compression():
    """Stores entries as zlib's format without compression, which JAX reads like any other."""
    from jax._src import compilation_cache

    if not (getattr(compilation_cache, "zstd", None) or getattr(compilation_cache, "zstandard", None)):
        compilation_cache.compress_executable = functools.partial(zlib.compress, level=0)
