"""A tiny corpus written by the project's own builder, whose utterances a test can change one by one."""

from pathlib import Path
from typing import ClassVar

import tensorflow_datasets as tfds

from emojax.data import Corpus, open_corpus
from emojax.types import SplitAssignment
from tests.mini_corpus import CATEGORIES, SCALE, make_example
from tfds_builders.build import build as build_corpus
from tfds_builders.builder import CorpusBuilder
from tfds_builders.schema import CorpusMetadata
from tfds_builders.utterance import Made, utterance

SIZES = {"train": 12, "dev": 5, "test": 4}


def make_utterance(item) -> Made:
    split, number, changes = item
    example = make_example(split, number, True, len(CATEGORIES))
    del example["duration"]
    return Made(utterance(**{**example, "num_categories": len(CATEGORIES), **changes}))


class BuiltCorpus(CorpusBuilder, skip_registration=True):
    """`changes` maps (split, number) to features that differ."""

    VERSION = tfds.core.Version("1.0.0")
    name = "built_corpus"
    changes: ClassVar[dict] = {}

    @property
    def make_utterance(self):
        return make_utterance

    def metadata(self):
        split_assignment = SplitAssignment("train", "dev", ("test",))
        return CorpusMetadata("", SCALE, CATEGORIES, "synthesised", "derived", "CC0-1.0", "none", "", split_assignment)

    def items(self, manual_dir):
        return {
            split: [(split, number, self.changes.get((split, number), {})) for number in range(size)]
            for split, size in SIZES.items()
        }


def build(data_dir: Path, changes=None, processes=1) -> Corpus:
    """Builds it, again if it is there."""
    BuiltCorpus.changes = changes or {}
    build_corpus(BuiltCorpus, data_dir, overwrite=True, processes=processes)
    return open_corpus("built_corpus", data_dir)
