"""Base class of builders: a subclass defines the items of a corpus and how an item becomes an utterance."""

import abc
import collections
import functools
import itertools
import math
import random
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from emojax.content import SHARDED_UTTERANCES, ContentDigest, joined_digests, split_digests
from emojax.errors import CorpusError, reason
from emojax.progress import Progress
from tfds_builders.schema import CorpusMetadata, dataset_info
from tfds_builders.sources import Stamp
from tfds_builders.utterance import Made
from tfds_builders.workers import ordered_map

_ITEMS_PER_SHARD = 512
"""Items per shard (about 60 MB of speech), which is in memory while it is written."""

MAX_SHARDS = 10_000
"""Largest number of shards of a split; above 5,120,000 items shards have more than 512."""

_PROBLEMS_SHOWN = 5

_MAX_DAMAGED = 0.05
"""Largest share of damaged items of a split that are skipped; a larger share stops the build."""

_ENCODER_FRAME = 0.025
"""Length of a frame of published speech encoders (s), which cannot process shorter clips."""


# Not a `GeneratorBasedBuilder`, which keeps a split of up to 1 GB in memory and needs TensorFlow for larger ones.
class CorpusBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of all builders.

    A builder defines `VERSION`, `metadata`, `items` and `make_utterance`, and `MANUAL_DOWNLOAD_INSTRUCTIONS` if the
    corpus is read from the user's `manual_dir`. Utterances are stored in a fixed random order, so that a part of a
    split is a random sample.

    Attributes:
      pool: worker processes; None uses this process.
      processes: number of processes of `pool`.
      beam_options: options of an Apache Beam pipeline that writes the shards; None: this process writes them.
      shards_url: folder of the shards in a bucket, which Beam's workers write; "" for the folder of the corpus.
      seconds: duration of the generated utterances per split.
      counts: counts of skipped and special items by name; `items` may add to them.
      sources: files of the user's copy, from `stamp_files`; set by `items`.
    """

    pool: ProcessPoolExecutor | None = None
    processes: int = 1
    beam_options: Sequence[str] | None = None
    shards_url: str = ""
    seconds: dict[str, float]
    counts: collections.Counter[str]
    sources: Mapping[str, Stamp | None] = types.MappingProxyType({})
    _problems: list[str]

    @classmethod
    def config_for(cls, config: str, manual_dir: Path | None) -> str | tfds.core.BuilderConfig:
        """Returns the builder config for the build command; overridden by builders whose config is in `manual_dir`.

        Args:
          config: name of the config, "" for the default.
          manual_dir: the user's copy, if given.
        """
        return config

    @property
    @abc.abstractmethod
    def make_utterance(self) -> Callable[[Any], Made]:
        """Function from an item to its result, at module level so that it can be sent to worker processes."""

    @abc.abstractmethod
    def metadata(self) -> CorpusMetadata:
        """Returns the metadata of the corpus."""

    @abc.abstractmethod
    def items(self, manual_dir: Path | None) -> dict[str, Sequence[Any]]:
        """Returns small picklable items per split, one for each utterance; splits have the corpus's own names.

        Raises:
          CorpusError: a required file is missing or damaged; the message names it.
        """

    def _info(self) -> tfds.core.DatasetInfo:
        return dataset_info(self, self.metadata())

    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager) -> dict[str, list[Callable]]:
        return {split: self._shards(split, items) for split, items in self._start(dl_manager).items()}

    def _start(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Sequence[Any]]:
        """Returns the items, with all counts at 0."""
        manual_dir = Path(dl_manager.manual_dir) if self.MANUAL_DOWNLOAD_INSTRUCTIONS else None
        self.seconds = collections.defaultdict(float)
        self.counts = collections.Counter()
        self._problems = []
        self._content: dict[str, list[ContentDigest]] = {}  # of the whole split, and of the shards of a large one
        self._sizes: collections.Counter[str] = collections.Counter()
        self._ids: set[str] = set()
        return self.items(manual_dir)

    def _shards(self, split: str, items: Sequence[Any]) -> list[Callable[[], Iterator]]:
        """Returns one generator per shard, to be run in order; they share one stream, so that workers never wait."""
        shards = shard_items(items)
        self._content[split] = [ContentDigest()]
        stream = self._stream(split, list(itertools.chain.from_iterable(shards)))
        sizes: list[int | None] = [len(shard) for shard in shards]
        sizes[-1] = None  # The last shard exhausts the stream.
        large = len(items) > SHARDED_UTTERANCES
        return [functools.partial(self._shard, stream, size, self._content[split], large) for size in sizes]

    def _download_and_prepare(self, dl_manager: tfds.download.DownloadManager, download_config: Any = None) -> None:
        if self.beam_options is None:
            super()._download_and_prepare(dl_manager, download_config)
        else:
            self._write_with_beam(dl_manager, self.beam_options)

    def _write_with_beam(self, dl_manager: tfds.download.DownloadManager, options: Sequence[str]) -> None:
        # TFDS's own pipeline has two transforms per shard, and orders the lengths of more than ten shards as text.
        from emojax.data.index import COMPARED_UTTERANCES, join_tables, table_path
        from tfds_builders import beam_build
        from tfds_builders.bucket import local_files, remove_folder

        root = self.shards_url or str(self.data_dir)
        folder, tasks, splits = f"{root}/beam", {}, {}
        for split, items in self._start(dl_manager).items():
            shards = shard_items(items)
            template = self._get_filename_template(split_name=split)
            names = [template.sharded_filepath(shard_index=n, num_shards=len(shards)).name for n in range(len(shards))]
            paths, digests = [f"{root}/{name}" for name in names], len(items) > SHARDED_UTTERANCES
            tasks[split] = beam_build.plan_shards(shards, paths, f"{folder}/{split}", digests)
            splits[split] = (template, len(items))
        attempt, features = functools.partial(_attempt, self.make_utterance), self.info.features
        every = list(itertools.chain.from_iterable(tasks.values()))
        results = iter(beam_build.run_pipeline(every, attempt, features, options, folder))
        infos, content = [], {}
        for split, (template, num_items) in splits.items():
            found = [next(results) for _ in tasks[split]]
            before = len(self._problems)
            for result in found:
                self.counts.update(result.counts)
                for problem in result.problems:
                    self._skip(problem)
                if result.num_examples:
                    self.seconds[split] += result.seconds
            self._check_split(split, num_items, before)
            files = [task.path for task in tasks[split]]
            content[split] = joined_digests(beam_build.content_of(found, files, features))
            lengths, sizes = [result.num_examples for result in found], [result.num_bytes for result in found]
            if not self.shards_url or sum(lengths) > COMPARED_UTTERANCES:  # other copies are indexed when they are read
                parts = local_files(task.index for task, length in zip(tasks[split], lengths, strict=True) if length)
                by_name = {file.rpartition("/")[2]: size for file, size in zip(files, sizes, strict=True)}
                join_tables(parts, table_path(Path(self.data_dir), split, sum(lengths), by_name), content[split])
            infos.append(
                tfds.core.SplitInfo(name=split, shard_lengths=lengths, num_bytes=sum(sizes), filename_template=template)
            )
        self.info.metadata["counts"] = dict(sorted(self.counts.items()))
        self.info.metadata["content"] = content
        self.info.set_splits(tfds.core.splits.SplitDict(infos))
        remove_folder(folder)

    def _shard(
        self, stream: Iterator[Made], size: int | None, digests: list[ContentDigest], large: bool
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        if large:
            digests.append(ContentDigest())
        for made in itertools.islice(stream, size):
            if made.example is not None:
                if large:
                    digests[-1].update(made.example)
                yield made.example["id"], made.example

    def _stream(self, split: str, items: Sequence[Any]) -> Iterator[Made]:
        before = len(self._problems)
        with Progress(f"{self.info.full_name} {split}", len(items), "utterances") as progress:
            attempt = functools.partial(_attempt, self.make_utterance)
            for made in ordered_map(attempt, items, self.pool, self.processes):
                self._count(split, made)
                progress.advance()
                yield made
        self._check_split(split, len(items), before)
        self.info.metadata["counts"] = dict(sorted(self.counts.items()))
        self.info.metadata["content"] = {
            split: split_digests(self._sizes[split], whole, shards) for split, (whole, *shards) in self._content.items()
        }

    def _check_split(self, split: str, num_items: int, before: int) -> None:
        """Checks that a split has utterances, and few damaged items among those after the first `before` problems."""
        damaged = len(self._problems) - before
        if damaged > max(1, _MAX_DAMAGED * num_items):
            raise CorpusError(
                f"{self.info.full_name}: {damaged} of {num_items} items of split {split!r} are damaged, the first: "
                f"{self._problems[before]}"
            )
        if split not in self.seconds:
            raise CorpusError(f"{self.info.full_name}: split {split!r} has no utterances ({dict(self.counts)})")

    def _skip(self, problem: str) -> None:
        self._problems.append(problem)
        if len(self._problems) <= _PROBLEMS_SHOWN:
            print(f"skipped: {problem}", file=sys.stderr, flush=True)

    def _count(self, split: str, made: Made) -> None:
        self.counts.update(made.counted)
        if made.problem:
            self._skip(made.problem)
        if made.example is None:
            return
        if made.example["id"] in self._ids:
            raise CorpusError(f"{self.info.full_name}: id {made.example['id']!r} occurs twice")
        self._ids.add(made.example["id"])
        self.seconds[split] += float(made.example["duration"])
        self._content[split][0].update(made.example)
        self._sizes[split] += 1


def shard_items(items: Sequence[Any]) -> list[list[Any]]:
    """Divides the items of a split over its shards, in a fixed random order: a function of the items alone."""
    order = random.Random(0).sample(range(len(items)), len(items))
    num_shards = min(max(1, math.ceil(len(items) / _ITEMS_PER_SHARD)), MAX_SHARDS)
    bounds = [round(len(items) * shard / num_shards) for shard in range(num_shards + 1)]
    return [[items[place] for place in order[low:high]] for low, high in itertools.pairwise(bounds)]


def _attempt(make_utterance: Callable[[Any], Made], item: Any) -> Made:
    """Processes one item; exceptions of decoders and parsers are reported as a problem of the item."""
    try:
        made = make_utterance(item)
        if made.example is not None and made.example["duration"] < _ENCODER_FRAME:
            made = made._replace(counted=(*made.counted, "shorter_than_25_ms"))
        return made
    except CorpusError:  # raised by the builder to stop the build
        raise
    except Exception as error:
        return Made(None, ("failed",), f"{str(item)[:200]}: {type(error).__name__}: {reason(error)}")
