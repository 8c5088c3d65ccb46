"""Gain in CCC of one system over another, with paired intervals: `python -m emojax gain`."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from emojax.errors import CheckpointError, EmojaxError
from emojax.evaluation.predictions import Predictions
from emojax.evaluation.validation import undefined_scores
from emojax.metrics.bootstrap import resampled_by
from emojax.metrics.paired import Gain, bootstrap_gain
from emojax.reporting.evaluate import evaluation_directory
from emojax.schema import parse, settings
from emojax.types import ATTRIBUTES, CorpusInfo
from emojax.workdir import read_json


def measure_gain(
    after: Sequence[Path], before: Sequence[Path], split: str, num_resamples: int = 1000
) -> tuple[dict[str, Gain], str, dict[str, str]]:
    """Compares two systems on the utterances of a split that both have predicted.

    Args:
      after: evaluated workdirs of the new system, one per seed.
      before: evaluated workdirs of the system it is compared with.
      split: split whose predictions are read.
      num_resamples: number of bootstrap resamples.

    Returns:
      The gain by attribute, a description of the utterances compared, and the reason by attribute where the gain is
      undefined.

    Raises:
      EmojaxError: a workdir was not evaluated on the split, or not on the same utterances as the others, or predicts
        no attribute; `num_resamples` is below 1.
    """
    if num_resamples < 1:
        raise EmojaxError(f"--resamples must be >= 1, got {num_resamples}")
    found = {path: _read(path, split) for path in (*before, *after)}
    first = next(iter(found.values()))
    for path, predictions in found.items():
        same = predictions.ids == first.ids and np.array_equal(
            predictions.attribute_labels, first.attribute_labels, equal_nan=True
        )
        if not same or predictions.corpus.name != first.corpus.name:
            raise EmojaxError(f"{path}: was evaluated on other utterances than {before[0]}; both need the same split")
    for path, predictions in found.items():
        if np.isnan(predictions.attributes).all():
            raise EmojaxError(f"{path}: predicts no attribute; a gain in CCC needs runs trained on attributes")
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


def print_gain(
    gains: Mapping[str, Gain], data: str, undefined: Mapping[str, str], out: TextIO, as_json: bool = False
) -> None:
    """Prints what `measure_gain` returned, as a table or as JSON.

    Args:
      gains: by attribute.
      data: description of the utterances compared.
      undefined: reason by attribute.
      out: file to print to.
      as_json: print `{"on": data, "ccc": gains, "undefined": undefined}`, with null for numbers that are undefined.
    """
    if as_json:
        finite = {
            attribute: {name: value if math.isfinite(value) else None for name, value in gain.items()}  # type: ignore[arg-type]
            for attribute, gain in gains.items()
        }
        tree = {"on": data, "ccc": finite, "undefined": undefined}
        print(json.dumps(tree, indent=2, allow_nan=False), file=out)
        return
    print(f"{data}\n{'CCC':<11} before   after    gain   [95 %]             relative", file=out)
    for attribute, gain in gains.items():
        if attribute in undefined:
            print(f"{attribute:<11} undefined: {undefined[attribute]}", file=out)
            continue
        values = f"{gain['before']:6.3f}  {gain['after']:6.3f}  {gain['gain']:+6.3f}"
        interval = f"[{_text(gain['low'], '+.3f')}, {_text(gain['high'], '+.3f')}]"
        ends = f"[{_text(gain['relative_low'], '+.0%')}, {_text(gain['relative_high'], '+.0%')}]"
        print(f"{attribute:<11} {values}  {interval}   {_text(gain['relative'], '+.0%')} {ends}", file=out)


def _text(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "–"


def _read(workdir: Path, split: str) -> Predictions:
    folder = evaluation_directory(workdir)
    path = folder / f"{split}.csv"
    if not path.is_file():
        raise EmojaxError(f"{workdir}: was not evaluated on {split!r}: {path} does not exist")
    scores = folder / f"{split}.json"
    found = parse(_Summary, read_json(scores), str(scores), error=CheckpointError, unknown="ignore")
    info = parse(
        CorpusInfo,
        {"name": found.corpus, **{key: getattr(found, key) for key in _SHARED}, "licence": "", "citation": ""},
        str(scores),
        error=CheckpointError,
    )
    return Predictions.read_csv(path, info, split)


_SHARED = ("scale", "categories", "speech", "attribute_source")


@settings
class _Summary:
    """Metadata of the corpus in `SPLIT.json`."""

    corpus: str
    scale: tuple[float, float]
    categories: tuple[str, ...]
    speech: str
    attribute_source: str
