"""The one schema of every corpus: features of an utterance, metadata about the corpus, and what missing looks like."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import tensorflow_datasets as tfds

from emojax.types import NUM_ATTRIBUTES, SplitAssignment


@dataclasses.dataclass(frozen=True)
class CorpusMetadata:
    """What is true of a whole corpus; travels as TFDS metadata beside the data.

    Attributes:
      description: a paragraph on what it is.
      scale: lowest and highest value of `attributes`.
      categories: names of `emotion`, in order; may be empty.
      speech: whether people or a synthesiser spoke.
      attribute_source: whether people rated the attributes, they are derived from something else, or there are none.
      licence: licence of what is stored.
      citation: how to cite it.
      notes: what a reader of numbers made from it must know.
      split_assignment: which splits training, validation and tests use; None where none is meant for them.
      folds: the same for each fold of a cross-validation; a split may be a sum, `a+b`.
      remarks: how the user's files were read, a line each, e.g. columns that are not used.
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


def features(categories: Sequence[str]) -> tfds.features.FeaturesDict:
    """The features of an utterance; none of them needs TensorFlow to be written or read."""
    # ClassLabel refuses an empty list of names, and takes -1 (no consensus) with any number of classes.
    label = tfds.features.ClassLabel(names=list(categories)) if categories else tfds.features.ClassLabel(num_classes=0)
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
        }
    )


def dataset_info(builder: tfds.core.DatasetBuilder, metadata: CorpusMetadata) -> tfds.core.DatasetInfo:
    """What a builder's `_info` returns; `counts` and `content` of the metadata are empty until the corpus is generated.

    The metadata holds `scale`, `categories`, `speech`, `attribute_source`, `licence`, `citation`, `notes`,
    `split_assignment`, `folds`, `remarks`, `counts`, and `content`: digests of each split (`emojax.content`).
    """
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
    )
    return tfds.core.DatasetInfo(
        builder=builder,
        description=metadata.description,
        features=features(metadata.categories),
        license=metadata.licence,
        citation=metadata.citation,
        metadata=tree,
    )
