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

from emojax.content import ContentDigest
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
      seconds: duration of the generated utterances per split.
      counts: counts of skipped and special items by name; `items` may add to them.
      sources: files of the user's copy, from `stamp_files`; set by `items`.
    """

    pool: ProcessPoolExecutor | None = None
    processes: int = 1
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
        manual_dir = Path(dl_manager.manual_dir) if self.MANUAL_DOWNLOAD_INSTRUCTIONS else None
        self.seconds = collections.defaultdict(float)
        self.counts = collections.Counter()
        self._problems = []
        self._content: dict[str, ContentDigest] = collections.defaultdict(ContentDigest)
        self._ids: set[str] = set()
        return {split: self._shards(split, items) for split, items in self.items(manual_dir).items()}

    def _shards(self, split: str, items: Sequence[Any]) -> list[Callable[[], Iterator]]:
        """Returns one generator per shard, to be run in order; they share one stream, so that workers never wait."""
        stream = self._stream(split, random.Random(0).sample(items, len(items)))
        num_shards = min(max(1, math.ceil(len(items) / _ITEMS_PER_SHARD)), MAX_SHARDS)
        bounds = [round(len(items) * shard / num_shards) for shard in range(num_shards + 1)]
        sizes: list[int | None] = [high - low for low, high in itertools.pairwise(bounds)]
        sizes[-1] = None  # The last shard exhausts the stream.
        return [functools.partial(self._shard, stream, size) for size in sizes]

    def _shard(self, stream: Iterator[Made], size: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
        for made in itertools.islice(stream, size):
            if made.example is not None:
                yield made.example["id"], made.example

    def _stream(self, split: str, items: Sequence[Any]) -> Iterator[Made]:
        before = len(self._problems)
        with Progress(f"{self.info.full_name} {split}", len(items), "utterances") as progress:
            attempt = functools.partial(_attempt, self.make_utterance)
            for made in ordered_map(attempt, items, self.pool, self.processes):
                self._count(split, made)
                progress.advance()
                yield made
        damaged = len(self._problems) - before
        if damaged > max(1, _MAX_DAMAGED * len(items)):
            raise CorpusError(
                f"{self.info.full_name}: {damaged} of {len(items)} items of split {split!r} are damaged, the first: "
                f"{self._problems[before]}"
            )
        if split not in self.seconds:
            raise CorpusError(f"{self.info.full_name}: split {split!r} has no utterances ({dict(self.counts)})")
        self.info.metadata["counts"] = dict(sorted(self.counts.items()))
        self.info.metadata["content"] = {split: digest.hexdigests() for split, digest in self._content.items()}

    def _count(self, split: str, made: Made) -> None:
        self.counts.update(made.counted)
        if made.problem:
            self._problems.append(made.problem)
            if len(self._problems) <= _PROBLEMS_SHOWN:
                print(f"skipped: {made.problem}", file=sys.stderr, flush=True)
        if made.example is None:
            return
        if made.example["id"] in self._ids:
            raise CorpusError(f"{self.info.full_name}: id {made.example['id']!r} occurs twice")
        self._ids.add(made.example["id"])
        self.seconds[split] += float(made.example["duration"])
        self._content[split].update(made.example)
        if made.example["duration"] < _ENCODER_FRAME:
            self.counts["shorter_than_25_ms"] += 1


def _attempt(make_utterance: Callable[[Any], Made], item: Any) -> Made:
    """Processes one item; exceptions of decoders and parsers are reported as a problem of the item."""
    try:
        return make_utterance(item)
    except CorpusError:  # raised by the builder to stop the build
        raise
    except Exception as error:
        return Made(None, ("failed",), f"{str(item)[:200]}: {type(error).__name__}: {reason(error)}")
