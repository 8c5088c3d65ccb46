"""The training step of a config without devices, data or weights: shapes and shardings of its arguments."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from emojax.audio import load_sounds
from emojax.config import ExperimentConfig, TeacherConfig
from emojax.encoders import ComputeOptions
from emojax.encoders.whisper_encoder import padded_module
from emojax.errors import CorpusError
from emojax.feature_store import DTYPES, STATES, single_array
from emojax.models import EmotionModel, EncoderPart, build_model, example_batch, parameter_axes, variable_shapes
from emojax.models.encoder_input import AcousticInputConfig
from emojax.parallel import batch_sharding, replicated, state_sharding
from emojax.planning.architectures import describe_encoder
from emojax.teachers import Ensemble, Teacher, TeacherArrays
from emojax.teachers.cache import TEACHER, TeacherCache, open_cache, row_size
from emojax.teachers.calibration import identity_calibration
from emojax.teachers.ensemble import normalised_weights
from emojax.teachers.hidden_states import TEACHER_STATES, StoredStates, load_hidden_states
from emojax.training import TrainState, make_optimizer
from emojax.training.data import open_data
from emojax.training.experiment import Experiment, check_micro_batches
from emojax.types import SAMPLE_RATE, Batch, CorpusInfo, StoredRows
from emojax.workdir import (
    ENCODERS,
    CorpusMetadata,
    TrainedModel,
    abstract_like,
    read_config,
    read_corpus_metadata,
    unknown_labels,
)

_CATEGORIES = 8
"""Number of categories of a corpus that is not on this machine and whose config names none, as of MSP-Podcast."""

_STORED_ROWS_PER_SECOND = 50
"""Rows of hidden states: all published speech encoders have a frame every 20 ms."""

_STEPS = 100_000
"""Length of the learning rate schedule; no shape depends on it."""


@dataclasses.dataclass(frozen=True)
class AbstractStep:
    """A training step that can be traced and compiled.

    Attributes:
      jitted: from state, batch and, with augmentation of the waveform, sounds.
      arguments: their shapes, dtypes and shardings.
      metadata: metadata of the corpus; placeholders where it is not on this machine.
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
    """Assembles the abstract training step of a config, for utterances padded to one length.

    Args:
      config: config of the run. Its corpus and weights need not be on this machine; a teacher's workdir may be that of
        another plan.
      mesh: device mesh; its devices need not exist.
      seconds: length of every utterance (s).

    Raises:
      EmojaxError: the config cannot run on that mesh, or an encoder's architecture is not known.
    """
    check_micro_batches(config, mesh)
    metadata = plan_metadata(config)
    modalities = config.model.encoder_modalities
    model = _model(config, metadata, {name: getattr(config.model, name).checkpoint for name in modalities})
    teacher = _teacher(config, metadata, mesh) if config.distillation.on else None
    experiment = Experiment(config, metadata, mesh, model, {}, teacher)
    optimizer = make_optimizer(config.optimizer, _STEPS, modalities)
    state = experiment.init_state(optimizer, abstract=True)
    arguments: tuple[Any, ...] = (state, _batch(experiment, seconds))
    if config.augment.on:
        arguments += (abstract_like(load_sounds(config.augment, config.seed), replicated(mesh)),)
    return AbstractStep(experiment.jitted_step(optimizer, state), arguments, metadata)


def plan_metadata(config: ExperimentConfig) -> CorpusMetadata:
    """Metadata of the config's corpus; placeholders where it is not on this machine."""
    try:
        # A plan depends on the number of tokens, not on texts, which may not be on this machine.
        lexical = dataclasses.replace(config.model.lexical, transcripts="")
        model = dataclasses.replace(config.model, lexical=lexical)
        return open_data(dataclasses.replace(config, model=model)).metadata
    except CorpusError:  # it is not on this machine
        names = config.corpus.categories or tuple(f"category {number}" for number in range(_CATEGORIES))
        info = CorpusInfo(config.corpus.name, (1.0, 7.0), tuple(names), "recorded", "rated", "", "")
        return dataclasses.replace(unknown_labels(info), emotion=np.arange(len(names)))


def _model(config: ExperimentConfig, metadata: CorpusMetadata, checkpoints: dict[str, str]) -> EmotionModel:
    parts: dict[str, EncoderPart] = {}
    for modality, checkpoint in checkpoints.items():
        settings = getattr(config.model, modality)
        options = ComputeOptions(
            jnp.dtype(config.model.dtype), settings.remat, settings.scan_layers, settings.remat_saves
        )
        part = describe_encoder(checkpoint, options, settings.keep_layers)
        if isinstance(settings, AcousticInputConfig) and settings.padded:
            module = padded_module(part.module, "config.model.acoustic.padded")
            part = dataclasses.replace(part, module=module)
        parts[modality] = part
    return build_model(config.model, len(metadata.info.categories), parts)


def _teacher(experiment: ExperimentConfig, metadata: CorpusMetadata, mesh: Mesh) -> Teacher:
    """A teacher whose models are abstract, or the cache of its outputs."""
    config = experiment.teacher
    source: Ensemble | TeacherCache
    if config.caches:
        source = open_cache(config)
    else:
        folders = [Path(folder).expanduser() for folder in config.workdirs]
        source = Ensemble(tuple(_member(folder, config, mesh) for folder in folders), normalised_weights(config))
    calibration = abstract_like(identity_calibration(), replicated(mesh))
    members = source.variables if isinstance(source, Ensemble) else []
    states = load_hidden_states(config, experiment.distillation, source)
    return Teacher(source, metadata.info.categories, TeacherArrays(members, calibration), states)


def _member(workdir: Path, teacher: TeacherConfig, mesh: Mesh) -> TrainedModel:
    config = read_config(workdir)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype=teacher.dtype))
    metadata = read_corpus_metadata(workdir)
    modalities = config.model.encoder_modalities
    checkpoints = {}
    for modality in modalities:
        kept = workdir / ENCODERS / modality
        checkpoints[modality] = str(kept) if kept.is_dir() else getattr(config.model, modality).checkpoint
    model = _model(config, metadata, checkpoints)
    shapes = variable_shapes(model, example_batch(model, modalities, config.data.max_tokens))
    shardings = state_sharding(shapes, mesh, parameter_axes(model.encoders))
    return TrainedModel(workdir, config, metadata, model, abstract_like(shapes, shardings), 0, modalities)


def _batch(experiment: Experiment, seconds: float) -> Batch:
    """Shapes and shardings of a batch of utterances of one length."""
    config, example, teacher = experiment.config, experiment.example, experiment.teacher
    rows, samples, tokens = config.data.batch_size, round(seconds * SAMPLE_RATE), example.tokens.shape[1]
    if teacher and isinstance(teacher.source, Ensemble) and "lexical" in teacher.source.modalities:
        tokens = config.data.max_tokens

    def array(leaf: jax.Array, *lengths: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *lengths, *leaf.shape[1 + len(lengths) :]), leaf.dtype)

    batch: Any = jax.tree.map(array, example)
    stored_rows = {"acoustic": round(seconds * _STORED_ROWS_PER_SECOND), "lexical": config.data.max_tokens}
    if config.model.acoustic.padded and "acoustic" in example.stored:
        sizes: Any = experiment.model.encoders["acoustic"].module.config
        stored_rows["acoustic"] = -(-samples // sizes.max_samples) * sizes.max_frames
    stored = {
        modality: StoredRows(array(states.values, stored_rows[modality]), array(states.num_rows))
        for modality, states in example.stored.items()
    }
    if teacher and isinstance(teacher.source, TeacherCache):
        size = row_size(len(teacher.source.categories), teacher.source.embedding_size)
        values = jax.ShapeDtypeStruct((rows, 1, size), jnp.float32)
        stored[TEACHER] = StoredRows(values, jax.ShapeDtypeStruct((rows,), jnp.int32))
    if teacher and isinstance(teacher.hidden_states, StoredStates):
        spec = single_array(teacher.hidden_states.stores[0].metadata, STATES, teacher.hidden_states.stores[0].directory)
        frames = samples // teacher.hidden_states.samples_per_frame
        values = jax.ShapeDtypeStruct((rows, frames, *spec.shape), jnp.dtype(DTYPES[spec.dtype]))
        stored[TEACHER_STATES] = StoredRows(values, jax.ShapeDtypeStruct((rows,), jnp.int32))
    waveform, ids = array(example.waveform, samples), array(example.tokens, tokens)
    if config.objective.uses_ratings:
        counts = jax.ShapeDtypeStruct((*batch.attributes.shape, config.model.rating_bins), jnp.float32)
        batch = batch.replace(attributes_std=batch.attributes, rating_counts=counts)
    return abstract_like(batch.replace(waveform=waveform, tokens=ids, stored=stored), batch_sharding(experiment.mesh))
