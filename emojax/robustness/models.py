"""Models of the grid: workdirs on all devices, importable models, and a constant predictor, on degraded batches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from jax.sharding import Mesh

from emojax.config import configuration
from emojax.errors import CheckpointError, ConfigError
from emojax.evaluation import softmax
from emojax.inference import load
from emojax.model_tests.model import CONSTANT, Clip, Constant, Model, Outputs, checked_outputs, import_model
from emojax.reporting.report import unique_names
from emojax.reporting.table import family_name
from emojax.robustness.degrade import ClipBatch
from emojax.robustness.shared_states import SharedStates, states_key
from emojax.schema import to_tree
from emojax.types import CorpusInfo


class GridModel(Protocol):
    """A model of the grid.

    Attributes:
      name: name in reports, unique.
      predicted: which of activation, valence and dominance it predicts.
      categories: its categories; () without.
      min_samples: samples of the shortest input at 16 kHz.
      takes_transcripts: whether it has a lexical modality.
      seconds_at_once: audio per batch and device, padding included (s).
      digest: identifies the model; results of another digest are computed again.
      configuration: config without the seed, equal for runs of one system; "" for a model that is no workdir.
      seed: seed of its training.
    """

    name: str
    predicted: tuple[bool, bool, bool]
    categories: tuple[str, ...]
    min_samples: int
    takes_transcripts: bool
    seconds_at_once: int
    digest: str
    configuration: str
    seed: int

    def predict(self, batch: ClipBatch, transcripts: Sequence[str]) -> Outputs:
        """Predicts the clips of a batch; `transcripts` are empty texts without a lexical modality."""
        ...


class WorkdirOnMesh:
    """The best checkpoint of a workdir, with the windows of evaluation; attributes are those of `GridModel`."""

    def __init__(self, workdir: Path, mesh: Mesh, name: str, shared: SharedStates):
        """Restores the model on all devices of a mesh.

        Args:
          workdir: folder of the run.
          mesh: devices that batches are sharded over.
          name: name in reports.
          shared: hidden states that models with the same frozen speech encoder share.

        Raises:
          CheckpointError: the folder is not a workdir, has no checkpoint, or is damaged.
        """
        self._predictor = load(workdir, mesh)
        trained = self._predictor.trained
        self.name = name
        self.predicted = trained.outputs.attributes
        self.categories = self._predictor.corpus.categories if trained.outputs.categories else ()
        self.min_samples = self._predictor.min_samples
        self.takes_transcripts = self._predictor.takes_transcripts
        self.seconds_at_once = self._predictor.seconds_at_once
        self._shared, self._states_key = shared, states_key(trained)
        self.digest = trained.digest
        self.configuration, self.seed = configuration(to_tree(trained.config)), trained.config.seed

    def predict(self, batch: ClipBatch, transcripts: Sequence[str]) -> Outputs:
        """Predicts the clips of a batch."""
        n = len(batch.ids)
        stored = None
        if self._states_key and not self._predictor.windows.divide(batch.waveform.shape[1]):
            stored = self._shared(self._states_key, self._predictor.trained, batch)
        output = self._predictor.forward(batch.waveform, batch.num_samples, list(transcripts), stored)
        attributes = np.where(self.predicted, output.attributes[:n].astype(np.float64), np.nan)
        probabilities = softmax(output.emotion_logits[:n]) if self.categories else np.zeros((n, 0))
        return Outputs(attributes, probabilities)


class OnHost:
    """A model of `emojax.model_tests`, which takes clips on the host; attributes are those of `GridModel`."""

    takes_transcripts = True
    seconds_at_once = 320
    configuration, seed = "", 0

    def __init__(self, model: Model, name: str, digest: str):
        """Wraps a model.

        Args:
          model: model; `takes_transcripts = False` in it skips recognition.
          name: name in reports.
          digest: identifies the model.
        """
        self._model, self.name, self.digest = model, name, digest
        self.predicted, self.categories, self.min_samples = model.predicted, model.categories, model.min_samples
        self.takes_transcripts = bool(getattr(model, "takes_transcripts", False))

    def predict(self, batch: ClipBatch, transcripts: Sequence[str]) -> Outputs:
        """Predicts the clips of a batch.

        Raises:
          EmojaxError: an output is not finite, or has the wrong shape.
        """
        clips = [Clip(*fields) for fields in zip(batch.ids, batch.clips(), transcripts, strict=True)]
        return checked_outputs(self._model, clips)


def is_workdir(name: str) -> bool:
    """Whether a name among the models of the command means a folder."""
    return name != CONSTANT and ":" not in name


def open_models(names: Sequence[str], info: CorpusInfo, mesh: Mesh) -> list[GridModel]:
    """Opens the models of a command.

    Args:
      names: workdirs, `MODULE:NAME` of importable models, `constant`.
      info: corpus that they are measured on.
      mesh: mesh of the workdirs' models.

    Raises:
      ConfigError: a model occurs twice, or cannot be imported.
      CheckpointError: a workdir does not exist or cannot be restored.
    """
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--models must be different workdirs, MODULE:NAME or {CONSTANT}, got {','.join(names)!r}")
    paths = [Path(name) for name in names if is_workdir(name)]
    for path in paths:
        if not path.is_dir():
            raise CheckpointError(f"{path}: no such workdir")
    labels = dict(zip(paths, unique_names(paths), strict=True)) if paths else {}
    shared = SharedStates(mesh)
    models: list[GridModel] = []
    for name in names:
        if is_workdir(name):
            models.append(WorkdirOnMesh(Path(name), mesh, labels[Path(name)], shared))
        elif name == CONSTANT:
            models.append(OnHost(Constant(info.categories), CONSTANT, CONSTANT))
        else:
            model = import_model(name, "--models")
            models.append(OnHost(model, model.name, f"{name} {model.name}"))
    shown = [model.name for model in models]
    if len(set(shown)) < len(shown):
        raise ConfigError(f"--models must have different names, got {', '.join(shown)}")
    return models


def systems_of(models: Sequence[GridModel]) -> dict[str, list[GridModel]]:
    """Groups the runs whose configs differ only in the seed: one system, whose scores are means over its runs.

    Args:
      models: models with different names.

    Returns:
      The runs of each system, by its name (`student` for `student_seed0` and `student_seed1`).

    Raises:
      ConfigError: two systems have the same name.
    """
    families: dict[str, list[GridModel]] = {}
    for model in models:
        families.setdefault(model.configuration or model.name, []).append(model)
    systems: dict[str, list[GridModel]] = {}
    for family in families.values():
        # A copied run is no other seed.
        together = len(family) > 1 and len({model.seed for model in family}) == len(family)
        for runs in [family] if together else [[model] for model in family]:
            name = family_name([model.name for model in runs]) if together else runs[0].name
            if name in systems:
                raise ConfigError(f"--models has two systems named {name!r} with different configs; rename a workdir")
            systems[name] = runs
    return systems
