"""SHA-256 digests of the files of a checkpoint, saved with it and compared before its files are read."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Annotated

from emojax.errors import CheckpointError, ConfigError
from emojax.files import checked_content, read_json_object, sha256_of, with_digest, write_json
from emojax.schema import Ge, parse, settings

DIGESTS = "sha256.json"
"""File with the digests of a checkpoint's other files, written before its folder gets its final name."""

_THREADS = 4
"""Files hashed in parallel; hashlib releases the interpreter lock."""


@settings
class Digests:
    """Content of `sha256.json`."""

    kept: Annotated[tuple[Annotated[int, Ge(0)], ...], "Steps kept when this checkpoint is saved, including itself."]
    files: Annotated[Mapping[str, str], "SHA-256 (hexadecimal) by path in the checkpoint's folder."]

    def __post_init__(self):
        """Checks the paths.

        Raises:
          ConfigError: a path is outside of the folder.
        """
        for name in self.files:
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                raise ConfigError(f"files must be paths below the folder, got {name!r}")

    def files_in(self, parts: Iterable[str]) -> list[str]:
        """Lists the files in some of the checkpoint's folders."""
        wanted = set(parts)
        return sorted(name for name in self.files if name.partition("/")[0] in wanted)


def write_digests(folder: Path, kept: Iterable[int]) -> None:
    """Writes `sha256.json` for the subfolders of a complete checkpoint.

    Files at the top level are excluded, since orbax changes them later (commit time); the metadata in them has its own
    digest.

    Args:
      folder: folder of the checkpoint.
      kept: see `Digests`.

    Raises:
      EmojaxError: the file cannot be written.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/**/*") if path.is_file())
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(lambda name: sha256_of(folder / name), names)
        tree = {"kept": sorted(kept), "files": dict(zip(names, found, strict=True))}
    write_json(folder / DIGESTS, with_digest(tree))


def read_digests(folder: Path) -> Digests | None:
    """Reads `sha256.json`; None if it does not exist.

    Raises:
      CheckpointError: the file is damaged.
    """
    path = folder / DIGESTS
    if not path.exists():
        return None
    content = checked_content(read_json_object(path), str(path))
    return parse(Digests, content, f"{path}: digests", error=CheckpointError)


def first_damaged(folder: Path, digests: Digests, names: list[str]) -> int | None:
    """Compares files with their digests.

    Returns:
      Index in `names` of the first file that is missing or differs; None if all files match.
    """

    def damaged(name: str) -> bool:
        try:
            return not (folder / name).is_file() or sha256_of(folder / name) != digests.files[name]
        except OSError:  # an unreadable sector
            return True

    with ThreadPoolExecutor(_THREADS) as pool:
        return next((index for index, bad in enumerate(pool.map(damaged, names)) if bad), None)
