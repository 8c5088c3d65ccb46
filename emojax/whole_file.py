"""Writes files that are always whole: a reader, or a crash, finds the old file or the new one, never a part."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from emojax.errors import EmojaxError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path beside `path` to write to; it takes the place of `path` when the block ends without an error.

    Raises:
      EmojaxError: it cannot be written (full disk, no permission); what was there is intact.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        os.chmod(temporary, mode)  # some libraries leave files that nobody else may read
        os.replace(temporary, path)
    except OSError as error:
        raise EmojaxError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
