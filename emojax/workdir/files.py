"""The small files of a workdir: its config, the corpus it was trained on, the summary of its training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emojax import files
from emojax.parallel import is_first

CONFIG = "config.json"
"""The whole config, every field."""

CORPUS = "corpus.json"
"""Facts of the training corpus that predictions and baselines need (see `emojax.workdir.corpus_facts`)."""

SUMMARY = "summary.json"
"""What training came to: parameters, steps, seconds, best step, why it stopped."""

METRICS = "metrics.jsonl"
"""One JSON object per logged step."""

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
