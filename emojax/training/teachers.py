"""Teachers: trained models whose outputs a student learns from, computed inside its step or read from a cache.

How wrong a teacher is on an utterance is measured by |a + b·t − y|, its prediction t against the label y, in units of
τ: a quantile of the same over training data. a and b are the least-squares line from predictions to labels (0 and 1
without `debias`). They only measure; the student sees the teacher's predictions as they are.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from emojax.config import TeacherConfig
from emojax.data import BatchInputs, BatchStream, StoredInput
from emojax.errors import CheckpointError, ConfigError
from emojax.evaluation import match_categories, same_categories
from emojax.feature_store import OUTPUTS, Store, TeacherSource, parse_source, single_array
from emojax.losses import DistillationConfig
from emojax.metrics.moments import CoMoments, co_moments
from emojax.metrics.scores import moments_in_float64
from emojax.parallel import replicated, to_device, to_host
from emojax.progress import Progress
from emojax.types import ATTRIBUTES, NUM_ATTRIBUTES, Batch, EmotionOutput, TeacherOutput
from emojax.workdir import ENCODERS, TrainedModel, example_batch, read_encoder_source, restore_model

CACHED = "teacher"
"""Key of `Batch.stored` under which a cache's rows arrive."""

_MAX_BATCHES = 200
_LEAST_TAU = 1e-6

_LEAST_DEVIATION = 1e-4
"""Of a teacher's predictions, on a scale of [0, 1]: with less, the line through them would be steep at random."""


@flax.struct.dataclass
class TeacherArrays:
    """What teaching needs on the devices; constant during training.

    Attributes:
      members: variables of each teacher.
      line: a and b of every attribute (2, 3).
      tau: unit of the residuals from labels (3,).
      tau_spread: unit of the spread of several teachers (3,); infinite with one.
      attribute_variance: of its attributes over the training data (3,); 0 where not measured.
      embedding_variance: of its embedding over the training data, summed over coordinates (); 0 where not measured.
    """

    members: Any
    line: Any
    tau: Any
    tau_spread: Any
    attribute_variance: Any
    embedding_variance: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Teacher:
    """Teachers of one student.

    Attributes:
      members: the models; none where outputs come from a cache.
      weights: of the members, sum 1.
      known: categories that the teacher has probabilities for.
      categories: the student's.
      cached: folders of caches, one for each corpus; () where the members speak.
      arrays: see `TeacherArrays`.
      min_samples: fewest samples at 16 kHz that every member has a frame of; fewer have no outputs.
    """

    members: tuple[TrainedModel, ...]
    weights: tuple[float, ...]
    known: tuple[str, ...]
    categories: tuple[str, ...]
    cached: tuple[str, ...]
    arrays: TeacherArrays
    min_samples: int = 0

    def __call__(self, arrays: TeacherArrays, batch: Batch) -> TeacherOutput:
        """What the teacher says of a batch, without gradient."""
        said = self._read(batch) if self.cached else self.said(arrays.members, batch)
        attributes, spread, probabilities, embedding = said
        predicted = arrays.line[0] + arrays.line[1] * attributes
        from_label = jnp.abs(predicted - batch.attributes) / arrays.tau
        residual = jnp.where(jnp.isnan(from_label), spread / arrays.tau_spread, from_label)
        output = TeacherOutput(
            attributes=attributes,
            residual=jnp.where(jnp.isnan(residual), 0.0, residual),
            emotion_probabilities=in_categories(probabilities, self.known, self.categories),
            embedding=embedding,
            attribute_variance=jnp.broadcast_to(arrays.attribute_variance, attributes.shape),
            embedding_variance=jnp.broadcast_to(arrays.embedding_variance, attributes.shape[:1]),
        )
        return jax.lax.stop_gradient(output)

    def inputs(self, own: BatchInputs, corpus: str, split: str) -> BatchInputs:
        """What a batch must hold beside what the student reads.

        Args:
          own: what the student reads.
          corpus: that is read, TFDS name with config and version.
          split: of that corpus.

        Raises:
          ConfigError: student and teacher need different tokens.
          CheckpointError: no cache is of that corpus, or it lacks the split.
        """
        if self.cached:
            stored = StoredInput(_cache_of(self.cached, corpus).split(split), OUTPUTS, "utterance", allow_empty=False)
            return dataclasses.replace(own, stored={**own.stored, CACHED: stored})
        tokenizer = own.tokenizer
        for model in self.members:
            if "lexical" in model.config.model.modalities:
                folder = str(model.workdir / ENCODERS / "lexical")
                if tokenizer and not _same_tokens(tokenizer, folder):
                    raise ConfigError(
                        f"config.teacher.workdir: {model.workdir} has another tokenizer; allowed: a teacher.cache"
                    )
                tokenizer = tokenizer or folder
        heard = any(set(model.config.model.modalities) - {"lexical"} for model in self.members)
        return dataclasses.replace(own, audio=own.audio or heard, tokenizer=tokenizer)

    @property
    def num_outputs(self) -> int:
        """Values per utterance in a cache."""
        return _num_outputs(self.known, sum(_embedding_size(model) for model in self.members))

    def _read(self, batch: Batch) -> tuple[Array, Array, Array, Array]:
        rows = batch.stored[CACHED].values[:, 0].astype(jnp.float32)
        bounds = np.cumsum([NUM_ATTRIBUTES, NUM_ATTRIBUTES, len(self.known)])
        return tuple(jnp.split(rows, bounds, axis=1))  # type: ignore[return-value]

    def said(
        self, variables: Any, batch: Batch
    ) -> tuple[Float[Array, "B 3"], Float[Array, "B 3"], Float[Array, "B K"], Float[Array, "B E"]]:
        """Weighted means of attributes and of probabilities of `known` over the members that have them, the spread of
        the attributes, and the embeddings side by side."""
        batch = batch.replace(stored={})  # type: ignore[attr-defined]
        outputs: list[Any] = [
            model.model.apply(mine, batch, train=False) for model, mine in zip(self.members, variables, strict=True)
        ]
        pairs = list(zip(self.members, outputs, strict=True))
        trained = [jnp.where(jnp.asarray(m.outputs.attributes), output.attributes, jnp.nan) for m, output in pairs]
        attributes, spread = _mean_and_spread(jnp.stack(trained), self.weights)
        told = [_probabilities(model, output, self.known) for model, output in pairs]
        probabilities, _ = _mean_and_spread(jnp.stack(told), self.weights)
        embedding = jnp.concatenate([output.embedding.astype(jnp.float32) for output in outputs], axis=1)
        return attributes, spread, probabilities, embedding


def in_categories(
    probabilities: Float[Array, "B K"], known: tuple[str, ...], wanted: tuple[str, ...]
) -> Float[Array, "B C"]:
    """Probabilities in another order of categories, which may be spelt otherwise (see `emojax.evaluation.categories`);
    0 for those that are not known, NaN if none is."""
    same = same_categories(wanted, known)
    if not same:
        return jnp.full((probabilities.shape[0], len(wanted)), jnp.nan)
    nothing = jnp.where(jnp.isnan(probabilities[:, 0]), jnp.nan, 0.0)
    columns = [probabilities[:, known.index(same[name])] if name in same else nothing for name in wanted]
    return jnp.stack(columns, axis=1)


def load_teacher(
    config: TeacherConfig, distillation: DistillationConfig, categories: tuple[str, ...], mesh: Mesh
) -> Teacher:
    """Restores teachers, or opens their cache; how wrong they are is not known yet.

    Args:
      config: who teaches.
      distillation: what is to be learned.
      categories: of the student.
      mesh: where arrays go.

    Raises:
      CheckpointError: a workdir or cache is absent or damaged.
      ConfigError: the teacher has nothing of what is to be learned from it.
    """
    teacher = _open_caches(config, categories, mesh) if config.caches else load_members(config, categories, mesh)
    if distillation.emotion_weight:
        match = match_categories(teacher.known, categories)
        if not match.usable:
            raise ConfigError(
                f"config.distillation.emotion_weight must be 0, got {distillation.emotion_weight}: teacher and corpus "
                f"share {len(match.scored)} categories, at least 2 are needed ({match})"
            )
        if str(match):
            print(f"categories of teacher (model) and corpus: {match}", flush=True)
    return teacher


def united_categories(members: Iterable[TrainedModel]) -> tuple[str, ...]:
    """The categories that at least one member was trained on, each once, as the first of them spells it."""
    known: list[str] = []
    for model in members:
        names = model.metadata.info.categories if model.outputs.categories else ()
        same = same_categories(names, known)
        known += [name for name in names if name not in same]
    return tuple(known)


def load_members(config: TeacherConfig, categories: tuple[str, ...] | None, mesh: Mesh) -> Teacher:
    """Restores teachers from their workdirs.

    Args:
      config: who teaches.
      categories: of the student; None for the teachers' own.
      mesh: parameters of encoders are divided over it, the rest is whole on every device.

    Raises:
      CheckpointError: a workdir is absent or damaged.
    """
    folders = [Path(folder).expanduser() for folder in config.workdirs]
    members = tuple(restore_model(folder, mesh, dtype=config.dtype) for folder in folders)
    weights = config.weights or (1.0,) * len(members)
    share = tuple(weight / sum(weights) for weight in weights)
    known = united_categories(members)
    arrays = _unmeasured([model.variables for model in members], mesh)
    least = max(model.model.min_samples for model in members)
    return Teacher(members, share, known, known if categories is None else categories, (), arrays, least)


def _open_caches(config: TeacherConfig, categories: tuple[str, ...], mesh: Mesh) -> Teacher:
    stores = [Store(Path(folder).expanduser()) for folder in config.caches]
    first = stores[0].metadata
    sources = [parse_source(store.metadata, TeacherSource, store.directory) for store in stores]
    for store, source in zip(stores, sources, strict=True):
        shape, least = (
            single_array(store.metadata, OUTPUTS, store.directory).shape,
            _num_outputs(source.teacher_categories, 1),
        )
        if len(shape) != 1 or shape[0] < least:
            raise CheckpointError(f"{store.directory}: rows of {OUTPUTS!r} must have >= {least} values, got {shape}")
        # All of one teacher: only the corpus may differ.
        store.metadata.check_same(dataclasses.replace(first, corpus=store.metadata.corpus), str(store.directory))
    known = sources[0].teacher_categories
    return Teacher((), (), known, categories, config.caches, _unmeasured([], mesh), sources[0].min_samples)


def _cache_of(folders: tuple[str, ...], corpus: str) -> Store:
    stores = [Store(Path(folder).expanduser()) for folder in folders]
    for store in stores:
        if store.metadata.corpus == corpus:
            return store
    found = ", ".join(store.metadata.corpus for store in stores)
    raise CheckpointError(f"teacher.cache: has nothing of {corpus}, only of {found}; name its cache too, after a comma")


def _unmeasured(members: list[Any], mesh: Mesh) -> TeacherArrays:
    line = np.stack([np.zeros(NUM_ATTRIBUTES, np.float32), np.ones(NUM_ATTRIBUTES, np.float32)])
    units = np.ones(NUM_ATTRIBUTES, np.float32), np.full(NUM_ATTRIBUTES, np.inf, np.float32)
    variances = np.zeros(NUM_ATTRIBUTES, np.float32), np.zeros((), np.float32)
    return TeacherArrays(members, *(to_device(values, replicated(mesh)) for values in (line, *units, *variances)))


def measure_teacher(teacher: Teacher, stream: BatchStream, distillation: DistillationConfig) -> TeacherArrays:
    """Measures a teacher's residuals and the spread of its outputs on training data, where distillation needs them.

    Args:
      teacher: from `load_teacher`.
      stream: training batches, at their start; its position does not change.
      distillation: the condition, its quantile, and whether a linear bias is taken out.
    """
    if not distillation.measures_teacher:
        return teacher.arrays
    unmeasured = dataclasses.replace(teacher.arrays, tau_spread=jnp.ones_like(teacher.arrays.tau))

    def answers(arrays: TeacherArrays, batch: Batch) -> tuple[tuple[Array, ...], CoMoments]:
        # Without labels, the residual is the spread itself.
        unlabelled = batch.replace(attributes=jnp.full_like(batch.attributes, jnp.nan))  # type: ignore[attr-defined]
        output = teacher(arrays, unlabelled)
        rows = output.attributes, output.residual, batch.attributes, batch.weight
        return rows, co_moments(output.embedding, output.embedding, batch.weight)

    compute = jax.jit(answers)
    count = min(_MAX_BATCHES, stream.plan.batches_per_epoch)
    found, of_batches = [], []
    with Progress("measure teacher", count, "batches") as progress:
        for number in range(count):
            rows, moments = to_host(compute(unmeasured, stream.load(number)))
            found.append(rows)
            of_batches.append(jax.tree.map(lambda values: np.asarray(values, np.float64), moments))
            progress.advance()
    *columns, weights = (np.concatenate(parts).astype(np.float64) for parts in zip(*found, strict=True))
    predictions, spreads, labels = (values[weights > 0] for values in columns)
    line, tau, tau_spread = residual_units(predictions, spreads, labels, distillation)
    whole = moments_in_float64(predictions, predictions)
    variance = whole.variance_sum_label / np.maximum(whole.weight, 1)
    embeddings: CoMoments = functools.reduce(CoMoments.merge, of_batches)
    embedding_variance = embeddings.variance_sum_label.sum() / max(embeddings.weight[0], 1.0)
    measured = (line, tau, tau_spread, variance, embedding_variance)
    sharding = teacher.arrays.tau.sharding
    return TeacherArrays(
        teacher.arrays.members, *(to_device(np.asarray(values, np.float32), sharding) for values in measured)
    )


def residual_units(
    predictions: Float[np.ndarray, "N 3"],
    spreads: Float[np.ndarray, "N 3"],
    labels: Float[np.ndarray, "N 3"],
    config: DistillationConfig,
) -> tuple[Float[np.ndarray, "2 3"], Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """The line from predictions to labels, τ of residuals and τ of spreads, per attribute."""
    line = np.array([np.zeros(NUM_ATTRIBUTES), np.ones(NUM_ATTRIBUTES)])
    tau, tau_spread = np.ones(NUM_ATTRIBUTES), np.full(NUM_ATTRIBUTES, np.inf)
    for column in range(len(ATTRIBUTES)):
        told, spread, label = predictions[:, column], spreads[:, column], labels[:, column]
        if (spread > 0).any():
            tau_spread[column] = max(np.quantile(spread, config.quantile), _LEAST_TAU)
        both = ~(np.isnan(told) | np.isnan(label))
        if both.sum() < 2:
            continue
        told, label = told[both], label[both]
        if config.debias and told.std() > _LEAST_DEVIATION:
            slope = np.cov(told, label, bias=True)[0, 1] / told.var()
            line[:, column] = label.mean() - slope * told.mean(), slope
        residuals = np.abs(line[0, column] + line[1, column] * told - label)
        tau[column] = max(np.quantile(residuals, config.quantile), _LEAST_TAU)
    return line, tau, tau_spread


def _num_outputs(known: tuple[str, ...], embedding_size: int) -> int:
    return 2 * NUM_ATTRIBUTES + len(known) + embedding_size


def _mean_and_spread(values: Float[Array, "M B D"], weights: tuple[float, ...]) -> tuple[Array, Array]:
    known = ~jnp.isnan(values)
    share = jnp.asarray(weights, jnp.float32)[:, None, None] * known
    total = share.sum(axis=0)
    safe = jnp.where(total > 0, total, 1.0)
    mean = (share * jnp.where(known, values, 0.0)).sum(axis=0) / safe
    variance = (share * jnp.square(jnp.where(known, values - mean, 0.0))).sum(axis=0) / safe
    return jnp.where(total > 0, mean, jnp.nan), jnp.where(total > 0, jnp.sqrt(variance), 0.0)


def _probabilities(model: TrainedModel, output: EmotionOutput, wanted: tuple[str, ...]) -> Float[Array, "B K"]:
    names = model.metadata.info.categories if model.outputs.categories else ()
    return in_categories(jax.nn.softmax(output.emotion_logits.astype(jnp.float32)), names, wanted)


def _embedding_size(model: TrainedModel) -> int:
    batch = example_batch(model.config, model.model, model.online)
    output: Any = jax.eval_shape(lambda variables: model.model.apply(variables, batch, train=False), model.variables)
    return output.embedding.shape[1]


def _same_tokens(folder: str, other: str) -> bool:
    return read_encoder_source(Path(folder)).fingerprint == read_encoder_source(Path(other)).fingerprint


TeacherFunction = Callable[[TeacherArrays, Batch], TeacherOutput]
