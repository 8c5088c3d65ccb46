"""Metadata of the training corpus, saved in a workdir: corpus information and label statistics.

Labels are not saved, since the corpus's licence may forbid it; quantiles and counts suffice for the mean and random
baselines reported with every result.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int

from emojax.data import SplitIndex
from emojax.errors import CheckpointError, ConfigError
from emojax.losses import DistillationConfig, ObjectiveConfig
from emojax.schema import Ge, Le, MaxLen, MinLen, parse, settings
from emojax.types import ATTRIBUTES, MISSING_EMOTION, CorpusInfo
from emojax.workdir.files import CORPUS, read_json, write_json

_QUANTILES = (np.arange(200) + 0.5) / 200

_MAX_ITEMS = 20_000_000
"""Upper limit on training items, which bounds the memory that an untrusted file can request."""

_Quantiles = Annotated[tuple[float, ...], MinLen(len(_QUANTILES)), MaxLen(len(_QUANTILES))] | None


@settings
class _AttributeQuantiles:
    activation: _Quantiles
    valence: _Quantiles
    dominance: _Quantiles


@settings
class _TrainingLabels:
    attribute_quantiles: _AttributeQuantiles
    emotion_counts: tuple[Annotated[int, Ge(0), Le(_MAX_ITEMS)], ...]
    known: bool = True


@settings
class _CorpusFile:
    info: CorpusInfo
    training_labels: _TrainingLabels
    content: Annotated[Mapping[str, Annotated[str, MaxLen(128)]], MaxLen(64)] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        counts, categories = self.training_labels.emotion_counts, self.info.categories
        if len(counts) != len(categories):
            raise ConfigError(f"training_labels.emotion_counts must have {len(categories)} counts, got {len(counts)}")
        if sum(counts) > _MAX_ITEMS:
            raise ConfigError(f"training_labels.emotion_counts must sum to <= {_MAX_ITEMS}, got {sum(counts)}")


@dataclasses.dataclass(frozen=True)
class CorpusMetadata:
    """Metadata of the training corpus.

    Attributes:
      info: name, scale, categories, licence.
      attributes: 200 quantiles of each attribute's training labels, corpus scale; NaN without labels.
      emotion: category of each training item, sorted.
      labels_known: False for an imported model whose label statistics are not published.
      content: digests of the training split's features (`emojax.content`); empty if unavailable.
    """

    info: CorpusInfo
    attributes: Float[np.ndarray, "Q 3"]
    emotion: Int[np.ndarray, "M"]
    labels_known: bool = True
    content: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def attribute_means(self) -> Float[np.ndarray, "3"]:
        """Mean of each attribute's training labels (of their quantiles), mapped to [0, 1]; 0.5 without labels."""
        low, high = self.info.scale
        return np.nan_to_num((self.attributes.mean(axis=0) - low) / (high - low), nan=0.5)

    @property
    def emotion_counts(self) -> Int[np.ndarray, "C"]:
        """Training items of each category."""
        return np.bincount(self.emotion, minlength=len(self.info.categories))


@dataclasses.dataclass(frozen=True)
class TrainedOutputs:
    """Outputs of a model that were trained.

    Attributes:
      attributes: whether activation, valence and dominance were trained.
      categories: whether the categories were trained.
    """

    attributes: tuple[bool, bool, bool]
    categories: bool


def trained_outputs(
    objective: ObjectiveConfig, distillation: DistillationConfig, metadata: CorpusMetadata
) -> TrainedOutputs:
    """Determines the outputs that have a loss weight and training labels, or were distilled from a teacher."""
    unknown = not metadata.labels_known
    rated = ~np.isnan(metadata.attributes).all(axis=0) | unknown | (distillation.attribute_weight > 0)
    activation, valence, dominance = (rated & (np.array(objective.attribute_weights) > 0)).tolist()
    labelled = objective.emotion_weight > 0 and (metadata.emotion.size > 0 or unknown)
    return TrainedOutputs((activation, valence, dominance), labelled or distillation.emotion_weight > 0)


def unknown_labels(info: CorpusInfo) -> CorpusMetadata:
    """Returns metadata without label statistics; mean and random baselines are then not computed."""
    missing = np.full((len(_QUANTILES), len(ATTRIBUTES)), np.nan)
    return CorpusMetadata(info=info, attributes=missing, emotion=np.zeros(0, np.int64), labels_known=False)


def corpus_metadata(info: CorpusInfo, training: SplitIndex) -> CorpusMetadata:
    """Computes the metadata of a corpus from the index of its training split (`SplitIndex.sampled_labels`)."""
    attributes, categories = training.sampled_labels()
    columns = []
    for labels in attributes.T:
        present = labels[~np.isnan(labels)].astype(np.float64)
        columns.append(np.quantile(present, _QUANTILES) if present.size else np.full(len(_QUANTILES), np.nan))
    emotion = np.sort(categories[categories != MISSING_EMOTION])
    return CorpusMetadata(
        info=info, attributes=np.array(columns).T, emotion=emotion.astype(np.int64), content=training.content
    )


def write_corpus_metadata(workdir: Path, metadata: CorpusMetadata) -> None:
    """Writes `corpus.json`."""
    quantiles = {
        attribute: None if np.isnan(column).all() else column.tolist()
        for attribute, column in zip(ATTRIBUTES, metadata.attributes.T, strict=True)
    }
    counts = metadata.emotion_counts.tolist()
    labels = {"known": metadata.labels_known, "attribute_quantiles": quantiles, "emotion_counts": counts}
    tree = {"info": dataclasses.asdict(metadata.info), "training_labels": labels, "content": dict(metadata.content)}
    write_json(workdir / CORPUS, tree)


def check_same_corpus(workdir: Path, metadata: CorpusMetadata) -> None:
    """Checks that the training split has not changed since a run started; runs without saved digests pass.

    Raises:
      CheckpointError: the training split has changed, e.g. the corpus was rebuilt from other files.
    """
    if not (workdir / CORPUS).exists():
        return
    before = read_corpus_metadata(workdir).content
    changed = sorted(name for name, digest in before.items() if metadata.content.get(name, digest) != digest)
    if changed:
        raise CheckpointError(
            f"{workdir}: {metadata.info.name} has changed since the run started ({', '.join(changed)} differ); "
            "use another --workdir"
        )


def read_corpus_metadata(workdir: Path) -> CorpusMetadata:
    """Reads `corpus.json`.

    Raises:
      CheckpointError: the file is missing, damaged, incomplete, or holds invalid values.
    """
    path = workdir / CORPUS
    found = parse(_CorpusFile, read_json(path), f"{path}: corpus", error=CheckpointError, missing="default")
    labels = found.training_labels
    missing = (np.nan,) * len(_QUANTILES)
    columns = [getattr(labels.attribute_quantiles, attribute) or missing for attribute in ATTRIBUTES]
    counts = labels.emotion_counts
    return CorpusMetadata(
        info=found.info,
        attributes=np.array(columns, np.float64).T,
        emotion=np.repeat(np.arange(len(counts)), counts),
        labels_known=labels.known,
        content=found.content,
    )
