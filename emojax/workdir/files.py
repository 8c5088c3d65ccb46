"""The small files of a workdir: its config, the corpus it was trained on, the summary of its training."""

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


def write_json(path: Path, tree: Any) -> None:
    """Writes strict JSON atomically; of several processes, the first writes.

    Raises:
      EmojaxError: it cannot be written (full disk, no permission); what was there is intact.
    """
    if is_first():
        files.write_json(path, tree)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object of a workdir.

    Raises:
      CheckpointError: the file is missing, or does not hold a JSON object.
    """
    return files.read_json_object(path, missing=f"no such file; {path.parent} is not a workdir")
