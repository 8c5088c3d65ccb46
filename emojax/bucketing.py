"""Bucketing: sequences of any length as batches of few static shapes, for encoders, extraction and prediction.

Training batches have their own plan (`emojax.data.plan`), because there all lengths of a corpus are given beforehand.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

_MAX_ROWS = 64

_LEAST_FILLED = 0.75
"""Least share of the rows of a batch that hold sequences."""


def padded_batches(
    sequences: Sequence[np.ndarray],
    shortest: int,
    batch_size: int,
    longest: int | None,
    devices: int = 1,
    fill: bool = False,
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Groups sequences of similar length and pads each group to one of few shapes.

    Args:
      sequences: (S_i,) each, of one dtype.
      shortest: length of the shortest bucket; the next are 1.5, 2, 3, 4, 6, 8, ... times as long.
      batch_size: values a batch holds on one device, padding included, unless a single sequence is longer.
      longest: no bucket is longer; None: no limit.
      devices: a power of two that divides the number of rows; each device gets as many.
      fill: whether all batches of a bucket have the same number of rows, which suits many sequences: compiling another
        shape takes longer than computing empty rows. Otherwise row counts come from `row_counts`, so that few sequences
        cost little.

    Yields:
      Indices of the sequences, zero-padded inputs (rows, S), lengths (rows,) int32. Remaining rows have length 0.
    """
    buckets: dict[int, list[int]] = {}
    for index, sequence in enumerate(sequences):
        buckets.setdefault(bucket_length(len(sequence), shortest, longest), []).append(index)
    for length, indices in sorted(buckets.items()):
        max_rows = devices * most_rows(length, batch_size)
        counts = [max_rows] * -(-len(indices) // max_rows)
        if not fill:
            counts = [devices * rows for rows in row_counts(-(-len(indices) // devices), max_rows // devices)]
        start = 0
        for num_rows in counts:
            rows = indices[start : start + num_rows]
            start += num_rows
            inputs = np.zeros((num_rows, length), sequences[rows[0]].dtype)
            lengths = np.zeros(num_rows, np.int32)
            for row, index in enumerate(rows):
                lengths[row] = len(sequences[index])
                inputs[row, : lengths[row]] = sequences[index]
            yield rows, inputs, lengths


def most_rows(length: int, batch_size: int) -> int:
    """Largest number of rows on one device of a bucket: a power of two.

    Args:
      length: length of the bucket.
      batch_size: values a batch holds on one device, unless a single sequence is longer.
    """
    return 1 << (min(max(batch_size // length, 1), _MAX_ROWS).bit_length() - 1)


def row_counts(count: int, most: int) -> list[int]:
    """Computes the row counts of the batches of one bucket: `most`, or 1, 4, 16, ... for the remainder.

    Fewer different counts would mean more empty rows, more of them more compiled programs. Here at most a quarter of a
    batch is empty, and a bucket has at most four programs.

    Args:
      count: sequences of the bucket.
      most: largest row count.
    """
    sizes = sorted({most, *itertools.takewhile(lambda size: size < most, (4**power for power in itertools.count()))})
    counts = []
    while count > 0:
        enough = next((size for size in sizes if size >= count), most)
        if count < _LEAST_FILLED * enough:
            enough = max(size for size in sizes if size <= count)
        counts.append(enough)
        count -= enough
    return counts


def bucket_length(length: int, shortest: int, longest: int | None) -> int:
    """Rounds up to the next of `shortest` x 1, 1.5, 2, 3, 4, 6, 8, ...: at most a third of a long bucket is padding."""
    bucket = shortest
    for numerator, denominator in itertools.cycle(((3, 2), (4, 3))):
        if bucket >= length:
            break
        bucket = bucket * numerator // denominator
    return bucket if longest is None else min(bucket, longest)


def doubled_length(length: int, shortest: int, longest: int | None) -> int:
    """Rounds up to the next of `shortest` x 1, 2, 4, 8, ...: half as many programs, more padding."""
    bucket = shortest << max((-(-length // shortest) - 1).bit_length(), 0)
    return bucket if longest is None else min(bucket, longest)
