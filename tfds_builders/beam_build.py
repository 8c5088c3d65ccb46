"""Writes the shards of a corpus with Apache Beam, on any of its runners: the same files as on one machine."""

import collections
import dataclasses
import functools
import pickle
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from emojax.beam_pipeline import beam_pipeline, import_beam
from emojax.content import SHARDED_UTTERANCES, ContentDigest
from emojax.data.index import IndexWriter, check_labels
from emojax.errors import CorpusError
from tfds_builders.bucket import local_files, put_file, read_file
from tfds_builders.schema import serialize_example
from tfds_builders.utterance import Made, is_url


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """Names of what a shard is made from, and of what is written: paths in a folder that all workers have, or URLs.

    Attributes:
      path: shard.
      items: pickled items of the shard, in order.
      index: table of its utterances (`emojax.data.index`), which is absent where it has none.
      result: pickled `ShardResult`.
      digests: whether to compute the digests of the shard.
    """

    path: str
    items: str
    index: str
    result: str
    digests: bool


@dataclasses.dataclass(frozen=True)
class ShardResult:
    """What the build needs of a written shard.

    Attributes:
      num_examples: number of utterances.
      seconds: their duration.
      num_bytes: size of the shard.
      counts: counts of skipped and special items.
      problems: one-line messages of damaged items.
      content: digests (`emojax.content`) of the shard; {} where they are those of the split.
    """

    num_examples: int
    seconds: float
    num_bytes: int
    counts: Mapping[str, int]
    problems: Sequence[str]
    content: Mapping[str, str]


def plan_shards(items: Sequence[Sequence[Any]], paths: Sequence[str], folder: str, digests: bool) -> list[ShardTask]:
    """Writes the items of each shard to a file: a pipeline then has names only, whatever the size of the corpus.

    Args:
      items: items of each shard.
      paths: file of each shard.
      folder: folder of the files of the items and results.
      digests: whether to compute the digests of each shard.
    """
    if not is_url(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
    tasks = []
    for number, (shard, path) in enumerate(zip(items, paths, strict=True)):
        items_file, index, result = (f"{folder}/{number}.{kind}" for kind in ("items", "index", "result"))
        task = ShardTask(path, items_file, index, result, digests)
        _put_pickled(list(shard), task.items)
        tasks.append(task)
    return tasks


def write_shard(task: ShardTask, attempt: Callable[[Any], Made], features: Any) -> list[str]:
    """Writes a shard, its index and then its result; each appears complete, so that a task may be repeated at any time.

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
        for item in pickle.loads(read_file(task.items)):
            made = attempt(item)
            counts.update(made.counted)
            problems.extend([made.problem] if made.problem else [])
            if made.example is not None:
                ids.append(made.example["id"])
                durations.append(float(made.example["duration"]))
                if task.digests:
                    digest.update(made.example)
                check_labels(made.example, task.path)
                index.add([{**made.example, "num_samples": len(made.example["audio"])}])
                yield made.example["id"], serialize_example(serializer, features.encode_example(made.example))

    with tempfile.TemporaryDirectory() as own, IndexWriter(Path(own)) as index:
        written = Path(own) / Path(task.path).name
        adapter = tfds.core.file_adapters.ADAPTER_FOR_FORMAT[tfds.core.FileFormat.ARRAY_RECORD]
        adapter.write_examples(written, records())
        size = written.stat().st_size
        put_file(written, task.path)
        if ids:
            index.finish()
            index.write(Path(own) / "index", {})
            put_file(Path(own) / "index", task.index)
    content = digest.hexdigests() if task.digests else {}
    result = ShardResult(len(ids), sum(durations), size, dict(counts), problems, content)
    _put_pickled(result, task.result)
    return ids


def run_pipeline(
    tasks: Sequence[ShardTask], attempt: Callable[[Any], Made], features: Any, options: Sequence[str], folder: str
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
    beam = import_beam(CorpusError)
    duplicate = f"{folder}/duplicate"
    write = functools.partial(write_shard, attempt=attempt, features=features)
    with beam_pipeline(options, CorpusError) as pipeline:
        ids = pipeline | beam.Create(list(tasks)) | beam.Reshuffle() | "WriteShard" >> beam.FlatMap(write)
        counts = ids | beam.combiners.Count.PerElement()
        repeated = counts | beam.Filter(_is_repeated) | beam.Keys()
        first = repeated | beam.combiners.Sample.FixedSizeGlobally(1)
        _ = first | "WriteDuplicate" >> beam.Map(_write_names, path=duplicate)
    if names := pickle.loads(read_file(duplicate)):
        raise CorpusError(f"id {names[0]!r} occurs twice")
    return [pickle.loads(read_file(task.result)) for task in tasks]


def content_of(results: Sequence[ShardResult], paths: Sequence[str], features: Any) -> list[Mapping[str, str]]:
    """Digests of the parts of a split: of its shards, or of the split as a whole, which is then read again."""
    if sum(result.num_examples for result in results) > SHARDED_UTTERANCES:
        return [result.content for result in results]
    from array_record.python.array_record_data_source import ArrayRecordDataSource  # type: ignore[import-untyped]

    digest = ContentDigest()
    for path in local_files(paths):
        for record in ArrayRecordDataSource([str(path)]):
            example = features.deserialize_example_np(record)
            digest.update(
                {name: value.decode() if isinstance(value, bytes) else value for name, value in example.items()}
            )
    return [digest.hexdigests()]


def _is_repeated(counted: tuple[str, int]) -> bool:
    return counted[1] > 1


def _write_names(names: Sequence[str], path: str) -> None:
    _put_pickled(list(names), path)


def _put_pickled(value: Any, target: str) -> None:
    with tempfile.TemporaryDirectory() as own:
        written = Path(own) / "value"
        written.write_bytes(pickle.dumps(value))
        put_file(written, target)
