"""A workdir belongs to one config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emojax.config import difference
from emojax.errors import CheckpointError
from emojax.files import is_vacant
from emojax.workdir.files import CONFIG, read_json


def refuse_other_config(tree: Mapping[str, Any], workdir: Path) -> None:
    """Checks that a run may begin or continue in a folder.

    Args:
      tree: its whole config.
      workdir: absent, empty, or a run's.

    Raises:
      CheckpointError: the folder holds a run of another config, or something else; the message says what differs.
    """
    if workdir.exists() and not workdir.is_dir():
        raise CheckpointError(f"{workdir}: is a file; allowed: a folder of this run")
    if not (workdir / CONFIG).exists():
        if not is_vacant(workdir):
            raise CheckpointError(f"{workdir}: holds other files and no {CONFIG}; allowed: a new or empty folder")
        return
    found = difference(read_json(workdir / CONFIG), tree)
    if found:
        raise CheckpointError(f"{workdir}: was made with another config: {found}; use another --workdir")
