"""Schema of all corpora: features of an utterance, and metadata of the corpus."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, Literal
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds

from emojax.types import NUM_ATTRIBUTES, SplitAssignment


@dataclasses.dataclass(frozen=True)
class CorpusMetadata:
    """Metadata of a corpus, saved as TFDS metadata.

    Attributes:
      description: a paragraph about the corpus.
      scale: lowest and highest value of `attributes`.
      categories: names of `emotion`, in order; may be empty.
      speech: recorded or synthesised speech.
      attribute_source: whether attributes are rated by people, derived, or absent.
      licence: licence of the corpus.
      citation: reference to cite.
      notes: limitations to consider when interpreting results.
      split_assignment: default training, validation and test splits; None without defaults.
      folds: split assignment of each cross-validation fold; a split may be a sum, `a+b`.
      remarks: one-line remarks on how the user's files were read, e.g. unused columns.
      rating_bins: K, whole numbers from the lowest to the highest value of `scale` that raters chose from, where every
        rater's choice is known: utterances then have `attributes_histogram`; 0 where it is not.
    """

    description: str
    scale: tuple[float, float]
    categories: tuple[str, ...]
    speech: Literal["recorded", "synthesised"]
    attribute_source: Literal["rated", "derived", "none"]
    licence: str
    citation: str
    notes: str
    split_assignment: SplitAssignment | None = None
    folds: tuple[SplitAssignment, ...] = ()
    remarks: tuple[str, ...] = ()
    rating_bins: int = 0


def features(categories: Sequence[str], rating_bins: int = 0) -> tfds.features.FeaturesDict:
    """Returns the features of an utterance, which need no TensorFlow to write or read.

    Args:
      categories: names of the categories.
      rating_bins: K of `attributes_histogram` (3, K), number of raters per value; 0: no such feature.
    """
    # ClassLabel rejects an empty list of names, and accepts -1 (no consensus) with any number of classes.
    label = tfds.features.ClassLabel(names=list(categories)) if categories else tfds.features.ClassLabel(num_classes=0)
    histogram = {}
    if rating_bins:
        histogram["attributes_histogram"] = tfds.features.Tensor(shape=(NUM_ATTRIBUTES, rating_bins), dtype=np.float32)
    return tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding=tfds.features.Encoding.BYTES),
            "transcript": tfds.features.Text(),
            "attributes": tfds.features.Tensor(shape=(NUM_ATTRIBUTES,), dtype=np.float32),
            "attributes_std": tfds.features.Tensor(shape=(NUM_ATTRIBUTES,), dtype=np.float32),
            "emotion": label,
            "emotion_votes": tfds.features.Tensor(shape=(len(categories),), dtype=np.float32),
            "speaker": tfds.features.Text(),
            "gender": tfds.features.Text(),
            "duration": tfds.features.Scalar(dtype=np.float32),
            **histogram,
        }
    )


def dataset_info(builder: tfds.core.DatasetBuilder, metadata: CorpusMetadata) -> tfds.core.DatasetInfo:
    """Creates a builder's `_info`; `counts` and `content` of the metadata are filled in when the corpus is generated.

    The metadata holds `scale`, `categories`, `speech`, `attribute_source`, `licence`, `citation`, `notes`,
    `split_assignment`, `folds`, `remarks`, `counts`, and `content`: digests of each split (`emojax.content`); and
    `rating_bins` if it is not 0.
    """
    bins = {"rating_bins": metadata.rating_bins} if metadata.rating_bins else {}
    tree = tfds.core.MetadataDict(
        scale=list(metadata.scale),
        categories=list(metadata.categories),
        speech=metadata.speech,
        attribute_source=metadata.attribute_source,
        licence=metadata.licence,
        citation=metadata.citation,
        notes=metadata.notes,
        split_assignment=dataclasses.asdict(metadata.split_assignment) if metadata.split_assignment else {},
        folds=[dataclasses.asdict(fold) for fold in metadata.folds],
        remarks=list(metadata.remarks),
        counts={},
        content={},
        **bins,
    )
    return tfds.core.DatasetInfo(
        builder=builder,
        description=metadata.description,
        features=features(metadata.categories, metadata.rating_bins),
        license=metadata.licence,
        citation=metadata.citation,
        metadata=tree,
    )


def serialize_example(serializer: tfds.core.ExampleSerializer, example: Any) -> bytes:
    """Serialises an encoded example with its features in a fixed order; protobuf's order differs between processes."""
    return serializer.get_tf_example(example).SerializeToString(deterministic=True)


@contextlib.contextmanager
def deterministic_serialization():
    """Makes TFDS use `serialize_example`, for which it has no option; not for several threads at once."""
    with mock.patch.object(tfds.core.ExampleSerializer, "serialize_example", serialize_example):
        yield
