"""The small files of a workdir: its config, the corpus it was trained on, the summary of its training."""

import json
from pathlib import Path
from typing import Any

from emojax.errors import CheckpointError
from emojax.parallel import is_first
from emojax.whole_file import whole_file

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
    """Writes strict JSON so that the file is always whole: the old one or the new one. Of several processes, the first
    writes.

    Raises:
      EmojaxError: it cannot be written (full disk, no permission); what was there is intact.
    """
    if not is_first():
        return
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        json.dump(tree, file, indent=2, allow_nan=False)
        file.write("\n")


def read_json(path: Path) -> Any:
    """Reads a file of a workdir.

    Raises:
      CheckpointError: it is not there or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path.parent} is no workdir: it has no {path.name}") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
