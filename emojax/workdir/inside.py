"""What a run writes stays in its workdir, whatever links a stranger's workdir holds."""

from pathlib import Path

from emojax.errors import CheckpointError


def check_inside(workdir: Path, path: Path) -> None:
    """Checks that a file or folder about to be written lies in the workdir when links are followed.

    Args:
      workdir: may itself be reached through links.
      path: below it; need not exist.

    Raises:
      CheckpointError: it is, or lies behind, a link that leads out of the workdir or in a circle.
    """
    try:
        inside = path.resolve().is_relative_to(workdir.resolve())
    except (OSError, RuntimeError) as error:  # Python 3.11 and 3.12 raise RuntimeError for a circle of links
        raise CheckpointError(f"{path}: cannot be written (a circle of links)") from error
    if not inside:
        raise CheckpointError(f"{path}: is a link to {path.resolve()}; it must lie in the workdir, or be absent")
