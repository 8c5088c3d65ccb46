"""Compiled programs of a model's forward pass, kept in files that later processes run without tracing the model.

JAX's compilation cache saves the compilation of a program, but tracing and lowering remain: 0.2 s of Python for each
shape of a small model. A file here is a program of one shape, ready to run. Its name is a digest of everything that the
program depends on: model, shapes, versions, settings of JAX, processor and the source of this package.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import platform
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flax
import jax
import jaxlib
import numpy as np
from jax.experimental import serialize_executable

from emojax.files import atomic_write
from emojax.types import Batch, EmotionOutput

_KEPT = 256
"""Files of the folder; those that were not used for the longest time are removed."""

_DIGEST_BYTES = 32

_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
"""Environment variables that change programs."""

Program = Callable[[Any, Batch], EmotionOutput]


class Programs:
    """The forward pass of a model on one device, compiled once per shape of its batches.

    Files are as trustworthy as JAX's compilation cache: native code that this user's processes have written. A damaged
    one, or one that this version of jaxlib cannot run, is compiled again.
    """

    def __init__(self, forward: Any, variables: Any, description: str, folder: Path):
        """Compiles nothing yet.

        Args:
          forward: jitted function of variables and a batch.
          variables: variables of the model, on one device.
          description: description of the model, of which `forward` is a function.
          folder: folder of the programs.
        """
        self._variables, self._folder = variables, folder
        self._key = _digest(description, _signature(variables), _environment())
        function = functools.partial(forward.__wrapped__)
        # A name that was never compiled: an executable from JAX's compilation cache cannot be serialised.
        function.__name__ = f"predict_{secrets.token_hex(8)}"  # type: ignore[attr-defined]
        self._forward = jax.jit(function)
        self._programs: dict[str, Future[Program]] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max(os.cpu_count() or 1, 1), "emojax-programs")

    def __call__(self, variables: Any, batch: Batch) -> EmotionOutput:
        """Computes a batch of NumPy arrays; `variables` are those of the constructor."""
        return self._program(batch).result()(variables, batch)

    def prepare(self, batch: Batch) -> None:
        """Reads or compiles the program of a batch in a thread, so that several are compiled at the same time."""
        self._program(batch)

    def _program(self, batch: Batch) -> Future[Program]:
        signature = _signature(batch)
        with self._lock:  # batches are computed in several threads
            if signature not in self._programs:
                self._programs[signature] = self._threads.submit(self._load, signature, batch)
            return self._programs[signature]

    def _load(self, signature: str, batch: Batch) -> Program:
        path = self._folder / f"{_digest(self._key, signature)[:32]}.program"
        with contextlib.suppress(Exception):  # absent, damaged, or of an incompatible build
            content = path.read_bytes()
            if hashlib.sha256(content[_DIGEST_BYTES:]).digest() == content[:_DIGEST_BYTES]:
                program = _restored(content[_DIGEST_BYTES:])
                os.utime(path)
                return program
        compiled = self._forward.lower(self._variables, batch).compile()
        with contextlib.suppress(Exception):  # a backend without serialisation, a full or read-only disk
            self._write(path, compiled, batch)
        return compiled

    def _write(self, path: Path, compiled: Any, batch: Batch) -> None:
        """Writes a program, if what is read from the file computes the same."""
        content = pickle.dumps(serialize_executable.serialize(compiled))
        restored = _restored(content)
        same = jax.tree.map(
            functools.partial(np.array_equal, equal_nan=True),
            *(jax.device_get(program(self._variables, batch)) for program in (compiled, restored)),
        )
        if not all(jax.tree.leaves(same)):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(hashlib.sha256(content).digest() + content)
        files = sorted(self._folder.glob("*.program"), key=lambda file: file.stat().st_mtime)
        for file in files[:-_KEPT]:
            file.unlink(missing_ok=True)


def _restored(content: bytes) -> Program:
    device = jax.local_devices()[0]
    payload, inputs, outputs = pickle.loads(content)
    return serialize_executable.deserialize_and_load(
        payload, inputs, outputs, backend=device.client, execution_devices=[device]
    )


def _signature(tree: Any) -> str:
    leaves, structure = jax.tree.flatten(tree)
    return f"{structure} {[(leaf.dtype.name, leaf.shape) for leaf in leaves]}"


@functools.cache
def _environment() -> str:
    """Whatever changes programs beside the model: versions, source, settings, device, processor."""
    device = jax.local_devices()[0]
    settings = {name: value for name, value in jax.config.values.items() if "cache" not in name}
    flags = {name: os.environ.get(name) for name in _FLAGS}
    versions = jax.__version__, jaxlib.__version__, flax.__version__, np.__version__, platform.python_version()
    hardware = device.device_kind, device.client.platform_version, len(jax.local_devices()), os.cpu_count()
    return _digest(str(versions), _source(), str(sorted(settings.items())), str(flags), str(hardware), _processor())


def _source() -> str:
    """Digest of the modules of this package."""
    digest, root = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()


def _processor() -> str:
    """Model and instruction sets of the processor: programs for CPU use them."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
        return "".join(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))
    return platform.processor() + platform.machine()


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
