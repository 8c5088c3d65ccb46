"""Sequences of many lengths into few padded shapes."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

_MAX_ROWS = 64


def padded_batches(
    sequences: Sequence[np.ndarray],
    shortest: int,
    batch_size: int,
    longest: int | None,
    devices: int = 1,
    fill: bool = False,
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Groups sequences of similar length and pads them to one of few shapes.

    Args:
      sequences: (S_i,) each, of one dtype.
      shortest: length of the shortest bucket; the next are 1.5, 2, 3, 4, 6, 8, ... times as long.
      batch_size: values a batch holds on one device, padding included, unless a single sequence is longer.
      longest: no bucket is longer; None: no limit.
      devices: a power of two that divides the number of rows; each device gets as many.
      fill: whether all batches of a bucket have the same rows, for who goes through many sequences: a shape takes
        longer to compile than a part of one batch to compute.

    Yields:
      Indices of the sequences, zero-padded inputs (rows, S), lengths (rows,) int32. Rows are filled up to a power of
      two, or to those of the bucket's other batches, with sequences of length 0.
    """
    buckets: dict[int, list[int]] = {}
    for index, sequence in enumerate(sequences):
        buckets.setdefault(_bucket_length(len(sequence), shortest, longest), []).append(index)
    for length, indices in sorted(buckets.items()):
        max_rows = devices * _power_of_two_below(min(max(batch_size // length, 1), _MAX_ROWS))
        for start in range(0, len(indices), max_rows):
            rows = indices[start : start + max_rows]
            num_rows = max_rows if fill else max(1 << (len(rows) - 1).bit_length(), devices)
            inputs = np.zeros((num_rows, length), sequences[rows[0]].dtype)
            lengths = np.zeros(num_rows, np.int32)
            for row, index in enumerate(rows):
                lengths[row] = len(sequences[index])
                inputs[row, : lengths[row]] = sequences[index]
            yield rows, inputs, lengths


def _bucket_length(length: int, shortest: int, longest: int | None) -> int:
    """The next of `shortest` x 1, 1.5, 2, 3, 4, 6, 8, ...: at most a third of a long bucket is padding."""
    bucket = shortest
    for numerator, denominator in itertools.cycle(((3, 2), (4, 3))):
        if bucket >= length:
            break
        bucket = bucket * numerator // denominator
    return bucket if longest is None else min(bucket, longest)


def _power_of_two_below(number: int) -> int:
    return 1 << (number.bit_length() - 1)
