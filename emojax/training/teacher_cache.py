"""Writes what a teacher says of every utterance of a corpus into a store, so that training need not run the teacher."""

import dataclasses
import functools
import hashlib
import itertools
import json
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from emojax.config import TeacherConfig
from emojax.data import BatchInputs, BatchStream, DataConfig, open_corpus, read_index
from emojax.extraction.config import ExtractCorpusConfig
from emojax.feature_store import (
    OUTPUTS,
    ArraySpec,
    SplitMetadata,
    StoreMetadata,
    TeacherSource,
    missing_shards,
    remove_leftovers,
    split_content,
    write_metadata,
    write_shard,
    write_split_metadata,
)
from emojax.interruption import Interruption
from emojax.parallel import MeshConfig, all_should_stop, is_alone, is_first, make_mesh, on_mesh, to_host, wait_for_all
from emojax.progress import Progress
from emojax.schema import Gt, MinLen, parse, settings, to_tree
from emojax.training.teachers import Teacher, load_members
from emojax.types import Batch
from emojax.workdir import TrainedModel, holds, read_json
from emojax.workdir.files import CONFIG


@settings
class CachedTeacherConfig:
    """Model, or models, whose outputs are cached."""

    workdir: Annotated[str, MinLen(1), "Workdir of the teacher, or several with commas between: their mean."] = ""
    weights: Annotated[
        tuple[Annotated[float, Gt(0)], ...], "Weight of each of several teachers in the mean; (): equal."
    ] = ()
    dtype: Annotated[Literal["float32", "bfloat16"], "Type of the teacher's matrix products."] = "float32"


@settings
class TeacherCacheConfig:
    """Everything that determines a cache of teacher outputs."""

    corpus: ExtractCorpusConfig
    teacher: CachedTeacherConfig
    data: DataConfig
    mesh: MeshConfig


def parse_teacher_cache(tree: Mapping[str, Any]) -> TeacherCacheConfig:
    """Checks a config tree whole.

    Raises:
      ConfigError: one line naming the key, what is wrong with it and what is allowed.
    """
    return parse(TeacherCacheConfig, tree)


@dataclasses.dataclass
class CachedOutputs:
    """What one run did.

    Attributes:
      utterances: computed.
      seconds: that it took.
      interrupted_by: the signal, where one stopped it; finished splits are kept.
    """

    utterances: int = 0
    seconds: float = 0.0
    interrupted_by: signal.Signals | None = None


@holds("directory")
def cache_teacher(config: TeacherCacheConfig, directory: Path) -> CachedOutputs:
    """Computes what is missing of a cache, split by split.

    Raises:
      EmojaxError: one line saying what is wrong with config, corpus, workdirs or store.
    """
    corpus = open_corpus(config.corpus.name, config.corpus.data_dir)
    mesh = make_mesh(config.mesh)
    settings = TeacherConfig(config.teacher.workdir, config.teacher.weights, "", config.teacher.dtype)
    teacher = load_members(settings, None, mesh)
    spec = ArraySpec(OUTPUTS, "float32", (teacher.num_outputs,))
    features = _features(teacher)
    source = TeacherSource(
        teacher=tuple(fingerprint(member) for member in teacher.members),
        weights=teacher.weights,
        dtype=settings.dtype,
        teacher_categories=teacher.categories,
        max_tokens=config.data.max_tokens if "transcript" in features else None,
        min_samples=teacher.min_samples,
    )
    if is_first():
        write_metadata(directory, StoreMetadata(corpus.info.name, to_tree(source), (spec,)))
    compute = jax.jit(on_mesh(functools.partial(_outputs, teacher), mesh))
    run, start = CachedOutputs(), time.monotonic()
    batches_done = itertools.count()
    with Interruption(together=not is_alone()) as interruption:
        for split in config.corpus.splits or tuple(corpus.split_sizes):
            index = read_index(corpus, split)
            ids = tuple(index.ids.tolist())
            metadata = SplitMetadata(ids, split_content(index.content, *features), (0, len(ids)))
            if is_first():
                write_split_metadata(directory / split, metadata)
            wait_for_all(f"{directory / split} is described")
            if not missing_shards(directory / split, metadata):
                continue
            if is_first():
                remove_leftovers(directory / split, metadata, 0)
            inputs = teacher.inputs(BatchInputs(audio=False), corpus.info.name, split)
            least = teacher.min_samples
            stream = BatchStream(
                corpus, split, index, config.data, mesh, training=False, inputs=inputs, min_samples=least
            )
            for line in stream.skipped:
                print(line, flush=True)
            rows = np.zeros((len(ids), 1, teacher.num_outputs), np.float32)
            with Progress(f"teach {corpus.info.name} {split}", stream.num_batches, "batches") as progress:
                for batch in stream:
                    places, values = to_host((batch.index, compute(teacher.arrays.members, batch)))
                    rows[places[places >= 0], 0] = values[places >= 0]
                    progress.advance()
                    if all_should_stop(next(batches_done)):
                        interruption.received = signal.SIGTERM
                    if interruption.received is not None:
                        break
            if interruption.received is not None:
                break
            if is_first():
                write_shard(directory / split, metadata, 0, ({OUTPUTS: row} for row in rows), (spec,))
            run.utterances += len(ids)
        run.interrupted_by = interruption.received
    run.seconds = time.monotonic() - start
    return run


def _outputs(teacher: Teacher, members: Any, batch: Batch) -> jax.Array:
    return jnp.concatenate(teacher.said(members, batch), axis=1)


def _features(teacher: Teacher) -> tuple[str, ...]:
    """Features of the corpus that the outputs depend on."""
    modalities = {modality for member in teacher.members for modality in member.config.model.modalities}
    return (("audio",) if modalities - {"lexical"} else ()) + (("transcript",) if "lexical" in modalities else ())


def fingerprint(member: TrainedModel) -> str:
    """Digest of a member's config, step, and the values of all its variables."""
    digest = hashlib.sha256(f"{json.dumps(read_json(member.workdir / CONFIG), sort_keys=True)} {member.step}".encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(member.variables):
        values = np.asarray(to_host(leaf))
        digest.update(f"{jax.tree_util.keystr(path)} {values.dtype} {values.shape};".encode())
        digest.update(np.ascontiguousarray(values).view(np.uint8).data)
    return digest.hexdigest()
