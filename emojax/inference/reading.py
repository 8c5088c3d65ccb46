"""Samples of clips, window by window: a file of any length is read in bounded memory, its segments in one pass."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from emojax.audio.files import MAX_SECONDS, read_blocks, too_long
from emojax.errors import AudioError
from emojax.evaluation.windows import Windows
from emojax.inference.sources import Clip
from emojax.types import SAMPLE_RATE

_KEPT = 300 * SAMPLE_RATE
"""Samples of a file that are kept until a segment is complete (19 MB). Longer ones are read again, window by window."""

_ROUNDING = 0.001
"""Tolerance for ends beyond the file (s): tables round times, resampling rounds lengths."""


@dataclasses.dataclass(frozen=True)
class Samples:
    """Samples of a window of a clip, 16 kHz mono, full scale 1.0."""

    clip: int
    values: Float32[np.ndarray, "S"]


@dataclasses.dataclass(frozen=True)
class End:
    """End of a clip, after its windows: its bounds in the file (s), and a remark ("" without)."""

    clip: int
    start: float
    end: float
    remark: str


@dataclasses.dataclass(frozen=True)
class Failure:
    """A clip that cannot be predicted, possibly after some of its windows; the message is one line."""

    clip: int
    message: str


Event = Samples | End | Failure


@dataclasses.dataclass(frozen=True)
class Reading:
    """What is read of a clip.

    Attributes:
      windows: windows of the model.
      min_samples: samples of the model's shortest input.
      audio: whether the model has a modality of the waveform; if not, the first second is enough.
      whole: read a clip as one array of at most `MAX_SECONDS`, for a recognizer.
    """

    windows: Windows
    min_samples: int
    audio: bool = True
    whole: bool = False

    def bounds(self, num_samples: int) -> list[tuple[int, int]]:
        """First sample and length of each window of a clip."""
        if self.whole:
            return [(0, num_samples)]
        return self.windows.of(num_samples) if self.audio else [(0, min(num_samples, SAMPLE_RATE))]


def read_clips(clips: Sequence[tuple[int, Clip]], reading: Reading) -> Iterator[Event]:
    """Reads clips of one file.

    Args:
      clips: clips of the same path, with their numbers.
      reading: what is read of each.

    Yields:
      Windows of each clip in order and its end, or a failure; the clips in any order.
    """
    segments = [_Segment(number, clip) for number, clip in clips]
    path = clips[0][1].path
    try:
        yield from _one_pass(path, segments, reading)
        for segment in segments:
            if segment.dropped and not segment.finished:
                yield from _again(path, segment, reading)
    except AudioError as error:
        message = str(error).replace(str(path), clips[0][1].file, 1)
        yield from (Failure(segment.number, message) for segment in segments if not segment.finished)


class _Segment:
    """A clip while its file is read.

    Attributes:
      first: first sample.
      last: end in samples; None: end of the file.
      parts: samples so far; empty once `dropped`.
      length: number of samples so far.
      dropped: whether the samples are read again, because there were too many to keep.
      finished: whether its end or failure was returned.
    """

    def __init__(self, number: int, clip: Clip):
        self.number, self.clip = number, clip
        self.first = round(clip.start * SAMPLE_RATE)
        self.last = None if clip.end is None else round(clip.end * SAMPLE_RATE)
        self.parts: list[np.ndarray] = []
        self.length, self.dropped, self.finished = 0, False, False

    def add(self, block: np.ndarray, position: int) -> None:
        """Adds its samples of a block that starts at `position`."""
        last = len(block) if self.last is None else min(self.last - position, len(block))
        part = block[max(self.first - position, 0) : max(last, 0)]
        self.length += len(part)
        if len(part) and not self.dropped:
            self.parts.append(part)

    def drop(self) -> None:
        """Forgets the samples."""
        self.parts, self.dropped = [], True


def _one_pass(path: Path, segments: list[_Segment], reading: Reading) -> Iterator[Event]:
    """Reads a file once; yields the events of segments that are short enough to keep, and measures the others."""
    limit = round(MAX_SECONDS * SAMPLE_RATE) if reading.whole else max(_KEPT, reading.windows.samples)
    position, opened = 0, sorted(segments, key=lambda segment: segment.first)
    with contextlib.closing(read_blocks(path)) as blocks:
        for block in blocks:
            for segment in opened:
                if segment.first >= position + len(block):
                    break
                segment.add(block, position)
            position += len(block)
            _drop_longest(opened, limit)
            done = [segment for segment in opened if segment.last is not None and segment.last <= position]
            for segment in done:
                opened.remove(segment)
                yield from _events(segment, position, reading)
            if not opened:
                return
    for segment in opened:
        yield from _events(segment, position, reading)


def _drop_longest(opened: list[_Segment], limit: int) -> None:
    kept = [segment for segment in opened if segment.parts]
    while sum(segment.length for segment in kept) > limit:
        longest = max(kept, key=lambda segment: segment.length)
        longest.drop()
        kept.remove(longest)


def _events(segment: _Segment, position: int, reading: Reading) -> Iterator[Event]:
    """Events of a segment that was read, up to `position` of its file; none yet if its samples were dropped."""
    clip, seconds = segment.clip, position / SAMPLE_RATE
    least = max(reading.min_samples, 1)
    if segment.first >= position and (segment.last is None or segment.last > position):
        yield _failed(segment, f"start {clip.start:.15g} s is beyond the end of the file, {seconds:.15g} s")
    elif segment.length < least:
        yield _failed(
            segment,
            f"must have at least {least} samples at 16 kHz ({1000 * least / SAMPLE_RATE:g} ms, one frame of this "
            f"model), got {segment.length}",
        )
    elif reading.whole and segment.length > MAX_SECONDS * SAMPLE_RATE:
        segment.finished = True
        yield Failure(segment.number, str(too_long(clip.name, segment.length / SAMPLE_RATE)))
    elif not segment.dropped:
        samples = np.concatenate(segment.parts)
        segment.parts = []
        bounds = reading.bounds(len(samples))
        for start, length in bounds:
            values = samples[start : start + length]
            yield Samples(segment.number, values if len(bounds) == 1 else values.copy())
        yield _end(segment)


def _again(path: Path, segment: _Segment, reading: Reading) -> Iterator[Event]:
    """Reads a long segment again, one window after the other."""
    bounds = reading.bounds(segment.length)
    with contextlib.closing(read_blocks(path)) as blocks:
        for samples in cut(blocks, [(segment.first + start, length) for start, length in bounds], str(path)):
            yield Samples(segment.number, samples)
    yield _end(segment)


def cut(
    blocks: Iterable[Float32[np.ndarray, "_"]], bounds: Sequence[tuple[int, int]], name: str
) -> Iterator[np.ndarray]:
    """Cuts adjacent blocks into windows, ascending and without overlap; holds one window and one block.

    Args:
      blocks: samples.
      bounds: first sample and length of each window.
      name: name in error messages.

    Raises:
      AudioError: the blocks end before the last window.
    """
    position, number, parts = 0, 0, list[np.ndarray]()
    for block in blocks:
        while number < len(bounds) and bounds[number][0] < position + len(block):
            first, length = bounds[number]
            parts.append(block[max(first - position, 0) : first + length - position])
            if first + length > position + len(block):
                break
            yield np.concatenate(parts)
            number, parts = number + 1, []
        position += len(block)
        if number == len(bounds):
            return
    raise AudioError(f"{name}: changed while it was read, it has {position} samples in place of {sum(bounds[-1])}")


def _end(segment: _Segment) -> End:
    segment.finished = True
    start, end = segment.first / SAMPLE_RATE, (segment.first + segment.length) / SAMPLE_RATE
    wanted, remark = segment.clip.end, ""
    if wanted is not None and wanted > end + _ROUNDING:
        remark = f"{segment.clip.name}: ends with the file, at {end:.15g} s"
    return End(segment.number, start, end, remark)


def _failed(segment: _Segment, message: str) -> Failure:
    segment.finished = True
    return Failure(segment.number, f"{segment.clip.name}: {message}")
