"""Writes the shards of a corpus with Apache Beam, on any of its runners: the same files as on one machine."""

import collections
import dataclasses
import functools
import os
import pickle
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from emojax.content import SHARDED_UTTERANCES, ContentDigest
from emojax.errors import CorpusError
from tfds_builders.schema import serialize_example
from tfds_builders.utterance import Made


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """Names of what a shard is made from, and of what is written; files are in a folder that all workers have.

    Attributes:
      path: shard.
      items: pickled items of the shard, in order.
      result: pickled `ShardResult`.
      digests: whether to compute the digests of the shard.
    """

    path: str
    items: str
    result: str
    digests: bool


@dataclasses.dataclass(frozen=True)
class ShardResult:
    """What the build needs of a written shard.

    Attributes:
      num_examples: number of utterances.
      seconds: their duration.
      counts: counts of skipped and special items.
      problems: one-line messages of damaged items.
      content: digests (`emojax.content`) of the shard; {} where they are those of the split.
    """

    num_examples: int
    seconds: float
    counts: Mapping[str, int]
    problems: Sequence[str]
    content: Mapping[str, str]


def plan_shards(
    items: Sequence[Sequence[Any]], paths: Sequence[str | os.PathLike[str]], folder: Path, digests: bool
) -> list[ShardTask]:
    """Writes the items of each shard to a file: a pipeline then has names only, whatever the size of the corpus.

    Args:
      items: items of each shard.
      paths: file of each shard.
      folder: folder of the files of the items and results.
      digests: whether to compute the digests of each shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tasks = []
    for number, (shard, path) in enumerate(zip(items, paths, strict=True)):
        task = ShardTask(os.fspath(path), str(folder / f"{number}.items"), str(folder / f"{number}.result"), digests)
        Path(task.items).write_bytes(pickle.dumps(list(shard)))
        tasks.append(task)
    return tasks


def write_shard(task: ShardTask, attempt: Callable[[Any], Made], features: Any) -> list[str]:
    """Writes a shard, and then its result; both appear complete, so that a task may be repeated at any time.

    Args:
      task: what to write.
      attempt: module-level function from an item to its result; raises only to stop the build.
      features: features of an utterance.

    Returns:
      Ids of the utterances.

    Raises:
      CorpusError: raised by the builder to stop the build.
    """
    counts: collections.Counter[str] = collections.Counter()
    problems: list[str] = []
    ids: list[str] = []
    durations: list[float] = []
    digest = ContentDigest()
    serializer = tfds.core.ExampleSerializer(features.get_serialized_info())

    def records() -> Iterator[tuple[str, bytes]]:
        for item in pickle.loads(Path(task.items).read_bytes()):
            made = attempt(item)
            counts.update(made.counted)
            problems.extend([made.problem] if made.problem else [])
            if made.example is not None:
                ids.append(made.example["id"])
                durations.append(float(made.example["duration"]))
                if task.digests:
                    digest.update(made.example)
                yield made.example["id"], serialize_example(serializer, features.encode_example(made.example))

    with tempfile.TemporaryDirectory() as own:
        written = Path(own) / Path(task.path).name
        adapter = tfds.core.file_adapters.ADAPTER_FOR_FORMAT[tfds.core.FileFormat.ARRAY_RECORD]
        adapter.write_examples(written, records())
        _move(written, task.path)
    content = digest.hexdigests() if task.digests else {}
    result = ShardResult(len(ids), sum(durations), dict(counts), problems, content)
    with tempfile.TemporaryDirectory() as own:
        written = Path(own) / "result"
        written.write_bytes(pickle.dumps(result))
        _move(written, task.result)
    return ids


def run_pipeline(
    tasks: Sequence[ShardTask], attempt: Callable[[Any], Made], features: Any, options: Sequence[str], folder: Path
) -> list[ShardResult]:
    """Writes shards with Apache Beam, which repeats those of workers that are lost.

    Args:
      tasks: all shards of a corpus.
      attempt: see `write_shard`.
      features: features of an utterance.
      options: pipeline options, e.g. `--runner=FlinkRunner`; the default is Beam's runner on this machine.
      folder: folder of the files of the pipeline.

    Returns:
      Result of each task.

    Raises:
      CorpusError: Apache Beam is not installed, a shard cannot be written, or an id occurs twice.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise CorpusError("--beam needs Apache Beam: pip install -r requirements-beam.txt") from error
    duplicate = folder / "duplicate"
    write = functools.partial(write_shard, attempt=attempt, features=features)
    try:
        with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
            ids = pipeline | beam.Create(list(tasks)) | beam.Reshuffle() | "WriteShard" >> beam.FlatMap(write)
            counts = ids | beam.combiners.Count.PerElement()
            repeated = counts | beam.Filter(_is_repeated) | beam.Keys()
            first = repeated | beam.combiners.Sample.FixedSizeGlobally(1)
            _ = first | "WriteDuplicate" >> beam.Map(_write_names, path=str(duplicate))
    except Exception as error:  # runners wrap exceptions of workers in their own
        lines = [line for line in str(error).splitlines() if line.strip()]
        found = next((line for line in reversed(lines) if "CorpusError" in line), lines[-1] if lines else repr(error))
        raise CorpusError(f"a shard cannot be written: {found.partition('CorpusError: ')[2] or found}") from error
    if names := pickle.loads(duplicate.read_bytes()):
        raise CorpusError(f"id {names[0]!r} occurs twice")
    return [pickle.loads(Path(task.result).read_bytes()) for task in tasks]


def content_of(results: Sequence[ShardResult], paths: Sequence[str], features: Any) -> list[Mapping[str, str]]:
    """Digests of the parts of a split: of its shards, or of the split as a whole, which is then read again."""
    if sum(result.num_examples for result in results) > SHARDED_UTTERANCES:
        return [result.content for result in results]
    from array_record.python.array_record_data_source import ArrayRecordDataSource  # type: ignore[import-untyped]

    digest = ContentDigest()
    for path in paths:
        for record in ArrayRecordDataSource([path]):
            example = features.deserialize_example_np(record)
            digest.update(
                {name: value.decode() if isinstance(value, bytes) else value for name, value in example.items()}
            )
    return [digest.hexdigests()]


def _is_repeated(counted: tuple[str, int]) -> bool:
    return counted[1] > 1


def _write_names(names: Sequence[str], path: str) -> None:
    Path(path).write_bytes(pickle.dumps(list(names)))


def _move(written: Path, target: str) -> None:
    """Copies a file beside its target, and renames it."""
    temporary = f"{target}.{secrets.token_hex(8)}.tmp"
    try:
        shutil.copyfile(written, temporary)
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)
