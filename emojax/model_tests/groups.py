"""Groups of speakers, and their comparison on as many utterances with the same labels."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from emojax.audio.clip_degradations import clip_generator
from emojax.audio.pitch import mean_f0, missing_estimator
from emojax.model_tests.measurement import Measurement

PITCHES = ("low", "medium", "high")
"""Groups of mean fundamental frequency."""


@dataclasses.dataclass(frozen=True, eq=False)
class Matched:
    """Groups of equal size and equal labels.

    Attributes:
      rows: indices of the utterances.
      group: number of the group of each of them.
      names: names of the groups; fewer than two: they cannot be compared.
      note: sizes of the groups, and which were too small.
    """

    rows: Int[np.ndarray, "M"]
    group: Int[np.ndarray, "M"]
    names: tuple[str, ...]
    note: str


def match_groups(
    groups: Sequence[str], strata: Int[np.ndarray, "N"], least: int, random: np.random.Generator
) -> Matched:
    """Draws the same number of utterances of every stratum from every group.

    Args:
      groups: group of every utterance; "" where unknown, which excludes it.
      strata: bin or category of every utterance; -1 where missing, which excludes it.
      least: least number of utterances of a group, before and after the draw.
      random: generator of the draw.

    Returns:
      `Matched`, without groups if fewer than two are large enough.
    """
    values = np.array(groups)
    usable = (values != "") & (strata >= 0)
    names, counts = np.unique(values[usable], return_counts=True)
    kept = [str(name) for name, count in zip(names, counts, strict=True) if count >= least]
    small = [f"{name} ({count})" for name, count in zip(names, counts, strict=True) if count < least]
    note = f"groups of fewer than {least} utterances: {', '.join(small)}" if small else ""
    nothing = np.zeros(0, np.int64)
    if len(kept) < 2:
        found = f"{len(names)} group{'s' if len(names) != 1 else ''}" + (f", {note}" if note else "")
        return Matched(nothing, nothing, (), f"at least 2 groups are needed, got {found}")
    rows: list[np.ndarray] = []
    group: list[np.ndarray] = []
    for stratum in np.unique(strata[usable]):
        members = [np.flatnonzero(usable & (values == name) & (strata == stratum)) for name in kept]
        size = min(map(len, members))
        rows += [np.sort(random.permutation(found)[:size]) for found in members]
        group += [np.full(size, number) for number in range(len(kept))]
    each = sum(map(len, rows)) // len(kept)
    if each < least:
        reason = f"{each} utterances per group after matching, at least {least} are needed"
        return Matched(nothing, nothing, (), f"{reason} ({', '.join(kept)})" + (f"; {note}" if note else ""))
    sizes = f"{each} utterances per group ({', '.join(kept)})"
    return Matched(np.concatenate(rows), np.concatenate(group), tuple(kept), f"{sizes}; {note}" if note else sizes)


def grouping(measurement: Measurement, name: str) -> tuple[list[str], str]:
    """Group of every utterance by a column of the corpus or of the table of groups.

    Args:
      measurement: measurement of a model.
      name: one of `emojax.model_tests.utterances.GROUPINGS`.

    Returns:
      Groups, "" where unknown; and the reason why there are none, "" if there are.
    """
    values = measurement.utterances.groups.get(name, [])
    if not any(values):
        what = "parallel recordings of the same speech" if name == "speech" else f"{name} of its speakers"
        return [], f"the corpus has no {what}; config.groups can give it"
    return values, ""


def pitch_groups(measurement: Measurement) -> tuple[list[str], str]:
    """Group of every utterance by the mean fundamental frequency of its speaker.

    The mean is estimated over some utterances of each speaker, drawn by the seed; speakers with few utterances have no
    group.

    Returns:
      Groups, "" where unknown; and the reason why there are none, "" if there are.
    """
    if missing_estimator():
        return [], missing_estimator()
    bounds = measurement.config.fairness
    speakers = np.array(measurement.utterances.speakers)
    names, counts = np.unique(speakers[speakers != ""], return_counts=True)
    if not names.size:
        return [], "the corpus has no speakers"
    kept = names[counts >= bounds.pitch_speaker]
    if not kept.size:
        return [], f"no speaker has {bounds.pitch_speaker} utterances"
    groups = np.full(len(speakers), "", dtype="<U6")
    for speaker in kept:
        rows = np.flatnonzero(speakers == speaker)
        random = clip_generator(measurement.config.seed, str(speaker), "pitch")
        drawn = np.sort(random.permutation(rows)[: bounds.pitch_clips])
        estimates = np.array([mean_f0(clip.waveform) for clip in measurement.utterances.read(drawn.tolist())])
        if not np.isnan(estimates).all():
            groups[rows] = PITCHES[int(np.searchsorted(bounds.pitch_limits, np.nanmean(estimates)))]
    return groups.tolist(), ""


def bins_of(values: Float[np.ndarray, "..."], bins: int = 4) -> Int[np.ndarray, "..."]:
    """Number of the bin of [0, 1] of each value; beyond the ends the first or last bin, -1 for NaN."""
    missing = np.isnan(values)
    numbers = np.clip(np.floor(np.where(missing, 0.0, values) * bins), 0, bins - 1).astype(np.int64)
    return np.where(missing, -1, numbers)
