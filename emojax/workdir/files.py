"""Small files of a workdir: JSON with digests, metric records, the saved config, links that are not followed."""

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
from emojax.parallel import is_first
from emojax.schema import to_tree

CONFIG = "config.json"
"""The whole config, every field."""

CORPUS = "corpus.json"
"""Metadata of the training corpus that predictions and baselines need (see `emojax.workdir.metadata`)."""

SUMMARY = "summary.json"
"""What training came to: parameters, steps, seconds, best step, why it stopped."""

METRICS = "metrics.jsonl"
"""One JSON object per logged step."""

EVALUATION = "evaluation"
"""Folder of a workdir with the evaluation on its own corpus, and a folder for each other corpus."""

CHECKPOINTS = "checkpoints"
"""Folder of orbax checkpoints."""


def write_json(path: Path, tree: Mapping[str, Any]) -> None:
    """Writes a JSON object with the digest of its content, atomically; of several processes, the first writes.

    Raises:
      EmojaxError: it cannot be written (full disk, no permission); what was there is intact.
    """
    if is_first():
        files.write_json(path, files.with_digest(tree))


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object of a workdir, without its digest.

    Raises:
      CheckpointError: the file is missing, does not hold a JSON object, or does not match its digest.
    """
    tree = files.read_json_object(path, missing=f"no such file; {path.parent} is not a workdir")
    return files.checked_content(tree, str(path))


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


def read_metric_records(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Reads every line that is a record; others (cut short, not UTF-8, not an object, without a step) are skipped.

    Args:
      path: `metrics.jsonl`.

    Returns:
      Each record's line, without its line break, and its fields; `step` is a finite number.

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
