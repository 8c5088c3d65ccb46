"""Writes numbers of a run where people and programs look: metrics.jsonl and TensorBoard events."""

import contextlib
import json
from pathlib import Path
from typing import Self

from emojax.errors import TrainingError
from emojax.files import atomic_write
from emojax.workdir import METRICS


class MetricLog:
    """Appends scalars by step; a context manager.

    A resumed run first drops what was logged after the checkpoint it continues from, so that the file reads like
    that of a run without interruption.
    """

    def __init__(self, workdir: Path, resume_step: int, *, writing: bool = True):
        """Opens the log of a workdir at a step (0 for a fresh run); without `writing`, it does nothing."""
        from tensorboardX import SummaryWriter

        path = workdir / METRICS
        self._writing = writing
        if not writing:
            return
        try:
            _drop_after(path, resume_step)
            self._file = path.open("a", encoding="utf-8")
            self._events = SummaryWriter(str(workdir / "tensorboard"), purge_step=resume_step + 1, flush_secs=10)
        except OSError as error:
            raise TrainingError(f"{path}: cannot be written ({error.strerror})") from error
        self._path = path

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes the files; what a full disk refuses now has been told by `write`."""
        for file in (self._file, self._events) if self._writing else ():
            with contextlib.suppress(OSError):
                file.close()

    def write(self, step: int, epoch: int, scalars: dict[str, float]) -> None:
        """Logs scalars of a step, e.g. `{"train/loss": 0.6}`.

        Raises:
          TrainingError: the file cannot be written (full disk).
        """
        if not self._writing:
            return
        try:
            self._file.write(json.dumps({"step": step, "epoch": epoch, **scalars}) + "\n")
            self._file.flush()
        except OSError as error:
            raise TrainingError(f"{self._path}: cannot be written ({error.strerror})") from error
        for name, value in scalars.items():
            self._events.add_scalar(name, value, step)


def _drop_after(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError):
            continue  # the last line of a killed run may be cut short
    with atomic_write(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
