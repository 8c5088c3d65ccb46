"""Windows of long recordings: text with time stamps as segments, and where the next window starts."""

import dataclasses
from collections.abc import Sequence

from emojax.types import SAMPLE_RATE

STEP = 320
"""Samples between two time stamps (20 ms), and between two frames of the encoder."""

STEP_SECONDS = STEP / SAMPLE_RATE


@dataclasses.dataclass(frozen=True)
class Piece:
    """Tokens of one segment and their times within the window.

    Attributes:
      tokens: ids of the text, time stamps included.
      start: start in seconds from the start of the window.
      end: end in seconds.
    """

    tokens: tuple[int, ...]
    start: float
    end: float


def divide_window(tokens: Sequence[int], first_timestamp: int, num_samples: int) -> tuple[tuple[Piece, ...], int]:
    """Divides the tokens of a window at its time stamps (Radford et al. 2023, section 3.8).

    Two time stamps in a row are the end of a segment and the start of the next. Where a segment is still open at the
    end of the window, the next window starts at the end of the last closed one.

    Args:
      tokens: ids without prompt and end.
      first_timestamp: id of the time stamp of 0 s.
      num_samples: samples of the window.

    Returns:
      The segments, and by how many samples the next window starts later than this one.
    """
    is_stamp = [token >= first_timestamp for token in tokens]
    cuts = [i + 1 for i in range(len(tokens) - 1) if is_stamp[i] and is_stamp[i + 1]]
    duration = num_samples / SAMPLE_RATE
    if not cuts:
        last = max((i for i, stamp in enumerate(is_stamp) if stamp), default=None)
        step = 0 if last is None else tokens[last] - first_timestamp
        end = min(step * STEP_SECONDS, duration) or duration  # a last time stamp of 0 s is none, as in transformers
        return (Piece(tuple(tokens), 0.0, end),), num_samples
    closed = is_stamp[-2:] == [False, True]
    ends = [*cuts, len(tokens)] if closed else cuts
    pieces = []
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        part = tokens[begin:end]
        times = [min((token - first_timestamp) * STEP_SECONDS, duration) for token in (part[0], part[-1])]
        pieces.append(Piece(tuple(part), max(times[0], 0.0), max(times[1], 0.0)))
    if closed:
        return tuple(pieces), num_samples
    advance = (tokens[ends[-1] - 1] - first_timestamp) * STEP
    # A time stamp of 0 s would repeat the window for ever.
    return tuple(pieces), min(advance, num_samples) or num_samples
