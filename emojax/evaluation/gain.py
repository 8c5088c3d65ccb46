"""What one system gained over another, read from the predictions in their workdirs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emojax.errors import CheckpointError, EmojaxError
from emojax.evaluation.predictions import Predictions
from emojax.evaluation.undefined import undefined_scores
from emojax.evaluation.writing import evaluation_directory
from emojax.metrics.bootstrap import resampled_by
from emojax.metrics.paired import Gain, bootstrap_gain
from emojax.schema import parse, settings
from emojax.types import ATTRIBUTES, CorpusInfo
from emojax.workdir import read_json


def measure_gain(
    after: Sequence[Path], before: Sequence[Path], split: str, num_resamples: int = 1000
) -> tuple[dict[str, Gain], str, dict[str, str]]:
    """Compares two systems on the utterances of a split that both have predicted.

    Args:
      after: evaluated workdirs of the one system, one per seed.
      before: of the other.
      split: whose predictions are read.
      num_resamples: of the bootstrap.

    Returns:
      The gain by attribute, in words what it is measured on, and the reason by attribute where it is undefined.

    Raises:
      EmojaxError: a workdir was not evaluated on the split, or not on the same utterances as the others, or predicts
        no attribute; `num_resamples` is below 1.
    """
    if num_resamples < 1:
        raise EmojaxError(f"--resamples: {num_resamples} is not allowed; allowed: an integer >= 1")
    found = {path: _read(path, split) for path in (*before, *after)}
    first = next(iter(found.values()))
    for path, predictions in found.items():
        same = predictions.ids == first.ids and np.array_equal(
            predictions.attribute_labels, first.attribute_labels, equal_nan=True
        )
        if not same or predictions.corpus.name != first.corpus.name:
            raise EmojaxError(f"{path}: was evaluated on other utterances than {before[0]}; allowed: the same split")
    for path, predictions in found.items():
        if np.isnan(predictions.attributes).all():
            raise EmojaxError(f"{path}: predicts no attribute; allowed: runs that were trained on attributes")
    undefined = {
        attribute: reasons[f"ccc.{attribute}"]
        for reasons in map(undefined_scores, found.values())
        for attribute in ATTRIBUTES
        if f"ccc.{attribute}" in reasons
    }
    gains = bootstrap_gain(
        [found[path].attributes for path in before],
        [found[path].attributes for path in after],
        np.where([attribute in undefined for attribute in ATTRIBUTES], np.nan, first.attribute_labels),
        first.speakers,
        num_resamples,
    )
    unit = resampled_by(first.speakers)
    number = len(set(first.speakers)) if unit == "speaker" else len(first.ids)
    speech = ", synthetic speech" if first.corpus.speech == "synthesised" else ""
    return (
        gains,
        f"{first.corpus.name} {split}{speech}, {len(first.ids)} utterances; 95 % over {number} {unit}s, paired",
        undefined,
    )


def _read(workdir: Path, split: str) -> Predictions:
    folder = evaluation_directory(workdir)
    path = folder / f"{split}.csv"
    if not path.is_file():
        raise EmojaxError(f"{workdir}: was not evaluated on {split!r}: {path} is not there")
    place = folder / f"{split}.json"
    found = parse(_Summary, read_json(place), str(place), error=CheckpointError, unknown="ignore")
    info = parse(
        CorpusInfo,
        {"name": found.corpus, **{key: getattr(found, key) for key in _SHARED}, "licence": "", "citation": ""},
        str(place),
        error=CheckpointError,
    )
    return Predictions.read_csv(path, info, split)


_SHARED = ("scale", "categories", "speech", "attribute_source")


@settings
class _Summary:
    """What `SPLIT.json` says of the corpus."""

    corpus: str
    scale: tuple[float, float]
    categories: tuple[str, ...]
    speech: str
    attribute_source: str
