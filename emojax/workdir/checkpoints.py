"""Checkpoints with orbax: saved asynchronously, latest and best kept, restored on any mesh.

A checkpoint has two parts. `model` holds `params` (their moving average, if enabled) and `statistics`, which suffice
for evaluation, prediction and distillation; `training` holds the remaining state of the run. Position in the data and
selection are saved as JSON metadata. Digests of all files are written in the background when the checkpoint is
complete, before its folder is renamed to its final name: a folder with its final name has its digests.
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
from emojax.parallel import is_first_process, min_over_processes, sync_processes
from emojax.workdir.digests import DIGESTS, Digests, first_damaged, read_digests, write_digests

SCORE = "score"
"""Name of the metric that ranks checkpoints (larger is better)."""

_METRICS = "metrics"
"""Folder of the score in a checkpoint."""

_UNFINISHED = "*.orbax-checkpoint-tmp*"
"""Folders of unfinished saves, which orbax ignores but does not remove."""


class Checkpoints:
    """Checkpoints of one workdir; a context manager that waits for pending saves on exit."""

    def __init__(self, directory: Path | epath.Path, *, writing: bool, digests: bool = True):
        """Opens the folder.

        Args:
          directory: folder of the checkpoints; created if absent.
          writing: whether this run saves checkpoints: remains of interrupted saves and deletions are then removed.
            Otherwise unfinished saves are ignored, since another process may be writing them.
          digests: whether digests are written and compared; never on buckets, whose objects have checksums.

        Raises:
          TrainingError: the folder cannot be written or reached.
          CheckpointError: the score or the digests of a checkpoint are damaged.
        """
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs exceptions that it also raises
        ocp = _orbax()
        self._directory = epath.Path(directory)
        self._has_digests = digests and "://" not in str(directory)
        self._kept: list[int] = []  # steps kept after the pending save
        self._saving = 0
        self._leftover: set[int] = set()
        self._verified: set[tuple[int, str]] = set()
        self._pending: Any = None
        try:
            self._clean_up(writing)
            # Orbax deep-copies its options, including the object of a bound method, but not functions.
            when_complete = ocp.options.AsyncOptions(post_finalization_callback=lambda: self._finalise())
            self._checkpointer = ocp.training.Checkpointer(
                self._directory,
                context=ocp.Context(async_options=when_complete),
                save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=_Preserve(self),
            )
        except OSError as error:
            raise TrainingError(f"{directory}: checkpoints cannot be saved there ({error.strerror})") from error
        except ImportError as error:  # the client library of a bucket is not installed
            raise TrainingError(f"{directory}: cannot be reached ({error})") from error
        except EmojaxError:
            raise
        except Exception as error:  # orbax reads the scores of all checkpoints, which may be damaged
            raise CheckpointError(f"{directory}: a checkpoint's score cannot be read ({reason(error)})") from error

    def _clean_up(self, writing: bool) -> None:
        """Removes remains of interrupted saves and deletions, and verifies the scores."""
        if writing and is_first_process():
            for unfinished in self._directory.glob(_UNFINISHED):
                unfinished.rmtree()
        steps = self._steps_on_disk() if self._has_digests else []
        digests = self._digests(steps[-1]) if steps else None
        if digests is not None:
            self._leftover = set(steps) - {steps[-1], *digests.kept}
        if writing and is_first_process():
            for step in self._leftover:  # deletion was interrupted
                (self._directory / str(step)).rmtree()
        if writing:
            sync_processes(f"{self._directory} is cleaned up")
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
        """Waits for pending saves; a failed save does not replace an exception already raised."""
        try:
            self.wait()
            self._checkpointer.close()
        except Exception as failure:
            with contextlib.suppress(Exception):
                self._checkpointer.close()  # raises again after a failed save, but closes
            if error is None:
                raise failure if isinstance(failure, TrainingError) else self._failed(failure) from failure

    @property
    def latest_step(self) -> int | None:
        """Step of the newest checkpoint; None without checkpoints."""
        return max((c.step for c in self._checkpointer.checkpoints if c.step not in self._leftover), default=None)

    @property
    def best_step(self) -> int | None:
        """Step of the checkpoint with the highest score (the earliest if equal); None without scores.

        Raises:
          CheckpointError: a score is not a finite number.
        """
        return _best(self._scores())

    def _scores(self) -> dict[int, float]:
        scores = {}
        for checkpoint in self._checkpointer.checkpoints:
            if checkpoint.step in self._leftover or checkpoint.metrics is None:
                continue
            score: Any = (
                checkpoint.metrics.get(SCORE) if isinstance(checkpoint.metrics, Mapping) else checkpoint.metrics
            )
            if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
                folder = self._directory / str(checkpoint.step) / _METRICS
                raise CheckpointError(f"{folder}: {SCORE} must be a finite number, got {str(score)[:100]!r}")
            scores[checkpoint.step] = float(score)
        return scores

    def save(self, step: int, model: Any, training: Any, metadata: Mapping[str, Any], score: float | None) -> None:
        """Starts saving in the background, after waiting for a pending save.

        Args:
          step: number of completed steps.
          model: arrays needed for prediction.
          training: remaining arrays of the training state.
          metadata: JSON-serialisable values.
          score: validation score if this step was evaluated, else None; a non-finite score is ignored.

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

    def _finalise(self) -> None:
        """Writes the digests of a complete checkpoint, before orbax renames its folder.

        Runs in orbax's thread of the first process, when all processes have written their parts.
        """
        if self._has_digests:
            temporary = list(self._directory.glob(f"{self._saving}.orbax-checkpoint-tmp*"))
            # Where renaming a folder is not atomic, orbax writes under the final name and adds a file at the end.
            write_digests(Path(temporary[0] if temporary else self._directory / str(self._saving)), self._kept)

    def wait(self) -> None:
        """Waits for the pending save.

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
        """Restores parts of a checkpoint; must be called by all processes.

        Args:
          step: step of the checkpoint.
          abstract: `model` and/or `training`, as trees of `jax.ShapeDtypeStruct` with shardings.

        Raises:
          CheckpointError: the checkpoint is missing, damaged, or of another model.
        """
        self._verify(step, abstract)
        try:
            return self._checkpointer.load_checkpointables(step, dict(abstract))
        except Exception as error:  # orbax and tensorstore raise various exceptions
            raise CheckpointError(f"{self._directory / str(step)}: cannot be restored ({reason(error)})") from error

    def metadata(self, step: int) -> dict[str, Any]:
        """Returns the JSON metadata saved with a checkpoint.

        Raises:
          CheckpointError: the checkpoint is missing or damaged.
        """
        return checked_content(self._metadata(step), f"{self._directory / str(step)}: metadata")

    def _metadata(self, step: int) -> dict[str, Any]:
        folder = self._directory / str(step)
        try:
            found = _orbax().metadata(folder, checkpointable_name="model").custom_metadata
        except Exception as error:
            raise CheckpointError(f"{folder}: cannot be read ({reason(error)})") from error
        if not isinstance(found, dict) or (DIGEST not in found and self._digests(step) is not None):
            raise CheckpointError(f"{folder}: cannot be read (its metadata is missing){self._recovery_hint(step)}")
        return found

    def shapes(self, step: int) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of the arrays of `model` by path, `params/...`; must be called by all processes.

        Raises:
          CheckpointError: the checkpoint is missing or damaged.
        """
        self._verify(step, ("model",))
        try:
            found = _orbax().metadata(self._directory / str(step), checkpointable_name="model").metadata
            leaves = jax.tree_util.tree_leaves_with_path(found, is_leaf=lambda leaf: hasattr(leaf, "shape"))
            return {"/".join(str(key.key) for key in path): tuple(leaf.shape) for path, leaf in leaves}
        except Exception as error:
            raise CheckpointError(f"{self._directory / str(step)}: cannot be read ({reason(error)})") from error

    def _verify(self, step: int, parts: Iterable[str]) -> None:
        """Compares the files of some parts of a checkpoint with their digests, once."""
        missing = tuple(part for part in parts if (step, part) not in self._verified)
        digests = self._digests(step)
        if digests is None and self._has_digests and DIGEST in self._metadata(step):
            raise CheckpointError(f"{self._directory / str(step) / DIGESTS}: is missing{self._recovery_hint(step)}")
        self._compare(step, missing, digests, together=True)
        self._verified |= {(step, part) for part in missing}

    def _digests(self, step: int) -> Digests | None:
        if not self._has_digests:
            return None
        try:
            return read_digests(Path(self._directory / str(step)))
        except CheckpointError as error:
            raise CheckpointError(f"{error}{self._recovery_hint(step)}") from error

    def _compare(self, step: int, parts: Sequence[str], digests: Digests | None, *, together: bool) -> None:
        """Compares files of a checkpoint with their digests.

        Args:
          step: step of the checkpoint.
          parts: folders to compare.
          digests: digests of the files; None if the checkpoint was written without.
          together: divides the files among the processes, which share the result.
        """
        if digests is None:
            return
        names, folder = digests.files_in(parts), Path(self._directory / str(step))
        start, stride = (jax.process_index(), jax.process_count()) if together else (0, 1)
        found = first_damaged(folder, digests, names[start::stride])
        index = len(names) if found is None else start + stride * found
        index = min_over_processes(index) if together else index
        if index < len(names) and folder.is_dir():  # else its run has just removed it
            fault = "is damaged" if (folder / names[index]).exists() else "is missing"
            hint = self._recovery_hint(step)
            raise CheckpointError(f"{folder / names[index]}: {fault} (SHA-256 does not match){hint}")

    def _recovery_hint(self, damaged: int) -> str:
        """Suggests another checkpoint that is intact."""
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
        cause = reason(error)
        return TrainingError(f"{self._directory}: a checkpoint could not be saved ({cause}); earlier ones are intact")


def _orbax() -> Any:
    """Orbax, imported with the first checkpoint: its import takes half a second, and 8-bit weights need none."""
    from orbax.checkpoint import v1

    return v1


class _Preserve:
    """Preservation policy for orbax: keeps the steps chosen by `Checkpoints.save`."""

    def __init__(self, owner: Checkpoints):
        self._owner = owner

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        return [checkpoint.step in self._owner._kept for checkpoint in checkpoints]


def _best(scores: Mapping[int, float]) -> int | None:
    return max(scores, key=lambda step: (scores[step], -step), default=None)


def abstract_like(tree: Any, sharding: Any) -> Any:
    """Converts a tree to `jax.ShapeDtypeStruct`s with shardings, the argument of `Checkpoints.restore`.

    Args:
      tree: arrays or `jax.ShapeDtypeStruct`s.
      sharding: one sharding for all leaves, or a tree of shardings.
    """
    if isinstance(sharding, jax.sharding.Sharding):
        sharding = jax.tree.map(lambda _: sharding, tree)
    return jax.tree.map(
        lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree, sharding
    )
