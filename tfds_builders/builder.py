"""What all builders share: a corpus says what its items are and how one becomes an utterance; the rest is here."""

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
"""About 60 MB of speech; a shard is held in memory while it is written."""

_PROBLEMS_SHOWN = 5

_MOST_DAMAGED = 0.05
"""Share of a split that may be damaged and left out; more, and something is wrong with the copy."""

_ENCODER_FRAME = 0.025
"""Seconds that one frame of published speech encoders takes; they leave out what is shorter."""


# Not a `GeneratorBasedBuilder`: that one keeps a split in memory up to 1 GB and needs TensorFlow beyond.
class CorpusBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of all builders.

    A builder defines `VERSION`, `metadata`, `items` and `make_utterance`; `MANUAL_DOWNLOAD_INSTRUCTIONS` too where the
    user brings the corpus, which then lies in `manual_dir`. Utterances are stored in a random order that is always the
    same, so that a part of a split is a fair sample of it.

    Attributes:
      pool: worker processes; None makes every utterance in this process.
      processes: how many `pool` has.
      seconds: duration of what was generated, per split.
      counts: what is special, by name; `items` may add to them.
      sources: files of the user's copy that the corpus is made from, from `stamp_files`; `items` sets them.
    """

    pool: ProcessPoolExecutor | None = None
    processes: int = 1
    seconds: dict[str, float]
    counts: collections.Counter[str]
    sources: Mapping[str, Stamp | None] = types.MappingProxyType({})
    _problems: list[str]

    @classmethod
    def config_for(cls, config: str, manual_dir: Path | None) -> str | tfds.core.BuilderConfig:
        """The builder config that the build command means; builders of what a user describes make their own.

        Args:
          config: name given, "" for the default.
          manual_dir: the user's copy, where one is given.
        """
        return config

    @property
    @abc.abstractmethod
    def make_utterance(self) -> Callable[[Any], Made]:
        """A module-level function (it travels to worker processes) from an item to what became of it."""

    @abc.abstractmethod
    def metadata(self) -> CorpusMetadata:
        """What is true of the whole corpus."""

    @abc.abstractmethod
    def items(self, manual_dir: Path | None) -> dict[str, Sequence[Any]]:
        """What utterances are made from, per split, small and picklable; splits have the corpus's own names.

        Raises:
          CorpusError: a file the corpus needs is missing or damaged; the message names it.
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
        """One generator per shard, to be run in this order: they share one stream, so that workers never wait."""
        stream = self._stream(split, random.Random(0).sample(items, len(items)))
        num_shards = max(1, math.ceil(len(items) / _ITEMS_PER_SHARD))
        bounds = [round(len(items) * shard / num_shards) for shard in range(num_shards + 1)]
        sizes: list[int | None] = [high - low for low, high in itertools.pairwise(bounds)]
        sizes[-1] = None  # The last one runs the stream to its end.
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
        if damaged > max(1, _MOST_DAMAGED * len(items)):
            raise CorpusError(
                f"{self.info.full_name}: {damaged} of {len(items)} items of split {split!r} are damaged, the first: "
                f"{self._problems[before]}"
            )
        if split not in self.seconds:
            raise CorpusError(f"{self.info.full_name}: split {split!r} has no utterance ({dict(self.counts)})")
        self.info.metadata["counts"] = dict(sorted(self.counts.items()))
        self.info.metadata["content"] = {split: digest.hexdigests() for split, digest in self._content.items()}

    def _count(self, split: str, made: Made) -> None:
        self.counts.update(made.counted)
        if made.problem:
            self._problems.append(made.problem)
            if len(self._problems) <= _PROBLEMS_SHOWN:
                print(f"left out: {made.problem}", file=sys.stderr, flush=True)
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
    """One item; whatever a decoder or parser raises over its content is a problem of that item alone."""
    try:
        return make_utterance(item)
    except CorpusError:  # the builder's own judgement that the corpus cannot be built
        raise
    except Exception as error:
        return Made(None, ("failed",), f"{str(item)[:200]}: {type(error).__name__}: {reason(error)}")
