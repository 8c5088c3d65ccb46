"""Files of a workdir: names, JSON with digests, metric records, saved config, protection against links."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emojax import files
from emojax.config import ExperimentConfig, difference, load_saved_config, migrate, saved_tree
from emojax.errors import CheckpointError, ConfigError
from emojax.files import is_vacant
from emojax.parallel import is_first_process
from emojax.schema import to_tree

CONFIG = "config.json"
"""Config of the run, every field."""

CORPUS = "corpus.json"
"""Metadata of the training corpus (see `emojax.workdir.metadata`)."""

SUMMARY = "summary.json"
"""Summary of training: parameters, steps, seconds, best step, reason of the stop."""

METRICS = "metrics.jsonl"
"""One JSON object per logged step."""

EVALUATION = "evaluation"
"""Folder of evaluation results on the training corpus, with a subfolder for each other corpus."""

TESTS = "tests"
"""Folder of the results of model tests, divided as `EVALUATION`."""

CHECKPOINTS = "checkpoints"
"""Folder of orbax checkpoints."""


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Writes a JSON object with its digest, atomically, in the first process.

    Raises:
      EmojaxError: the file cannot be written (full disk, no permission); the previous file is intact.
    """
    if is_first_process():
        files.write_json(path, files.with_digest(tree))


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object of a workdir, without its digest.

    Raises:
      CheckpointError: the file is missing, does not hold a JSON object, or does not match its digest.
    """
    tree = files.read_json_object(path, missing=f"no such file; {path.parent} is not a workdir")
    return files.checked_content(tree, str(path))


def check_inside(workdir: Path, path: Path) -> None:
    """Checks that a path to be written is inside the workdir after following links.

    Args:
      workdir: folder of the run; may itself be reached through links.
      path: path below `workdir`; need not exist.

    Raises:
      CheckpointError: the path leads out of the workdir through a link.
    """
    # Not `Path.resolve`, which fails for circular links in some versions of Python; writing to one fails anyway.
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(os.path.realpath(workdir)):
        raise CheckpointError(f"{path}: must be inside the workdir, got a link to {target}")


def read_metric_records(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Reads the records of a metric log, skipping invalid lines (truncated, not UTF-8, no object, no step).

    Args:
      path: `metrics.jsonl`.

    Returns:
      Line (without line break) and fields of each record; `step` is a finite number.

    Raises:
      OSError: the file cannot be read.
    """
    records = []
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and _is_number(record.get("step")):
            records.append((line, record))
    return records


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def write_config(workdir: Path, config: Any) -> None:
    """Writes `config.json`, with every field and the version, in the first process.

    Args:
      workdir: folder of the run.
      config: settings of the run, of any mode.

    Raises:
      EmojaxError: the file cannot be written.
    """
    write_json(workdir / CONFIG, saved_tree(config))


def read_config(workdir: Path) -> ExperimentConfig:
    """Reads the config of a workdir, migrated to the current version.

    Raises:
      CheckpointError: the file is missing, damaged, or holds an invalid value.
    """
    tree = read_json(workdir / CONFIG)
    try:
        return load_saved_config(tree)
    except ConfigError as error:
        raise CheckpointError(f"{workdir / CONFIG}: {error}") from error


def check_same_config(config: Any, workdir: Path) -> None:
    """Checks that a run may start or continue in a folder.

    Args:
      config: settings of the run, of any mode.
      workdir: absent, empty, or the folder of a run.

    Raises:
      CheckpointError: the folder holds a run with another config, or other files; the message names the difference.
    """
    if workdir.exists() and not workdir.is_dir():
        raise CheckpointError(f"{workdir}: must be a folder, got a file")
    if not (workdir / CONFIG).exists():
        if not is_vacant(workdir):
            raise CheckpointError(f"{workdir}: must be a workdir, or a new or empty folder; it has no {CONFIG}")
        return
    try:
        found = difference(migrate(read_json(workdir / CONFIG), type(config)), to_tree(config))
    except ConfigError as error:
        raise CheckpointError(f"{workdir / CONFIG}: {error}") from error
    if found:
        raise CheckpointError(f"{workdir}: was made with another config: {found}; use another --workdir")
