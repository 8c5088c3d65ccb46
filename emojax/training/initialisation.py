"""Initial values from another workdir (`model.init_from`): parameters and statistics that fit are taken over."""

import dataclasses
from pathlib import Path
from typing import Any

import flax.traverse_util
import jax
import numpy as np
from jax.sharding import Mesh

from emojax.config import ExperimentConfig
from emojax.errors import CheckpointError, ConfigError
from emojax.models import merge_params
from emojax.parallel import is_first_process, to_device, to_host
from emojax.training.state import TrainState
from emojax.workdir import CorpusMetadata, TrainedModel, read_config, restore_model, stored_modalities, write_json

RECORD = "init_from.json"
"""File of a workdir that lists what was taken over from another one."""

_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What was taken over, by paths such as `params/heads/attributes/kernel`.

    Attributes:
      workdir: folder of the other run.
      step: step of its checkpoint.
      taken: arrays that were taken over.
      missing: arrays of the model that the other lacks.
      other_shape: arrays whose shapes differ, with both shapes.
      other_categories: arrays of the categories' head, where the lists of categories differ.
      extra: arrays of the other that the model lacks.
    """

    workdir: str
    step: int
    taken: tuple[str, ...]
    missing: tuple[str, ...]
    other_shape: tuple[str, ...]
    other_categories: tuple[str, ...]
    extra: tuple[str, ...]

    def __str__(self) -> str:
        """A line for every kind of array."""
        lines = [f"initial values from {self.workdir}, step {self.step}: {len(self.taken)} arrays taken over"]
        for label, paths in (
            ("not in it", self.missing),
            ("of another shape", self.other_shape),
            ("of other categories", self.other_categories),
            ("not used", self.extra),
        ):
            if paths:
                more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
                lines.append(f"  {label}: {', '.join(paths[:_SHOWN])}{more}")
        return "\n".join(lines)


def check_source(config: ExperimentConfig) -> Path:
    """Returns the folder `config.model.init_from`.

    Raises:
      CheckpointError: it is no workdir.
    """
    source = Path(config.model.init_from).expanduser()
    if not source.is_dir():
        raise CheckpointError(f"config.model.init_from: {source} is not a folder")
    read_config(source)
    return source


def init_from_workdir(
    state: TrainState, config: ExperimentConfig, metadata: CorpusMetadata, mesh: Mesh
) -> tuple[TrainState, Transfer]:
    """Replaces initial values by those of `config.model.init_from`; the optimizer's state stays that of a new run.

    Args:
      state: initial state.
      config: config of the run.
      metadata: metadata of the training corpus.
      mesh: device mesh.

    Returns:
      The state with the shardings of `state`, and what was taken over.

    Raises:
      CheckpointError: the folder is no workdir with a checkpoint, is damaged, or has no array that fits.
      ConfigError: the encoder was trained there and is frozen here, where its parameters would not be saved.
    """
    source = check_source(config)
    stored = stored_modalities(config.model)
    trained = restore_model(source, mesh, stored_modalities(read_config(source).model) if stored else ())
    _check_stored(config, trained, stored)
    old = {"params": merge_params(state.params, state.frozen), "statistics": state.statistics}
    found = _flat({"params": trained.variables["params"], "statistics": trained.variables.get("statistics", {})})
    taken, transfer = _matching(_flat(old), found, trained, metadata)
    if not taken:
        raise CheckpointError(f"config.model.init_from: no array of {source} has name and shape of one of the model")
    params = _replace(state.params, "params", taken)
    _check_frozen(state.frozen, taken, source)
    ema = None if state.ema_params is None else jax.tree.map(lambda leaf: leaf.copy(), params)
    statistics = _replace(state.statistics, "statistics", taken)
    return state.replace(params=params, ema_params=ema, statistics=statistics), transfer  # type: ignore[attr-defined]


def write_transfer(workdir: Path, transfer: Transfer) -> None:
    """Writes `init_from.json`."""
    if is_first_process():
        write_json(workdir / RECORD, dataclasses.asdict(transfer))


def _matching(
    wanted: dict[str, Any], found: dict[str, Any], trained: TrainedModel, metadata: CorpusMetadata
) -> tuple[dict[str, Any], Transfer]:
    same_categories = trained.metadata.info.categories == metadata.info.categories
    taken, missing, shapes, categories = {}, [], [], []
    for path, leaf in wanted.items():
        if path not in found:
            missing.append(path)
        elif not same_categories and "/categories/" in path:
            categories.append(path)
        elif found[path].shape != leaf.shape:
            shapes.append(f"{path} {tuple(found[path].shape)}, here {tuple(leaf.shape)}")
        else:
            taken[path] = found[path]
    extra = [path for path in found if path not in wanted]
    parts = (tuple(part) for part in (taken, missing, shapes, categories, extra))
    return taken, Transfer(str(trained.workdir), trained.step, *parts)


def _check_stored(config: ExperimentConfig, trained: TrainedModel, stored: tuple[str, ...]) -> None:
    for modality in stored:
        if modality in trained.config.model.encoder_modalities:
            train = getattr(trained.config.model, modality).train
            if train != "nothing":
                raise ConfigError(
                    f"config.model.{modality}.store must be '' with model.init_from={config.model.init_from!r}, whose "
                    "encoder was trained: a store has hidden states of the published one"
                )


def _check_frozen(frozen: Any, taken: dict[str, Any], source: Path) -> None:
    for path, leaf in _flat({"params": frozen}).items():
        if path in taken and not np.array_equal(to_host(leaf), to_host(taken[path])):
            modality = path.split("/")[1]
            raise ConfigError(
                f"config.model.{modality}.train must be 'all' with model.init_from={str(source)!r}, whose encoder was "
                f"trained: {path} differs from the published one"
            )


def _replace(tree: Any, root: str, taken: dict[str, Any]) -> Any:
    flat = _flat({root: tree})
    new = {
        path: to_device(to_host(taken[path]).astype(leaf.dtype), leaf.sharding) if path in taken else leaf
        for path, leaf in flat.items()
    }
    return flax.traverse_util.unflatten_dict(new, sep="/").get(root, {})


def _flat(tree: Any) -> dict[str, Any]:
    return flax.traverse_util.flatten_dict(tree, sep="/")
