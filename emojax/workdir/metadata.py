"""What a workdir remembers of its training corpus: its metadata, and how its training labels were distributed.

The labels themselves stay with the corpus, whose licence may forbid passing them on; quantiles and counts are enough
for the mean and random predictors that are printed beside every result.
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

_MOST_ITEMS = 20_000_000
"""More training items than any corpus has; a file from elsewhere must not ask for memory without bound."""

_Quantiles = Annotated[tuple[float, ...], MinLen(len(_QUANTILES)), MaxLen(len(_QUANTILES))] | None


@settings
class _AttributeQuantiles:
    activation: _Quantiles
    valence: _Quantiles
    dominance: _Quantiles


@settings
class _TrainingLabels:
    attribute_quantiles: _AttributeQuantiles
    emotion_counts: tuple[Annotated[int, Ge(0), Le(_MOST_ITEMS)], ...]
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
        if sum(counts) > _MOST_ITEMS:
            raise ConfigError(f"training_labels.emotion_counts must sum to <= {_MOST_ITEMS}, got {sum(counts)}")


@dataclasses.dataclass(frozen=True)
class CorpusMetadata:
    """Metadata of the training corpus.

    Attributes:
      info: name, scale, categories, licence.
      attributes: 200 quantiles of each attribute's training labels, corpus scale; NaN without labels.
      emotion: one entry per training item, grouped by category.
      labels_known: False where a model was trained elsewhere, on labels that were not published with it.
      content: digests of the training split's features (`emojax.content`); empty where they are not known.
    """

    info: CorpusInfo
    attributes: Float[np.ndarray, "Q 3"]
    emotion: Int[np.ndarray, "M"]
    labels_known: bool = True
    content: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class TrainedOutputs:
    """Which outputs of a model mean something.

    Attributes:
      attributes: flags of activation, valence, dominance.
      categories: whether the categories were trained.
    """

    attributes: tuple[bool, bool, bool]
    categories: bool


def trained_outputs(
    objective: ObjectiveConfig, distillation: DistillationConfig, metadata: CorpusMetadata
) -> TrainedOutputs:
    """An output is trained where the objective weighs it and training labels for it exist, or a teacher taught it."""
    unknown = not metadata.labels_known
    rated = ~np.isnan(metadata.attributes).all(axis=0) | unknown | (distillation.attribute_weight > 0)
    activation, valence, dominance = (rated & (np.array(objective.attribute_weights) > 0)).tolist()
    labelled = objective.emotion_weight > 0 and (metadata.emotion.size > 0 or unknown)
    return TrainedOutputs((activation, valence, dominance), labelled or distillation.emotion_weight > 0)


def unknown_labels(info: CorpusInfo) -> CorpusMetadata:
    """Metadata of a corpus whose labels are not known; the mean and random predictors are then left out."""
    nothing = np.full((len(_QUANTILES), len(ATTRIBUTES)), np.nan)
    return CorpusMetadata(info=info, attributes=nothing, emotion=np.zeros(0, np.int64), labels_known=False)


def corpus_metadata(info: CorpusInfo, training: SplitIndex) -> CorpusMetadata:
    """Sums up the training split of a corpus."""
    columns = []
    for labels in training.attributes.T:
        known = labels[~np.isnan(labels)].astype(np.float64)
        columns.append(np.quantile(known, _QUANTILES) if known.size else np.full(len(_QUANTILES), np.nan))
    emotion = np.sort(training.emotion[training.emotion != MISSING_EMOTION])
    return CorpusMetadata(
        info=info, attributes=np.array(columns).T, emotion=emotion.astype(np.int64), content=training.content
    )


def write_corpus_metadata(workdir: Path, metadata: CorpusMetadata) -> None:
    """Writes `corpus.json`."""
    quantiles = {
        attribute: None if np.isnan(column).all() else column.tolist()
        for attribute, column in zip(ATTRIBUTES, metadata.attributes.T, strict=True)
    }
    counts = np.bincount(metadata.emotion, minlength=len(metadata.info.categories)).tolist()
    labels = {"known": metadata.labels_known, "attribute_quantiles": quantiles, "emotion_counts": counts}
    tree = {"info": dataclasses.asdict(metadata.info), "training_labels": labels, "content": dict(metadata.content)}
    write_json(workdir / CORPUS, tree)


def check_same_corpus(workdir: Path, metadata: CorpusMetadata) -> None:
    """Checks that a run continues on the content that it began with; an older run, without digests, passes.

    Raises:
      CheckpointError: the training split has changed since, e.g. the corpus was built again from other files.
    """
    if not (workdir / CORPUS).exists():
        return
    before = read_corpus_metadata(workdir).content
    changed = sorted(name for name, digest in before.items() if metadata.content.get(name, digest) != digest)
    if changed:
        raise CheckpointError(
            f"{workdir}: began with another content of {metadata.info.name} ({', '.join(changed)} changed since); "
            "use another --workdir"
        )


def read_corpus_metadata(workdir: Path) -> CorpusMetadata:
    """Reads `corpus.json`.

    Raises:
      CheckpointError: it is not there, damaged, incomplete, or holds values that no training writes.
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
