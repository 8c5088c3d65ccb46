"""ONNX Runtime for browsers (npm package onnxruntime-web), from a folder or fetched by npm; digests are checked."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from emojax.errors import ConfigError, reason
from emojax.files import atomic_write, user_cache

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
"""Package and version; the numbers of another version may differ, so that only this one is used."""

ARCHIVE_DIGEST = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""SHA-512 of the archive of the npm registry, as `integrity` of a package-lock.json has it."""

FILES: Mapping[str, tuple[str, str]] = {
    "ort.wasm.bundle.min.mjs": (
        "runtime.js",  # a name that every web server has a media type for
        "1KcF8CWAZeqtTcvLgKPtOMXIbkWeh++LDCQpDhQ5ARVxHAL1VNL5rr0OI+MxTbmNIANldE/A/q+O4gSKgSMjWQ==",
    ),
    "ort-wasm-simd-threaded.wasm": (
        "runtime.wasm",
        "Gt7e1iIDIZ/PXEhM/OVleqWHVom0kEI/hs8cod0crXcV9jDGM39B23HuQnlOOgDOC3x4k5pxIgtdgzaL9up3MA==",
    ),
}
"""Files of the package's folder `dist`: the name that they get, and their SHA-512 in base64."""

_INSTALL = f"install npm (Node.js), or pass --runtime=FOLDER with the package (npm pack {PACKAGE}@{VERSION})"

_FETCH_SECONDS = 600
"""Time limit of npm (s): the archive has 30 MB."""


def read_runtime(folder: Path | None) -> dict[str, bytes]:
    """Reads the two files that a page needs, WebAssembly included (14 MB).

    Args:
      folder: the package, or its folder `dist`; None: the user's cache folder, where npm puts it once.

    Returns:
      Content by the names of `FILES`.

    Raises:
      ConfigError: a file is missing or not that of `VERSION`, or npm is missing or fails.
    """
    if folder is not None:
        return _read(folder / "dist" if (folder / "dist").is_dir() else folder)
    cache = user_cache() / f"{PACKAGE}-{VERSION}"
    try:
        return _read(cache)
    except ConfigError:  # never fetched, or damaged
        return _fetch(cache)


def _read(folder: Path) -> dict[str, bytes]:
    found = {}
    for name, (target, digest) in FILES.items():
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise ConfigError(f"{folder / name}: cannot be read ({error.strerror}); {_INSTALL}") from error
        if _sha512(content) != digest:
            raise ConfigError(f"{folder / name}: is not that of {PACKAGE} {VERSION} (SHA-512); {_INSTALL}")
        found[target] = content
    return found


def _fetch(cache: Path) -> dict[str, bytes]:
    """Fetches the archive by npm, checks its digest before it is opened, and keeps the files in the cache."""
    npm = shutil.which("npm")
    if npm is None:
        raise ConfigError(f"--format=web needs {PACKAGE} {VERSION}, and npm is not installed; {_INSTALL}")
    print(f"fetching {PACKAGE} {VERSION} by npm", flush=True)
    with tempfile.TemporaryDirectory(prefix="emojax-npm-") as temporary:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--ignore-scripts", "--silent"]
        try:
            done = subprocess.run(
                command, cwd=temporary, capture_output=True, text=True, check=False, timeout=_FETCH_SECONDS
            )
            problem = "" if done.returncode == 0 else done.stderr or f"exit status {done.returncode}"
        except (OSError, subprocess.TimeoutExpired) as error:
            problem = str(error)
        archive = Path(temporary) / f"{PACKAGE}-{VERSION}.tgz"
        if problem or not archive.is_file():
            first = next((line.strip() for line in problem.splitlines() if line.strip()), "no archive was written")
            raise ConfigError(f"--format=web needs {PACKAGE} {VERSION}, and npm failed ({first[:200]}); {_INSTALL}")
        content = archive.read_bytes()
        if _sha512(content) != ARCHIVE_DIGEST:
            raise ConfigError(f"{PACKAGE} {VERSION} of npm has another SHA-512 than the published archive; {_INSTALL}")
        _unpack(archive, cache)
    return _read(cache)


def _unpack(archive: Path, folder: Path) -> None:
    """Writes the two files; nothing else of the archive is extracted."""
    try:
        with tarfile.open(archive) as members:
            for name in FILES:
                member = members.extractfile(f"package/dist/{name}")
                assert member is not None, name
                with atomic_write(folder / name) as temporary:
                    temporary.write_bytes(member.read())
    except (tarfile.TarError, KeyError) as error:
        raise ConfigError(f"{PACKAGE} {VERSION} of npm cannot be unpacked ({reason(error)}); {_INSTALL}") from error


def _sha512(content: bytes) -> str:
    return base64.b64encode(hashlib.sha512(content).digest()).decode()
