"""SHA-256 of the files of a checkpoint, written with them and compared before they are read: damage is found."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Annotated

from emojax.errors import CheckpointError, ConfigError
from emojax.files import checked_content, read_json_object, sha256_of, with_digest, write_json
from emojax.schema import Ge, parse, settings

DIGESTS = "sha256.json"
"""File of a checkpoint with the digests of its other files; it is written before the checkpoint gets its name."""

_THREADS = 4
"""Files hashed at once; hashlib releases the interpreter's lock."""


@settings
class Digests:
    """Content of `sha256.json`."""

    kept: Annotated[tuple[Annotated[int, Ge(0)], ...], "Steps that are kept when this one is saved, itself included."]
    files: Annotated[Mapping[str, str], "SHA-256 in hexadecimal by the file's path in the checkpoint's folder."]

    def __post_init__(self):
        """Checks the paths.

        Raises:
          ConfigError: a path leads out of the folder.
        """
        for name in self.files:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ConfigError(f"files must be paths below the folder, got {name!r}")

    def of(self, parts: Iterable[str]) -> list[str]:
        """Lists the files in some folders of the checkpoint."""
        wanted = set(parts)
        return sorted(name for name in self.files if name.partition("/")[0] in wanted)


def write_digests(folder: Path, kept: Iterable[int]) -> None:
    """Writes `sha256.json` for the folders of a checkpoint whose arrays are all written.

    Orbax still changes the files at the top (time of the commit); the metadata in them has a digest of its own.

    Args:
      folder: of the checkpoint.
      kept: see `Digests`.

    Raises:
      EmojaxError: it cannot be written.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/**/*") if path.is_file())
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda name: sha256_of(folder / name), names)
        tree = {"kept": sorted(kept), "files": dict(zip(names, found, strict=True))}
    write_json(folder / DIGESTS, with_digest(tree))


def read_digests(folder: Path) -> Digests | None:
    """Reads `sha256.json`; None where there is none.

    Raises:
      CheckpointError: it is damaged.
    """
    path = folder / DIGESTS
    if not path.exists():
        return None
    content = checked_content(read_json_object(path), str(path))
    return parse(Digests, content, f"{path}: digests", error=CheckpointError)


def first_damaged(folder: Path, digests: Digests, names: list[str]) -> int | None:
    """Compares files with their digests.

    Returns:
      Position in `names` of the first file that is missing or has another content; None if there is none.
    """

    def damaged(name: str) -> bool:
        try:
            return not (folder / name).is_file() or sha256_of(folder / name) != digests.files[name]
        except OSError:  # an unreadable sector
            return True

    with ThreadPoolExecutor(_THREADS) as pool:
        return next((place for place, bad in enumerate(pool.map(damaged, names)) if bad), None)
