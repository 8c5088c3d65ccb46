"""The config of a workdir: written once, read in any version, and never exchanged for another."""

from pathlib import Path
from typing import Any

from emojax.config import ExperimentConfig, difference, load_saved_config, migrate, saved_tree
from emojax.errors import CheckpointError, ConfigError
from emojax.files import is_vacant
from emojax.schema import to_tree
from emojax.workdir.files import CONFIG, read_json, write_json


def write_config(workdir: Path, config: Any) -> None:
    """Writes `config.json`: every field, and the version; of several processes, the first writes.

    Args:
      workdir: folder of the run.
      config: settings of the run, of whichever mode.

    Raises:
      EmojaxError: it cannot be written.
    """
    write_json(workdir / CONFIG, saved_tree(config))


def read_config(workdir: Path) -> ExperimentConfig:
    """Reads the config of a workdir, which may be older than some fields.

    Raises:
      CheckpointError: it is missing, damaged, or holds a value that is not allowed.
    """
    tree = read_json(workdir / CONFIG)
    try:
        return load_saved_config(tree)
    except ConfigError as error:
        raise CheckpointError(f"{workdir / CONFIG}: {error}") from error


def check_same_config(config: Any, workdir: Path) -> None:
    """Checks that a run may begin or continue in a folder.

    Args:
      config: settings of the run, of whichever mode.
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
    try:
        found = difference(migrate(read_json(workdir / CONFIG), type(config)), to_tree(config))
    except ConfigError as error:
        raise CheckpointError(f"{workdir / CONFIG}: {error}") from error
    if found:
        raise CheckpointError(f"{workdir}: was made with another config: {found}; use another --workdir")
