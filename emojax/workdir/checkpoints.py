"""Saves and restores what must survive a run, with orbax: asynchronously, the latest and the best, any mesh.

A checkpoint holds two parts. `model` is what predicts (`params`, averaged where averaging is on, and `statistics`);
it is all that evaluation, prediction and teaching need. `training` is the rest of what continuing needs. Facts that
are no arrays (position in the data, selection) ride along as JSON.
"""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from emojax.errors import CheckpointError, TrainingError, reason
from emojax.parallel import is_first, wait_for_all
from emojax.workdir.files import CHECKPOINTS

SCORE = "score"
"""Name of the number that ranks checkpoints (larger is better)."""

_UNFINISHED = "*.orbax-checkpoint-tmp*"
"""Folders of saves that were not finished; orbax ignores them, but would leave them lying."""


def checkpoint_directory(workdir: Path, named: str) -> epath.Path:
    """Where the checkpoints of a workdir are.

    Args:
      workdir: of the run.
      named: `training.checkpoint_dir`; may be on a bucket, which is read and written by the libraries that know it.
    """
    if "://" in named:
        return epath.Path(named)
    # Orbax refuses a relative path, and only when it saves.
    return epath.Path(Path(named).expanduser().absolute() if named else (workdir / CHECKPOINTS).absolute())


class Checkpoints:
    """The checkpoints of one workdir; a context manager that finishes pending saves on leaving."""

    def __init__(self, directory: Path | epath.Path, *, writing: bool):
        """Opens the folder.

        Args:
          directory: where checkpoints are, from `checkpoint_directory`; created if need be.
          writing: this run saves there: what an interrupted save left half-written is removed. Without it, a save
            that another process has under way is left alone.
        """
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs what it also raises, with tracebacks
        policies = ocp.training.preservation_policies
        best = policies.BestN(
            get_metric_fn=lambda metrics: metrics[SCORE], reverse=False, n=1, keep_checkpoints_without_metrics=False
        )
        self._directory = epath.Path(directory)
        try:
            if writing and is_first():
                for left in self._directory.glob(_UNFINISHED):
                    left.rmtree()
            if writing:
                wait_for_all(f"{directory} is tidy")
            self._checkpointer = ocp.training.Checkpointer(
                self._directory,
                save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(1), best]),
            )
        except OSError as error:
            raise TrainingError(f"{directory}: checkpoints cannot be kept there ({error.strerror})") from error
        except ImportError as error:  # the library of a bucket is not installed
            raise TrainingError(f"{directory}: cannot be reached ({error})") from error
        self._pending: Any = None

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Finishes pending saves; an error that is already under way is not replaced by a failing save."""
        try:
            self.wait()
            self._checkpointer.close()
        except Exception as failure:
            with contextlib.suppress(Exception):
                self._checkpointer.close()  # after a failed save it raises once more, and then is closed
            if error is None:
                raise failure if isinstance(failure, TrainingError) else self._failed(failure) from failure

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint, None without one."""
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint with the highest score (the earliest of equals), None without a scored one."""
        scored = [c for c in self._checkpointer.checkpoints if c.metrics and SCORE in c.metrics]
        return max(scored, key=lambda c: (c.metrics[SCORE], -c.step)).step if scored else None

    def save(self, step: int, model: Any, training: Any, facts: Mapping[str, Any], score: float | None) -> None:
        """Starts saving in the background; waits first for a save still under way.

        Args:
          step: number of steps done.
          model: tree of arrays that predicts.
          training: tree of the other arrays.
          facts: JSON-able.
          score: validation score if this step was evaluated, else None.

        Raises:
          TrainingError: an earlier save failed (full disk); the checkpoints before it are intact.
        """
        self.wait()
        if step == self.latest_step:
            return
        try:
            self._pending = self._checkpointer.save_checkpointables_async(
                step,
                {"model": model, "training": training},
                metrics=None if score is None else {SCORE: score},
                custom_metadata=dict(facts),
            )
        except (OSError, ValueError) as error:
            raise self._failed(error) from error

    def wait(self) -> None:
        """Returns when nothing is being saved.

        Raises:
          TrainingError: the save failed.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        try:
            pending.result()
        except Exception as error:  # tensorstore reports a full disk as ValueError, the file system as OSError
            raise self._failed(error) from error

    def restore(self, step: int, abstract: Mapping[str, Any]) -> dict[str, Any]:
        """Restores parts of a checkpoint.

        Args:
          step: one that exists.
          abstract: `model` and/or `training`, as trees of `jax.ShapeDtypeStruct` with the shardings wanted.

        Raises:
          CheckpointError: it is not there, damaged, or of another model.
        """
        try:
            return self._checkpointer.load_checkpointables(step, dict(abstract))
        except Exception as error:  # orbax and tensorstore raise many kinds; the user needs to know which checkpoint
            raise CheckpointError(f"{self._directory / str(step)}: cannot be restored ({reason(error)})") from error

    def facts(self, step: int) -> dict[str, Any]:
        """The JSON facts saved with a checkpoint.

        Raises:
          CheckpointError: it is not there or damaged.
        """
        try:
            found = self._checkpointer.checkpointables_metadata(step).custom_metadata
        except Exception as error:
            raise CheckpointError(f"{self._directory / str(step)}: cannot be read ({reason(error)})") from error
        if not isinstance(found, dict):
            raise CheckpointError(f"{self._directory / str(step)}: cannot be read (its metadata is gone)")
        return found

    def _failed(self, error: Exception) -> TrainingError:
        why = reason(error)
        return TrainingError(f"{self._directory}: a checkpoint could not be saved ({why}); earlier ones are intact")


def abstract_like(tree: Any, sharding: Any) -> Any:
    """Shapes, dtypes and shardings of a tree, as `Checkpoints.restore` wants them.

    Args:
      tree: arrays or `jax.ShapeDtypeStruct`s.
      sharding: one sharding for all leaves or a tree of them.
    """
    if isinstance(sharding, jax.sharding.Sharding):
        sharding = jax.tree.map(lambda _: sharding, tree)
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree, sharding
    )
