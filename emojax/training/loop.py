"""The training loop: evaluate, save, next batch, step, log."""

import dataclasses
import math
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any

import jax

from emojax.config import TrainingConfig
from emojax.data import BatchStream
from emojax.errors import CheckpointError, TrainingError
from emojax.interruption import Interruption
from emojax.parallel import is_first_process, is_single_process, stop_requested
from emojax.progress import Progress
from emojax.schema import Ge, parse, settings
from emojax.training.metric_log import MetricLog
from emojax.training.selection import SavedSelection, Selection
from emojax.training.state import TrainState, state_shardings
from emojax.training.timing import StepTimer, Tracer
from emojax.types import Batch
from emojax.workdir import Checkpoints, abstract_like

_CHECKED = ("loss", "gradient_norm")
"""Metrics that must be finite in every step."""

StepFunction = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How training ended.

    Attributes:
      steps: steps done.
      epochs: epochs done, whole or begun.
      seconds: time spent training over all runs of the workdir, evaluation included.
      stop_reason: `finished`, `patience` or `interrupted`.
      best_step: step of the best checkpoint.
      best_score: its validation score.
      best_of_each: best value and step of each validation figure.
      interrupted_by: the signal, where one stopped it.
    """

    steps: int
    epochs: int
    seconds: float
    stop_reason: str
    best_step: int
    best_score: float | None
    best_of_each: dict[str, dict[str, float]]
    interrupted_by: signal.Signals | None = None


def stopped_before_training(number: signal.Signals) -> Outcome:
    """Outcome of a run that a signal stopped before its first step of this process."""
    return Outcome(0, 0, 0.0, "interrupted", 0, None, {}, number)


def train(
    state: TrainState,
    step: StepFunction,
    stream: BatchStream,
    validate: Callable[[dict[str, Any]], dict[str, float]] | None,
    checkpoints: Checkpoints,
    config: TrainingConfig,
    workdir: Path,
) -> Outcome:
    """Trains until the epochs are done, patience runs out or a signal comes; continues where checkpoints end.

    Args:
      state: initial state, sharded; replaced by the latest checkpoint where there is one.
      step: jitted training step.
      stream: training batches.
      validate: from variables of the model to validation metrics, of which `score` ranks checkpoints; None: the last
        checkpoint is the result.
      checkpoints: checkpoints of the workdir, open for writing.
      config: length, and steps between validations, checkpoints and log lines.
      workdir: folder of the run, for metrics and traces.

    Raises:
      TrainingError: the loss or its gradient is not finite, or something cannot be written.
      CheckpointError: the latest checkpoint cannot be restored.
    """
    return _Run(state, step, stream, validate, checkpoints, config, workdir).run()


@settings
class SavedPosition:
    """State of a `BatchStream`."""

    position: Annotated[int, Ge(0), "Batches handed out."]
    num_batches: Annotated[int, Ge(0)]


@settings
class SavedProgress:
    """Metadata of a checkpoint that training continues from."""

    data: SavedPosition
    selection: SavedSelection
    evaluated: Annotated[int, Ge(-1), "Last step with a validation result."]
    seconds: Annotated[float, Ge(0), "Spent by all runs of the workdir."]


class _Run:
    """The variables of one `train` call."""

    def __init__(self, state, step, stream, validate, checkpoints, config, workdir):
        self._state, self._step, self._stream, self._validate = state, step, stream, validate
        self._checkpoints, self._config, self._workdir = checkpoints, config, workdir
        self._selection = Selection(config.patience)
        self._evaluated = -1  # last step with a validation result
        self._seconds_before = 0.0  # spent by earlier runs of this workdir
        self._note = ""  # shown behind the progress
        self._start = time.monotonic()
        self._unread: tuple[int, dict[str, jax.Array], Future[None]] | None = None
        self._timer: StepTimer
        if checkpoints.latest_step is not None:
            self._restore(checkpoints.latest_step)

    def run(self) -> Outcome:
        per_epoch = self._stream.plan.batches_per_epoch
        evaluate_every = per_epoch * self._config.evaluate_every_epochs
        total, first = self._stream.num_batches, self._stream.position
        batches = iter(self._stream)
        reason = "finished"
        with (
            MetricLog(self._workdir, first, writing=is_first_process()) as log,
            Interruption(together=not is_single_process()) as interruption,
            Progress(f"train {self._workdir.name}", total, "steps", done=first) as progress,
            StepTimer() as self._timer,
            Tracer(self._workdir, first, self._config.profile_steps) as tracer,
        ):
            for done in range(first, total + 1):
                due = done == total or (done > 0 and done % evaluate_every == 0)
                if self._validate is None and done == total:
                    self._save(done, None, log)
                elif self._validate is not None and due and done != self._evaluated:
                    self._evaluate(done, log, progress)
                elif self._config.checkpoint_every_steps and done % self._config.checkpoint_every_steps == 0 and done:
                    self._save(done, None, log)
                if self._selection.exhausted:
                    reason = "patience"
                    break
                if stop_requested(done):
                    interruption.received = signal.SIGTERM
                if interruption.received is not None and done < total:
                    self._save(done, None, log)
                    reason = "interrupted"
                    break
                tracer.at(done, self._state)
                if done == total:
                    break
                waiting = time.monotonic()
                batch = next(batches)
                waited = time.monotonic() - waiting
                self._state, metrics = self._step(self._state, batch)
                finished = self._timer.dispatched(metrics, waited)
                self._read(log)
                self._unread = (done + 1, metrics, finished)
                progress.advance(note=self._note)
            self._read(log)
            self._checkpoints.wait()
        return Outcome(
            steps=done,
            epochs=math.ceil(done / per_epoch),
            seconds=self._seconds(),
            stop_reason=reason,
            best_step=self._selection.best_step,
            best_score=self._selection.best_score,
            best_of_each=self._selection.best_of_each,
            interrupted_by=interruption.received if reason == "interrupted" else None,
        )

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._start

    def _evaluate(self, done: int, log: MetricLog, progress: Progress) -> None:
        self._read(log)
        start = time.monotonic()
        metrics = self._validate(self._state.eval_variables)
        self._selection.update(done, metrics)
        self._evaluated = done
        log.write(done, self._epoch(done), {f"validation/{name}": value for name, value in metrics.items()})
        best = " (best so far)" if self._selection.best_step == done else ""
        shown = "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        progress.write(f"step {done}, epoch {self._epoch(done)}: validation {shown}{best}")
        self._save(done, metrics["score"], log)
        self._timer.exclude(time.monotonic() - start)

    def _save(self, done: int, score: float | None, log: MetricLog) -> None:
        self._read(log)  # a state is saved only after its loss was checked to be finite
        model, training = _parts(self._state)
        metadata = {
            "data": self._stream.get_state(),
            "selection": self._selection.get_state(),
            "evaluated": self._evaluated,
            "seconds": self._seconds(),
        }
        self._checkpoints.save(done, model, training, metadata, score)

    def _restore(self, step: int) -> None:
        saved = self._state.replace(teacher=None)
        model, training = _parts(abstract_like(saved, state_shardings(saved)))
        parts = self._checkpoints.restore(step, {"model": model, "training": training})
        place = f"{self._workdir}: checkpoint {step}"
        metadata = parse(SavedProgress, self._checkpoints.metadata(step), place, error=CheckpointError)
        if metadata.data.position > self._stream.num_batches:
            raise CheckpointError(
                f"{place}.data.position must be <= {self._stream.num_batches}, got {metadata.data.position}"
            )
        self._stream.set_state(dataclasses.asdict(metadata.data))
        self._selection.set_state(metadata.selection)
        self._evaluated, self._seconds_before = metadata.evaluated, metadata.seconds
        self._state = _joined(parts["model"], parts["training"], self._state)

    def _read(self, log: MetricLog) -> None:
        """Checks the metrics of the last dispatched step, and logs them if due; others are not copied to the host.

        Raises:
          TrainingError: they are not finite.
        """
        if self._unread is None:
            return
        (done, arrays, finished), self._unread = self._unread, None
        finished.result()
        logged = done % self._config.log_every_steps == 0
        read = arrays if logged else {name: arrays[name] for name in _CHECKED}
        scalars = {name: float(value) for name, value in jax.device_get(read).items()}
        bad = [name for name in _CHECKED if not math.isfinite(scalars[name])]
        if bad:
            latest = self._checkpoints.latest_step
            kept = f"the checkpoint of step {latest} is good" if latest is not None else "no checkpoint was saved yet"
            raise TrainingError(
                f"{self._workdir}: {bad[0]} is {scalars[bad[0]]} at step {done}; stopped, {kept}. "
                "A lower optimizer.learning_rate or optimizer.clip_norm usually helps"
            )
        self._note = f"loss {scalars['loss']:.4f}"
        if logged:
            timing = self._timer.means() | {"seconds/total": self._seconds()}
            named = {f"train/{name}": value for name, value in scalars.items()}
            log.write(done, self._epoch(done), named | timing)

    def _epoch(self, done: int) -> int:
        return math.ceil(done / self._stream.plan.batches_per_epoch)


def _parts(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """The two parts of a checkpoint (see `emojax.workdir.checkpoints`)."""
    training = {"step": state.step, "opt_state": state.opt_state, "objective": state.objective}
    if state.ema_params is not None:
        training["params"] = state.params
    return state.saved, training


def _joined(model: dict[str, Any], training: dict[str, Any], state: TrainState) -> TrainState:
    ema = state.ema_params is not None
    return TrainState(
        step=training["step"],
        params=training["params"] if ema else model["params"],
        frozen=state.frozen,
        objective=training["objective"],
        statistics=model["statistics"],
        opt_state=training["opt_state"],
        ema_params=model["params"] if ema else None,
        teacher=state.teacher,
    )
