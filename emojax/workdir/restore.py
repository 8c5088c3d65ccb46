"""Restores the model of a workdir; shapes are compared with the saved ones before arrays are read or allocated."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import flax.traverse_util
import jax
import numpy as np
from jax.sharding import Mesh

from emojax.config import ExperimentConfig
from emojax.errors import CheckpointError, ConfigError
from emojax.files import atomic_write, is_vacant
from emojax.models import (
    EmotionModel,
    build_model,
    example_batch,
    merge_params,
    parameter_axes,
    split_params,
    trainable_mask,
    variable_shapes,
)
from emojax.parallel import MeshConfig, make_mesh, state_sharding, to_device, to_host
from emojax.schema import to_tree
from emojax.workdir.checkpoints import Checkpoints, abstract_like
from emojax.workdir.encoders import copy_without_weights, load_encoders
from emojax.workdir.files import CONFIG, CORPUS, read_config
from emojax.workdir.location import find_checkpoint_directory
from emojax.workdir.lock import holds
from emojax.workdir.metadata import CorpusMetadata, TrainedOutputs, read_corpus_metadata, trained_outputs
from emojax.workdir.quantised import QUANTISED, quantised_shapes, read_quantised, write_quantised

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of every saved array by its path, `params/heads/attributes/kernel`."""


def check_shapes(wanted: Any, shapes: Shapes, place: str) -> None:
    """Checks that the arrays of a model are those that are saved.

    Args:
      wanted: tree of arrays or shapes of the model.
      shapes: shapes of the saved arrays.
      place: path of the checkpoint, for messages.

    Raises:
      CheckpointError: an array is absent, has another shape, or is not part of the model; the message names it.
    """
    leaves = jax.tree_util.tree_leaves_with_path(wanted)
    asked = {"/".join(str(key.key) for key in path): tuple(leaf.shape) for path, leaf in leaves}
    for name, shape in asked.items():
        if name not in shapes:
            raise CheckpointError(f"{place}: has no array {name}, which its config and corpus.json ask for")
        if shapes[name] != shape:
            raise CheckpointError(
                f"{place}: {name} has shape {shapes[name]}, its config and corpus.json ask for {shape}"
            )
    left = next((name for name in shapes if name not in asked), None)
    if left is not None:
        raise CheckpointError(f"{place}: {left} is not part of the model that its config and corpus.json describe")


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained model and what is needed to apply it.

    Attributes:
      workdir: its folder.
      config: config of the run.
      metadata: metadata of the training corpus.
      model: Linen module.
      variables: variables for `model.apply`, on the mesh's devices.
      step: step of its checkpoint.
      online: encoder modalities that are computed; the others need their hidden states in `Batch.stored`.
    """

    workdir: Path
    config: ExperimentConfig
    metadata: CorpusMetadata
    model: EmotionModel
    variables: dict[str, Any]
    step: int
    online: tuple[str, ...]

    @property
    def outputs(self) -> TrainedOutputs:
        """Outputs that were trained."""
        return trained_outputs(self.config.objective, self.config.distillation, self.metadata)

    @property
    def digest(self) -> str:
        """SHA-256 of its config and variables."""
        digest = hashlib.sha256(json.dumps(to_tree(self.config), sort_keys=True).encode())
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.variables):
            digest.update(jax.tree_util.keystr(path).encode() + np.ascontiguousarray(to_host(leaf)).tobytes())
        return digest.hexdigest()


def restore_model(
    workdir: Path, mesh: Mesh, stored: Collection[str] = (), dtype: Literal["float32", "bfloat16"] | None = None
) -> TrainedModel:
    """Restores the best checkpoint of a workdir (the latest if none was evaluated).

    Args:
      workdir: folder of a run.
      mesh: device mesh; arrays are sharded over it as in training.
      stored: modalities whose encoder is omitted, because their hidden states are read from a feature store.
      dtype: type of matrix products, in place of the config's.

    Raises:
      CheckpointError: the folder is not a workdir, has no checkpoint, or is damaged.
    """
    config = read_config(workdir)
    if dtype:
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype=dtype))
    metadata = read_corpus_metadata(workdir)
    with _saved_weights(workdir, config) as saved:
        online = tuple(modality for modality in config.model.encoder_modalities if modality not in stored)
        encoders = load_encoders(workdir, config.model, mesh, () if saved.whole else online)
        model = build_model(config.model, len(metadata.info.categories), encoders)
        wanted = variable_shapes(model, example_batch(model, online, config.data.max_tokens))
        if not saved.whole:
            wanted["params"], _ = split_params(wanted["params"], trainable_mask(wanted["params"], config.model))
        unused = tuple(f"params/{each}/encoder/" for each in config.model.encoder_modalities if each not in online)
        shapes = {name: shape for name, shape in saved.shapes.items() if not name.startswith(unused)}
        check_shapes(wanted, shapes, saved.place)
        variables = saved.read(wanted, state_sharding(wanted, mesh, parameter_axes(model.encoders)))
    loaded = {} if saved.whole else {modality: {"encoder": encoders[modality].params} for modality in online}
    params = merge_params(variables["params"], loaded)
    return TrainedModel(workdir, config, metadata, model, {**variables, "params": params}, saved.step, online)


@dataclasses.dataclass(frozen=True)
class _SavedWeights:
    """Saved weights: those of a checkpoint, or 8-bit integers.

    Attributes:
      step: step of the checkpoint; 0 for integers.
      place: path of the checkpoint, for messages.
      shapes: shapes of all arrays by path.
      read: function from a tree of shapes and one of shardings to the variables.
      whole: whether all parameters are saved, those of frozen encoders included.
    """

    step: int
    place: str
    shapes: Shapes
    read: Callable[[Any, Any], dict[str, Any]]
    whole: bool = False


@contextlib.contextmanager
def _saved_weights(workdir: Path, config: ExperimentConfig) -> Iterator[_SavedWeights]:
    if (workdir / QUANTISED).exists():

        def read_integers(wanted: Any, layout: Any) -> dict[str, Any]:
            variables = {"statistics": {}, **read_quantised(workdir, wanted)}  # absent from files of models without
            return jax.tree.map(to_device, variables, layout)

        yield _SavedWeights(0, str(workdir / QUANTISED), quantised_shapes(workdir), read_integers, whole=True)
        return
    directory = find_checkpoint_directory(workdir, config.training.checkpoint_dir)
    if not directory.is_dir():
        raise CheckpointError(f"{workdir}: has no checkpoint yet; train it first")
    with Checkpoints(directory, writing=False, digests=config.training.checkpoint_digests) as checkpoints:
        step = checkpoints.best_step if checkpoints.best_step is not None else checkpoints.latest_step
        if step is None:
            raise CheckpointError(f"{workdir}: has no checkpoint yet; train it first")
        yield _SavedWeights(
            step,
            str(directory / str(step)),
            checkpoints.shapes(step),
            lambda wanted, layout: checkpoints.restore(step, {"model": abstract_like(wanted, layout)})["model"],
        )


@holds("target")
def quantise_workdir(workdir: Path, target: Path) -> Path:
    """Writes a workdir with 8-bit weights in place of checkpoints; it is evaluated and loaded as any other.

    Args:
      workdir: folder of a trained run. Weights of its encoders, frozen ones too, become part of the file; the config
        and tokenizer files of each are copied.
      target: folder to write; must be absent or empty.

    Returns:
      Path of the weights.

    Raises:
      ConfigError: `target` holds something.
      CheckpointError: `workdir` cannot be restored.
      EmojaxError: `target` cannot be written.
    """
    if (workdir / QUANTISED).exists():
        raise CheckpointError(f"{workdir}: is quantised already")
    if not is_vacant(target):
        raise ConfigError(f"--output must be a new or empty folder, got {target}")
    mesh = make_mesh(MeshConfig(data=1, fsdp=1), jax.local_devices()[:1])
    trained = restore_model(workdir, mesh)
    config = trained.config
    # Without parameters that encoders have for training only, such as an embedding of masked frames.
    bare = build_model(config.model, trained.model.num_categories, load_encoders(workdir, config.model, mesh, ()))
    needed = variable_shapes(bare, example_batch(bare, trained.online, config.data.max_tokens))
    paths = flax.traverse_util.flatten_dict(needed)
    kept = {
        path: values for path, values in flax.traverse_util.flatten_dict(trained.variables).items() if path in paths
    }
    for name in (CONFIG, CORPUS):
        with atomic_write(target / name) as temporary:
            shutil.copyfile(workdir / name, temporary)
    for modality in config.model.encoder_modalities:
        copy_without_weights(workdir, target, modality)
    return write_quantised(flax.traverse_util.unflatten_dict(kept), target)
