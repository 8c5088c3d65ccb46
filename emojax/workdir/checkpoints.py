"""Saves and restores what must survive a run, with orbax: asynchronously, the latest and the best, any mesh.

A checkpoint holds two parts. `model` is what predicts (`params`, averaged where averaging is on, and `statistics`);
it is all that evaluation, prediction and teaching need. `training` is the rest of what continuing needs. Metadata that
are no arrays (position in the data, selection) ride along as JSON. The digests of all files are written when the
checkpoint is complete, in the background, before it gets its name: one that has its name has its digests.
"""

import contextlib
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import jax
from etils import epath

from emojax.errors import CheckpointError, EmojaxError, TrainingError, reason
from emojax.files import DIGEST, checked_content, with_digest
from emojax.parallel import is_first, smallest_of_all, wait_for_all
from emojax.workdir.digests import DIGESTS, Digests, first_damaged, read_digests, write_digests

SCORE = "score"
"""Name of the number that ranks checkpoints (larger is better)."""

_METRICS = "metrics"
"""Folder of a checkpoint with its score."""

_UNFINISHED = "*.orbax-checkpoint-tmp*"
"""Folders of saves that were not finished; orbax ignores them, but would leave them lying."""


class Checkpoints:
    """The checkpoints of one workdir; a context manager that finishes pending saves on leaving."""

    def __init__(self, directory: Path | epath.Path, *, writing: bool, digests: bool = True):
        """Opens the folder.

        Args:
          directory: where checkpoints are; created if need be.
          writing: this run saves there: what an interrupted save or deletion left is removed. Without it, a save that
            another process has under way is left alone.
          digests: whether digests are written and compared. On a bucket they are not: its objects have checksums of
            their own, and reading them back costs a download.

        Raises:
          TrainingError: the folder cannot be written to, or not be reached.
          CheckpointError: the score or the digests of a checkpoint are damaged.
        """
        ocp = _orbax()
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs what it also raises, with tracebacks
        self._directory = epath.Path(directory)
        self._has_digests = digests and "://" not in str(directory)
        self._kept: list[int] = []  # when the save under way is done
        self._saving = 0
        self._leftover: set[int] = set()
        self._verified: set[tuple[int, str]] = set()
        self._pending: Any = None
        try:
            self._look_around(writing)
            # Orbax copies what it is given, of a bound method the object too; functions stay as they are.
            when_complete = ocp.options.AsyncOptions(post_finalization_callback=lambda: self._seal())
            self._checkpointer = ocp.training.Checkpointer(
                self._directory,
                context=ocp.Context(async_options=when_complete),
                save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=_Preserve(self),
            )
        except OSError as error:
            raise TrainingError(f"{directory}: checkpoints cannot be kept there ({error.strerror})") from error
        except ImportError as error:  # the library of a bucket is not installed
            raise TrainingError(f"{directory}: cannot be reached ({error})") from error
        except EmojaxError:
            raise
        except Exception as error:  # orbax reads the scores of all checkpoints, whatever is in these files
            raise CheckpointError(f"{directory}: a checkpoint's score cannot be read ({reason(error)})") from error

    def _look_around(self, writing: bool) -> None:
        """Checks what says which checkpoints there are, and removes what was interrupted."""
        if writing and is_first():
            for left in self._directory.glob(_UNFINISHED):
                left.rmtree()
        steps = self._steps_on_disk() if self._has_digests else []
        digests = self._digests(steps[-1]) if steps else None
        if digests is not None:
            self._leftover = set(steps) - {steps[-1], *digests.kept}
        if writing and is_first():
            for step in self._leftover:  # the deletion of an older one was interrupted
                (self._directory / str(step)).rmtree()
        if writing:
            wait_for_all(f"{self._directory} is tidy")
        for step in sorted(set(steps) - self._leftover):
            self._compare(step, (_METRICS,), self._digests(step), together=False)

    def _steps_on_disk(self) -> list[int]:
        if not self._directory.is_dir():
            return []
        return sorted(int(path.name) for path in self._directory.iterdir() if path.name.isdigit() and path.is_dir())

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
        return max((c.step for c in self._checkpointer.checkpoints if c.step not in self._leftover), default=None)

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint with the highest score (the earliest of equals), None without a scored one.

        Raises:
          CheckpointError: a score is no number.
        """
        return _best(self._scores())

    def _scores(self) -> dict[int, float]:
        scores = {}
        for checkpoint in self._checkpointer.checkpoints:
            if checkpoint.step in self._leftover or checkpoint.metrics is None:
                continue
            found: Any = (
                checkpoint.metrics.get(SCORE) if isinstance(checkpoint.metrics, Mapping) else checkpoint.metrics
            )
            if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
                place = self._directory / str(checkpoint.step) / _METRICS
                raise CheckpointError(f"{place}: {SCORE} must be a finite number, got {str(found)[:100]!r}")
            scores[checkpoint.step] = float(found)
        return scores

    def save(self, step: int, model: Any, training: Any, metadata: Mapping[str, Any], score: float | None) -> None:
        """Starts saving in the background; waits first for a save still under way.

        Args:
          step: number of steps done.
          model: tree of arrays that predicts.
          training: tree of the other arrays.
          metadata: JSON-able.
          score: validation score if this step was evaluated, else None; one that is not finite ranks nothing.

        Raises:
          TrainingError: an earlier save failed (full disk); the checkpoints before it are intact.
        """
        self.wait()
        if step == self.latest_step:
            return
        scores = self._scores()
        if score is not None and math.isfinite(score):
            scores[step] = score
        best = _best(scores)
        self._saving, self._kept = step, sorted({step} if best is None else {step, best})
        try:
            self._pending = self._checkpointer.save_checkpointables_async(
                step,
                {"model": model, "training": training},
                metrics={SCORE: scores[step]} if step in scores else None,
                custom_metadata=with_digest(metadata) if self._has_digests else dict(metadata),
            )
        except (OSError, ValueError) as error:
            raise self._failed(error) from error

    def _seal(self) -> None:
        """Writes the digests of a checkpoint whose files are complete; orbax then gives the folder its name.

        Runs in orbax's thread, of the first process alone, when all processes have written their part.
        """
        if self._has_digests:
            unnamed = list(self._directory.glob(f"{self._saving}.orbax-checkpoint-tmp*"))
            # Where renaming a folder is not atomic, orbax writes under the final name and adds a file at the end.
            write_digests(Path(unnamed[0] if unnamed else self._directory / str(self._saving)), self._kept)

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
        """Restores parts of a checkpoint; of several processes, all must call it.

        Args:
          step: one that exists.
          abstract: `model` and/or `training`, as trees of `jax.ShapeDtypeStruct` with the shardings wanted.

        Raises:
          CheckpointError: it is not there, damaged, or of another model.
        """
        self._verify(step, abstract)
        try:
            return self._checkpointer.load_checkpointables(step, dict(abstract))
        except Exception as error:  # orbax and tensorstore raise many kinds; the user needs to know which checkpoint
            raise CheckpointError(f"{self._directory / str(step)}: cannot be restored ({reason(error)})") from error

    def metadata(self, step: int) -> dict[str, Any]:
        """The JSON metadata saved with a checkpoint.

        Raises:
          CheckpointError: it is not there or damaged.
        """
        return checked_content(self._metadata(step), f"{self._directory / str(step)}: metadata")

    def _metadata(self, step: int) -> dict[str, Any]:
        folder = self._directory / str(step)
        try:
            found = _orbax().metadata(folder, checkpointable_name="model").custom_metadata
        except Exception as error:
            raise CheckpointError(f"{folder}: cannot be read ({reason(error)})") from error
        if not isinstance(found, dict) or (DIGEST not in found and self._digests(step) is not None):
            raise CheckpointError(f"{folder}: cannot be read (its metadata is gone){self._way_out(step)}")
        return found

    def shapes(self, step: int) -> dict[str, tuple[int, ...]]:
        """Reads the shapes of the arrays of `model` by path, `params/...`; of several processes, all must call it.

        Raises:
          CheckpointError: it is not there or damaged.
        """
        self._verify(step, ("model",))
        try:
            found = _orbax().metadata(self._directory / str(step), checkpointable_name="model").metadata
            leaves = jax.tree_util.tree_leaves_with_path(found, is_leaf=lambda leaf: hasattr(leaf, "shape"))
            return {"/".join(str(key.key) for key in path): tuple(leaf.shape) for path, leaf in leaves}
        except Exception as error:
            raise CheckpointError(f"{self._directory / str(step)}: cannot be read ({reason(error)})") from error

    def _verify(self, step: int, parts: Iterable[str]) -> None:
        """Checks the files of some parts of a checkpoint, once."""
        missing = tuple(part for part in parts if (step, part) not in self._verified)
        digests = self._digests(step)
        if digests is None and self._has_digests and DIGEST in self._metadata(step):
            raise CheckpointError(f"{self._directory / str(step) / DIGESTS}: is missing{self._way_out(step)}")
        self._compare(step, missing, digests, together=True)
        self._verified |= {(step, part) for part in missing}

    def _digests(self, step: int) -> Digests | None:
        if not self._has_digests:
            return None
        try:
            return read_digests(Path(self._directory / str(step)))
        except CheckpointError as error:
            raise CheckpointError(f"{error}{self._way_out(step)}") from error

    def _compare(self, step: int, parts: Sequence[str], digests: Digests | None, *, together: bool) -> None:
        """Compares files of a checkpoint with their digests.

        Args:
          step: of the checkpoint.
          parts: its folders.
          digests: of its files; None: it was written without.
          together: every process compares a share of the files, and all learn what was found.
        """
        if digests is None:
            return
        names, folder = digests.of(parts), Path(self._directory / str(step))
        first, every = (jax.process_index(), jax.process_count()) if together else (0, 1)
        found = first_damaged(folder, digests, names[first::every])
        place = len(names) if found is None else first + every * found
        place = smallest_of_all(place) if together else place
        if place < len(names) and folder.is_dir():  # else its run has just removed it
            what = "is damaged" if (folder / names[place]).exists() else "is missing"
            raise CheckpointError(f"{folder / names[place]}: {what} (SHA-256 does not match){self._way_out(step)}")

    def _way_out(self, damaged: int) -> str:
        """Names another checkpoint that is intact."""
        for step in reversed(self._steps_on_disk()):
            folder = Path(self._directory / str(step))
            if step == damaged or step in self._leftover:
                continue
            with contextlib.suppress(CheckpointError):
                digests = read_digests(folder)
                if digests is not None and first_damaged(folder, digests, list(digests.files)) is None:
                    return (
                        f"; the checkpoint of step {step} is intact: remove {self._directory / str(damaged)} to use it"
                    )
        return "; no other checkpoint is known to be intact"

    def _failed(self, error: Exception) -> TrainingError:
        why = reason(error)
        return TrainingError(f"{self._directory}: a checkpoint could not be saved ({why}); earlier ones are intact")


def _orbax() -> Any:
    """Orbax, imported with the first checkpoint: its import takes half a second, and 8-bit weights need none."""
    from orbax.checkpoint import v1

    return v1


class _Preserve:
    """Orbax's policy: of each save, the steps that `Checkpoints.save` decided to keep."""

    def __init__(self, owner: Checkpoints):
        self._owner = owner

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        return [checkpoint.step in self._owner._kept for checkpoint in checkpoints]


def _best(scores: Mapping[int, float]) -> int | None:
    return max(scores, key=lambda step: (scores[step], -step), default=None)


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
