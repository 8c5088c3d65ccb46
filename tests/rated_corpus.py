"""A tiny corpus whose utterances have histograms of seven-point ratings, written by the project's own builder."""

from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from emojax.types import SplitAssignment
from tests.mini_corpus import CATEGORIES, SCALE, make_example
from tfds_builders.build import build as build_corpus
from tfds_builders.builder import CorpusBuilder
from tfds_builders.schema import CorpusMetadata
from tfds_builders.utterance import Made, count_ratings, utterance

SIZES = {"train": 24, "dev": 9, "test": 8}
BINS = 7


def ratings_of(split: str, number: int) -> np.ndarray:
    """Whole ratings (R, 3) of 3 to 8 raters around the labels of `make_example`; two utterances have none."""
    if number in (2, 5):
        return np.zeros((0, 3))
    rng = np.random.default_rng([7, len(split), number])
    example = make_example(split, number, True, len(CATEGORIES))
    middle = np.nan_to_num(example["attributes"], nan=4.0)
    spread = 0.3 + 1.2 * rng.random()
    return np.clip(np.rint(middle + spread * rng.normal(size=(3 + number % 6, 3))), *SCALE)


def make_utterance(item) -> Made:
    split, number = item
    example = make_example(split, number, True, len(CATEGORIES))
    del example["duration"]
    ratings = ratings_of(split, number)
    if len(ratings):
        example["attributes"] = np.where(np.isnan(example["attributes"]), np.nan, ratings.mean(axis=0))
        example["attributes_std"] = ratings.std(axis=0, ddof=1)
    rng = np.random.default_rng([8, number])
    example["emotion_votes"] = rng.dirichlet(np.ones(len(CATEGORIES)))
    histogram = count_ratings(ratings, (1, 7))
    return Made(utterance(**example, num_categories=len(CATEGORIES), attributes_histogram=histogram))


class RatedCorpus(CorpusBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.0.0")
    name = "rated_corpus"

    @property
    def make_utterance(self):
        return make_utterance

    def metadata(self):
        split_assignment = SplitAssignment("train", "dev", ("test",))
        return CorpusMetadata(
            "", SCALE, CATEGORIES, "synthesised", "rated", "CC0-1.0", "none", "", split_assignment, rating_bins=BINS
        )

    def items(self, manual_dir):
        return {split: [(split, number) for number in range(size)] for split, size in SIZES.items()}


def build(data_dir: Path) -> None:
    build_corpus(RatedCorpus, data_dir, processes=1)
