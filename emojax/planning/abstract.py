"""A run without devices, data or weights: shapes and shardings of everything its training step takes."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from emojax.audio import load_sounds
from emojax.config import ExperimentConfig, TeacherConfig
from emojax.data import open_corpus, read_index
from emojax.encoders import ComputeOptions
from emojax.errors import CorpusError
from emojax.models import EmotionModel, EncoderPart, parameter_axes
from emojax.parallel import batch_sharding, num_batch_shards, replicated, state_sharding
from emojax.planning.architectures import describe_encoder
from emojax.training.optimizer import make_optimizer
from emojax.training.run import abstract_step, check_micro_batches, objective_parameters_of
from emojax.training.state import TrainState, abstract_state
from emojax.training.teachers import Teacher, TeacherArrays, united_categories
from emojax.types import NUM_ATTRIBUTES, SAMPLE_RATE, Batch, CorpusInfo, StoredRows
from emojax.workdir import (
    ENCODERS,
    CorpusMetadata,
    TrainedModel,
    abstract_like,
    corpus_metadata,
    example_batch,
    read_config,
    read_corpus_metadata,
    stored_modalities,
    unknown_labels,
)

_CATEGORIES = 8
"""Of a corpus that is not on this machine and whose config names none: as many as MSP-Podcast's consensus has."""

_STORED_ROWS_PER_SECOND = 50
"""Of an encoder's states: all published speech encoders have a frame every 20 ms."""

_STEPS = 100_000
"""Length of the schedule; it changes no shape."""


@dataclasses.dataclass(frozen=True)
class AbstractStep:
    """A training step that can be traced and compiled.

    Attributes:
      jitted: from state, batch and, where the waveform is changed, sounds.
      arguments: their shapes, dtypes and shardings.
      metadata: of the corpus, as far as known.
    """

    jitted: Any
    arguments: tuple[Any, ...]
    metadata: CorpusMetadata

    @property
    def state(self) -> TrainState:
        """The train state."""
        state: TrainState = self.arguments[0]
        return state


def abstract_run(config: ExperimentConfig, mesh: Mesh, seconds: float) -> AbstractStep:
    """The training step of a config, for utterances padded to some length.

    Args:
      config: of the run. Its corpus and the weights it names need not be on this machine; a teacher's workdir may be
        the workdir of another plan.
      mesh: over devices that need not exist.
      seconds: length of every utterance.

    Raises:
      EmojaxError: the config cannot run on that mesh, or an encoder's architecture is not known.
    """
    check_micro_batches(config, num_batch_shards(mesh))
    metadata = _metadata(config)
    online = tuple(
        modality for modality in config.model.encoder_modalities if modality not in stored_modalities(config.model)
    )
    model = _model(
        config,
        metadata,
        {modality: getattr(config.model, modality).checkpoint for modality in config.model.encoder_modalities},
    )
    optimizer = make_optimizer(config.optimizer, _STEPS, config.model.encoder_modalities)
    example = example_batch(config, model, online)
    teacher = _teacher(config.teacher, metadata, mesh) if config.distillation.on else None
    batch = _batch(config, example, mesh, seconds, teacher)
    state = abstract_state(
        model,
        optimizer,
        example,
        mesh,
        averaging=config.optimizer.ema_decay > 0,
        objective=objective_parameters_of(config, model, example, teacher, batch),
    )
    if teacher:
        state = state.replace(teachers=teacher.arrays)  # type: ignore[attr-defined]
    jitted = abstract_step(config, metadata, model, optimizer, state, teacher)
    arguments: tuple[Any, ...] = (state, batch)
    if config.augment.on:
        arguments += (_like(load_sounds(config.augment, config.seed), replicated(mesh)),)
    return AbstractStep(jitted, arguments, metadata)


def _metadata(config: ExperimentConfig) -> CorpusMetadata:
    try:
        corpus = open_corpus(config.corpus.name, config.corpus.data_dir)
        split = config.corpus.with_splits(corpus.split_assignment, corpus.folds).train_split
        return corpus_metadata(corpus.info, read_index(corpus, split))
    except CorpusError:  # it is not on this machine
        names = config.corpus.categories or tuple(f"category {number}" for number in range(_CATEGORIES))
        info = CorpusInfo(config.corpus.name, (1.0, 7.0), tuple(names), "recorded", "rated", "", "")
        return dataclasses.replace(unknown_labels(info), emotion=np.arange(len(names)))


def _model(config: ExperimentConfig, metadata: CorpusMetadata, checkpoints: dict[str, str]) -> EmotionModel:
    parts: dict[str, EncoderPart] = {}
    for modality, checkpoint in checkpoints.items():
        settings = getattr(config.model, modality)
        options = ComputeOptions(jnp.dtype(config.model.dtype), settings.remat, settings.scan_layers)
        parts[modality], _ = describe_encoder(checkpoint, options)
    return EmotionModel(config.model, len(metadata.info.categories), parts)


def _teacher(settings: TeacherConfig, metadata: CorpusMetadata, mesh: Mesh) -> Teacher:
    """The teachers that run inside the step; one from a cache needs no more than the rows in the batch."""
    whole = replicated(mesh)
    line, by_attribute = (2, NUM_ATTRIBUTES), (NUM_ATTRIBUTES,)
    shapes: tuple[tuple[int, ...], ...] = (line, by_attribute, by_attribute, by_attribute, ())
    units = [jax.ShapeDtypeStruct(shape, jnp.float32, sharding=whole) for shape in shapes]
    categories = metadata.info.categories
    if settings.caches:
        return Teacher((), (), categories, categories, settings.caches, TeacherArrays([], *units))
    members = tuple(_member(Path(folder).expanduser(), settings, mesh) for folder in settings.workdirs)
    weights = settings.weights or (1.0,) * len(members)
    known = united_categories(members)
    share = tuple(weight / sum(weights) for weight in weights)
    arrays = TeacherArrays([member.variables for member in members], *units)
    return Teacher(members, share, known, categories, (), arrays)


def _member(workdir: Path, settings: TeacherConfig, mesh: Mesh) -> TrainedModel:
    config = read_config(workdir)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype=settings.dtype))
    metadata = read_corpus_metadata(workdir)
    modalities = config.model.encoder_modalities
    kept = {modality: workdir / ENCODERS / modality for modality in modalities}
    named = {modality: getattr(config.model, modality).checkpoint for modality in modalities}
    model = _model(
        config,
        metadata,
        {modality: str(kept[modality]) if kept[modality].is_dir() else named[modality] for modality in modalities},
    )
    example = example_batch(config, model, modalities)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), example, train=False))
    variables = {"params": shapes["params"], "statistics": shapes.get("statistics", {})}
    layout = state_sharding(variables, mesh, parameter_axes(model.encoders))
    return TrainedModel(workdir, config, metadata, model, abstract_like(variables, layout), 0, modalities)


def _batch(config: ExperimentConfig, example: Batch, mesh: Mesh, seconds: float, teacher: Teacher | None) -> Batch:
    """Shapes of a batch."""
    rows, samples = config.data.batch_size, round(seconds * SAMPLE_RATE)
    modalities = {
        modality for member in (teacher.members if teacher else ()) for modality in member.config.model.modalities
    }
    tokens = config.data.max_tokens if example.tokens.shape[1] or "lexical" in modalities else 0
    lengths = {"waveform": samples, "tokens": tokens}
    fields = {}
    for field in dataclasses.fields(example):
        value = getattr(example, field.name)
        if isinstance(value, jax.Array):
            shape = (rows, lengths.get(field.name, 0)) if field.name in lengths else (rows, *value.shape[1:])
            fields[field.name] = jax.ShapeDtypeStruct(shape, value.dtype)
    frames = {"acoustic": round(seconds * _STORED_ROWS_PER_SECOND), "lexical": config.data.max_tokens}
    stored = {
        modality: StoredRows(
            jax.ShapeDtypeStruct((rows, frames[modality], *states.values.shape[2:]), states.values.dtype),
            jax.ShapeDtypeStruct((rows,), jnp.int32),
        )
        for modality, states in example.stored.items()
    }
    return abstract_like(example.replace(**fields, stored=stored), batch_sharding(mesh))  # type: ignore[attr-defined]


def _like(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
