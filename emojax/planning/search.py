"""Search for mesh, rows per chip and rematerialisation with which a slice computes most examples per second."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from emojax.config import ExperimentConfig
from emojax.errors import EmojaxError
from emojax.parallel import MeshConfig

_FIRST_ROWS = 4
_MAX_ROWS = 128
_LEAST_GAIN = 1.03
"""Twice the rows are tried as long as they gave 3 % more examples/s."""

_HOST_CHIPS = 8
"""Chips that parameters are sharded over where memory allows: those of one host have the fastest links."""

Evaluate = Callable[[ExperimentConfig], dict[str, Any]]
"""From a config to its plan, see `emojax.planning.step.plan_step`."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """A config that was compiled.

    Attributes:
      fsdp: chips that parameters are sharded over.
      rows: rows per chip.
      remat: `off`, or what is kept of a layer (`remat_saves`); empty for a model without a trained encoder.
      fits: whether the step fits into memory.
      peak_bytes: memory per chip.
      examples_per_second: of all chips, at most; 0 if it does not fit.
      mfu: at most.
      config: what was planned.
      plan: its plan.
    """

    fsdp: int
    rows: int
    remat: str
    fits: bool
    peak_bytes: int
    examples_per_second: float
    mfu: float
    config: ExperimentConfig = dataclasses.field(repr=False)
    plan: dict[str, Any] = dataclasses.field(repr=False)

    @property
    def flags(self) -> str:
        """Flags of the command that set what was found."""
        mesh = self.config.mesh
        found = [f"--config.data.batch_size={self.config.data.batch_size}"]
        found += [f"--config.mesh.data={mesh.data}", f"--config.mesh.fsdp={mesh.fsdp}"] if self.fsdp > 1 else []
        for modality in _trained(self.config):
            settings = getattr(self.config.model, modality)
            found.append(f"--config.model.{modality}.remat={settings.remat}")
            found += [f"--config.model.{modality}.remat_saves={settings.remat_saves}"] if settings.remat else []
        return " ".join(found)

    @property
    def summary(self) -> dict[str, Any]:
        """Values for JSON."""
        names = ("fsdp", "rows", "remat", "fits", "peak_bytes", "examples_per_second", "mfu")
        return {name: getattr(self, name) for name in names} | {"flags": self.flags}


def search(config: ExperimentConfig, chips: int, evaluate: Evaluate) -> tuple[Trial, list[Trial]]:
    """Compiles configs with other meshes, rows per chip and rematerialisation, and chooses the fastest that fits.

    Parameters are replicated or sharded over a host's chips; with sharded parameters only the best rematerialisation is
    tried again, and over all chips only where nothing fits otherwise. Micro-batches are 1: rows per chip take their
    place, so that the batch is the largest that is worth its memory.

    Args:
      config: config of the run; its mesh, batch size and rematerialisation are replaced.
      chips: number of chips.
      evaluate: compiles and plans a config.

    Returns:
      The best trial, and all of them in order.

    Raises:
      EmojaxError: nothing fits.
    """
    trials: list[Trial] = []
    kinds = ["off", "products", "attention", "nothing"] if _trained(config) else [""]
    for fsdp in sorted({1, min(_HOST_CHIPS, chips)}):
        for kind in kinds:
            trials += _more_rows(config, chips, fsdp, kind, evaluate)
        if best := _best(trials):
            kinds = [best.remat]
    if not _best(trials) and chips > _HOST_CHIPS:
        trials += _more_rows(config, chips, chips, kinds[-1], evaluate)
    best = _best(trials)
    if best is None:
        least = min(trial.peak_bytes for trial in trials)
        raise EmojaxError(f"nothing fits on {chips} chips; the least needs {least / 2**30:.1f} GiB per chip")
    return best, trials


def _more_rows(config: ExperimentConfig, chips: int, fsdp: int, remat: str, evaluate: Evaluate) -> Iterator[Trial]:
    """Twice the rows as long as they fit and are worth it; fewer where already the first do not fit."""
    rows, rate = _FIRST_ROWS, 0.0
    while rows <= _MAX_ROWS:
        trial = _trial(config, chips, fsdp, rows, remat, evaluate)
        yield trial
        if not trial.fits or trial.examples_per_second < _LEAST_GAIN * rate:
            break
        rows, rate = 2 * rows, trial.examples_per_second
    while not rate and rows > 1:
        rows //= 2
        trial = _trial(config, chips, fsdp, rows, remat, evaluate)
        yield trial
        rate = trial.examples_per_second


def _trial(config: ExperimentConfig, chips: int, fsdp: int, rows: int, remat: str, evaluate: Evaluate) -> Trial:
    model = config.model
    for modality in _trained(config):
        settings = getattr(model, modality)
        saves = settings.remat_saves if remat == "off" else remat
        settings = dataclasses.replace(settings, remat=remat != "off", remat_saves=saves)
        model = dataclasses.replace(model, **{modality: settings})
    tried = dataclasses.replace(
        config,
        model=model,
        mesh=MeshConfig(chips // fsdp, fsdp, 1),
        data=dataclasses.replace(config.data, batch_size=rows * chips),
        training=dataclasses.replace(config.training, micro_batches=1),
    )
    plan = evaluate(tried)
    predicted = plan.get("predicted")
    fits = plan["fits"] and predicted is not None
    rate = plan["batch_size"] / predicted["seconds"]["step"] if fits and predicted else 0.0
    mfu = predicted["mfu_at_most"] if fits and predicted else 0.0
    return Trial(fsdp, rows, remat, fits, plan["peak_bytes_per_chip"], rate, mfu, tried, plan)


def _best(trials: list[Trial]) -> Trial | None:
    fitting = [trial for trial in trials if trial.fits]
    return max(fitting, key=lambda trial: trial.examples_per_second, default=None)


def describe_remat(config: ExperimentConfig) -> str:
    """Formats the rematerialisation of trained encoders, for a line of text."""
    kinds = [getattr(config.model, modality) for modality in _trained(config)]
    return "".join(f", remat keeps {each.remat_saves}" if each.remat else ", no remat" for each in kinds)


def _trained(config: ExperimentConfig) -> list[str]:
    return [name for name in config.model.encoder_modalities if getattr(config.model, name).train != "nothing"]
