"""What a run writes stays in its workdir, whatever links a stranger's workdir holds."""

import os
from pathlib import Path

from emojax.errors import CheckpointError


def check_inside(workdir: Path, path: Path) -> None:
    """Checks that a file or folder about to be written lies in the workdir when links are followed.

    Args:
      workdir: may itself be reached through links.
      path: below it; need not exist.

    Raises:
      CheckpointError: it is, or lies behind, a link that leads out of the workdir.
    """
    # Not `Path.resolve`, which fails for a circle of links in some versions of Python; writing to one fails anyway.
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(os.path.realpath(workdir)):
        raise CheckpointError(f"{path}: is a link to {target}; it must lie in the workdir, or be absent")
