"""Division of a recording into segments of speech: pure functions of the probability of speech in every frame.

Runs are pairs of frame numbers (first, one after the last) in the order of time.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from emojax.annotation.config import ActivityConfig, SegmentsConfig

Runs = list[tuple[int, int]]

_SMOOTHING_FRAMES = 5
"""Frames over which levels are averaged: a pause is quiet for longer than the closure of a stop."""

_LEAST_SHARE = 2
"""Parts of a divided segment, except the last, have at least the longest segment divided by this."""


def find_segments(
    probabilities: Float[np.ndarray, "T"],
    levels: Float[np.ndarray, "T"],
    frame_seconds: float,
    activity: ActivityConfig,
    config: SegmentsConfig,
) -> Runs:
    """Finds segments of speech.

    They do not overlap, contain all speech of at least `speech_seconds`, and last from `min_seconds` to `max_seconds`,
    apart from rounding to frames and from recordings shorter than `min_seconds`.

    Args:
      probabilities: probability of speech of each frame.
      levels: level of each frame (dB).
      frame_seconds: duration of a frame.
      activity: thresholds.
      config: lengths.

    Returns:
      Segments in frames.
    """

    def frames(seconds: float) -> int:
        return round(seconds / frame_seconds)

    shortest = int(np.ceil(config.min_seconds / frame_seconds - 1e-9))
    longest = max(int(config.max_seconds / frame_seconds + 1e-9), 1)
    runs = speech_runs(probabilities, activity.threshold, activity.release)
    runs = [(start, end) for start, end in runs if end - start >= frames(config.speech_seconds)]
    runs = merge_pauses(runs, frames(config.pause_seconds))
    runs = pad(runs, frames(config.padding_seconds), len(probabilities))
    runs = lengthen(runs, shortest, len(probabilities))
    return divide(runs, levels, shortest, longest)


def speech_runs(probabilities: Float[np.ndarray, "T"], threshold: float, release: float) -> Runs:
    """Runs of frames of at least `release` that have a frame of at least `threshold`."""
    active = np.concatenate([[False], probabilities >= release, [False]])
    edges = np.flatnonzero(active[1:] != active[:-1])
    pairs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    return [(start, end) for start, end in pairs if probabilities[start:end].max() >= threshold]


def merge_pauses(runs: Runs, pause: int) -> Runs:
    """Merges runs whose distance is less than `pause` frames."""
    merged: Runs = []
    for start, end in runs:
        if merged and start - merged[-1][1] < pause:
            merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def pad(runs: Runs, padding: int, total: int) -> Runs:
    """Extends runs by `padding` frames on both sides, at most to the middle of a pause and within the recording."""
    padded: Runs = []
    for number, (start, end) in enumerate(runs):
        low = 0 if number == 0 else (runs[number - 1][1] + start) // 2
        high = total if number + 1 == len(runs) else (end + runs[number + 1][0]) // 2
        padded.append((max(start - padding, low), min(end + padding, high)))
    return padded


def lengthen(runs: Runs, shortest: int, total: int) -> Runs:
    """Extends shorter runs on both sides; one without enough space is merged with a neighbour.

    The result has runs shorter than `shortest` only if the recording, of `total` frames, is shorter.
    """
    result: Runs = []
    joined = 0  # frames before the next run that belong to it
    for number, (first, end) in enumerate(runs):
        start = first - joined
        joined = 0
        low = result[-1][1] if result else 0
        high = runs[number + 1][0] if number + 1 < len(runs) else total
        missing = shortest - (end - start)
        if missing > 0:
            before = min(missing // 2, start - low)
            after = min(missing - before, high - end)
            before = min(missing - after, start - low)
            start, end = start - before, end + after
        if end - start >= shortest:
            result.append((start, end))
        elif result:
            result[-1] = (result[-1][0], end)
        elif number + 1 < len(runs):
            joined = end - start
        else:
            result.append((start, end))
    return result


def divide(runs: Runs, levels: Float[np.ndarray, "T"], shortest: int, longest: int) -> Runs:
    """Divides runs of more than `longest` frames at their quietest points.

    Args:
      runs: runs of at least `shortest` frames.
      levels: level of each frame (dB).
      shortest: least length of the parts.
      longest: greatest length of the parts, at least twice `shortest`.
    """
    smooth = smoothed_levels(levels)
    least = max(shortest, longest // _LEAST_SHARE, 1)
    result: Runs = []
    for start, end in runs:
        while end - start > longest:
            candidates = smooth[start + least : min(start + longest, end - max(shortest, 1)) + 1]
            cut = start + least + int(np.argmin(candidates))
            result.append((start, cut))
            start = cut
        result.append((start, end))
    return result


def smoothed_levels(levels: Float[np.ndarray, "T"]) -> Float[np.ndarray, "T"]:
    """Mean of each level and its neighbours."""
    if len(levels) == 0:
        return levels
    half = _SMOOTHING_FRAMES // 2
    sums = np.cumsum(np.pad(levels.astype(np.float64), (half + 1, half), mode="edge"))
    return (sums[_SMOOTHING_FRAMES:] - sums[:-_SMOOTHING_FRAMES]) / _SMOOTHING_FRAMES


def to_seconds(runs: Sequence[tuple[int, int]], frame_seconds: float, duration: float) -> list[tuple[float, float]]:
    """Start and end of runs in seconds, at most the duration of the recording."""
    return [(start * frame_seconds, min(end * frame_seconds, duration)) for start, end in runs]
