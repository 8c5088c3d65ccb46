"""Cached outputs of an ensemble: one row per utterance in a feature store, in place of the models in the step.

A row holds attributes (3), spread (3), probabilities (K) and the embedding (E), float32. `emojax.extraction` writes it.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from emojax.config import TeacherConfig
from emojax.data import BatchInputs, StoredInput
from emojax.errors import CheckpointError
from emojax.feature_store import OUTPUTS, Store, TeacherSource, parse_source, single_array
from emojax.teachers.ensemble import AveragedOutputs, Ensemble
from emojax.teachers.stores import storable_modalities
from emojax.types import NUM_ATTRIBUTES, Batch
from emojax.workdir import ENCODERS, TrainedModel, read_encoder_source, read_json
from emojax.workdir.files import CONFIG

TEACHER = "teacher"
"""Key of `Batch.stored` that holds the rows of a cache."""


@dataclasses.dataclass(frozen=True, eq=False)
class TeacherCache:
    """Caches of one ensemble, one for each corpus.

    Attributes:
      stores: with outputs of the same models.
      categories: K categories that probabilities are of.
      min_samples: utterances with fewer samples at 16 kHz have no outputs.
      embedding_size: E, size of the concatenated embeddings.
      max_samples: None, its utterances have any length.
    """

    stores: tuple[Store, ...]
    categories: tuple[str, ...]
    min_samples: int
    embedding_size: int
    max_samples: int | None = None

    def outputs(self, variables: Any, batch: Batch) -> AveragedOutputs:
        """The rows of a batch.

        Args:
          variables: none; a cache has no models.
          batch: with the inputs that `batch_inputs` asks for.
        """
        del variables
        return from_row(batch.stored[TEACHER].values[:, 0].astype(jnp.float32), len(self.categories))

    def batch_inputs(self, student: BatchInputs, corpus: str, split: str) -> BatchInputs:
        """Inputs of the student, and the rows of the cache.

        Args:
          student: inputs of the student.
          corpus: TFDS name of the corpus, with config and version.
          split: split of that corpus.

        Raises:
          CheckpointError: no cache is of that corpus, or it lacks the split.
        """
        rows = StoredInput(self._store(corpus).split(split), OUTPUTS, "utterance", allow_empty=False)
        return dataclasses.replace(student, stored={**student.stored, TEACHER: rows})

    def _store(self, corpus: str) -> Store:
        for store in self.stores:
            if store.metadata.corpus == corpus:
                return store
        found = ", ".join(store.metadata.corpus for store in self.stores)
        raise CheckpointError(
            f"teacher.cache: has nothing of {corpus}, only of {found}; name its cache too, after a comma"
        )


def open_cache(config: TeacherConfig) -> TeacherCache:
    """Opens `config.caches`.

    Raises:
      CheckpointError: one is absent or damaged, or they are of different models.
    """
    stores = tuple(Store(Path(folder).expanduser()) for folder in config.caches)
    first = stores[0].metadata
    sources = [parse_source(store.metadata, TeacherSource, store.directory) for store in stores]
    for store, source in zip(stores, sources, strict=True):
        shape = single_array(store.metadata, OUTPUTS, store.directory).shape
        least = row_size(len(source.teacher_categories), 1)
        if len(shape) != 1 or shape[0] < least:
            raise CheckpointError(f"{store.directory}: rows of {OUTPUTS!r} must have >= {least} values, got {shape}")
        # All of the same models: only the corpus may differ.
        store.metadata.check_same(dataclasses.replace(first, corpus=store.metadata.corpus), str(store.directory))
    categories = sources[0].teacher_categories
    size = first.arrays[0].shape[0] - row_size(len(categories), 0)
    return TeacherCache(stores, categories, sources[0].min_samples, size)


def row_size(num_categories: int, embedding_size: int) -> int:
    """Values of a row."""
    return 2 * NUM_ATTRIBUTES + num_categories + embedding_size


def to_row(outputs: AveragedOutputs) -> Float[Array, "B N"]:
    """Concatenates outputs to rows of `row_size` values."""
    return jnp.concatenate([outputs.attributes, outputs.spread, outputs.probabilities, outputs.embedding], axis=1)


def from_row(rows: Float[Array, "B N"], num_categories: int) -> AveragedOutputs:
    """Splits rows that `to_row` concatenated."""
    bounds = np.cumsum([NUM_ATTRIBUTES, NUM_ATTRIBUTES, num_categories])
    return AveragedOutputs(*jnp.split(rows, bounds, axis=1))


def cache_source(ensemble: Ensemble, dtype: Literal["float32", "bfloat16"], max_tokens: int | None) -> TeacherSource:
    """What determines the rows of a cache.

    Args:
      ensemble: models that compute them.
      dtype: type of their matrix products.
      max_tokens: tokens that transcripts are cut to; None where none are read.
    """
    return TeacherSource(
        teacher=tuple(fingerprint(member) for member in ensemble.members),
        weights=ensemble.weights,
        dtype=dtype,
        teacher_categories=ensemble.categories,
        max_tokens=max_tokens,
        min_samples=ensemble.min_samples,
        transcripts=ensemble.transcripts_fingerprint,
    )


def fingerprint(member: TrainedModel) -> str:
    """SHA-256 of a model's config, step, and variables; these must be on this host's devices.

    Of frozen encoders that stores can stand in for it is that of their checkpoint, whether they are computed or not.
    """
    digest = hashlib.sha256(f"{json.dumps(read_json(member.workdir / CONFIG), sort_keys=True)} {member.step}".encode())
    frozen = storable_modalities(member.workdir, member.config)
    for modality in frozen:
        digest.update(f"{modality} {read_encoder_source(member.workdir / ENCODERS / modality).fingerprint};".encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(member.variables):
        if [str(key.key) for key in path[:3:2]] == ["params", "encoder"] and str(path[1].key) in frozen:
            continue
        values = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {values.dtype} {values.shape};".encode())
        digest.update(np.ascontiguousarray(values).view(np.uint8).data)
    return digest.hexdigest()
