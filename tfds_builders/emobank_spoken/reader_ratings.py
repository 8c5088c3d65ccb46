"""Histograms of EmoBank's readers, where they follow from mean, standard deviation and number of readers.

`reader.csv` has no single ratings, but of every sentence and attribute the mean m and the population standard deviation
s of n ratings, both rounded to 0.01, and n (2 to 7). Ratings are whole numbers from 1 to 5, so that only finitely many
histograms c fit: Σ c_k = n, with mean and standard deviation that round to m and s. Where exactly one fits, it is the
histogram; where several do, none is written. Nothing is assumed about the form of the distribution.

python -m tfds_builders.emobank_spoken.reader_ratings FILE.csv

writes a table for `config.corpus.ratings`, with the ids of all splits of `emobank_spoken`.
"""

import collections
import csv
import functools
import itertools
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from emojax.errors import CorpusError, EmojaxError
from emojax.files import atomic_write
from tfds_builders.emobank_spoken.sentences import read_reader_ratings

VALUES = (1, 2, 3, 4, 5)
"""Ratings that readers chose from."""

_MAX_READERS = 20
"""Largest number of readers, for which 10,626 histograms are possible."""

_COLUMNS = ("activation", "valence", "dominance")


def fitting_histograms(mean: float, std: float, readers: int) -> list[tuple[int, ...]]:
    """Histograms of whole ratings whose mean and population standard deviation round to the given ones.

    Args:
      mean: mean of the ratings, rounded to 0.01.
      std: population standard deviation, rounded to 0.01.
      readers: number of readers.

    Returns:
      Number of readers per value of `VALUES`; in the order of the first, second, ... count.

    Raises:
      CorpusError: there are no readers, or too many.
    """
    if not 1 <= readers <= _MAX_READERS:
        raise CorpusError(f"EmoBank: number of readers must be 1 to {_MAX_READERS}, got {readers}")
    return _by_moments(readers).get((round(100 * mean), round(100 * std)), [])


@functools.cache
def _by_moments(readers: int) -> Mapping[tuple[int, int], list[tuple[int, ...]]]:
    """All histograms of so many readers, by mean and standard deviation in hundredths."""
    found: dict[tuple[int, int], list[tuple[int, ...]]] = collections.defaultdict(list)
    for first in itertools.product(range(readers + 1), repeat=len(VALUES) - 1):
        if sum(first) <= readers:
            counts = (*first, readers - sum(first))
            for moments in _rounded_moments(counts):
                found[moments].append(counts)
    return found


def _rounded_moments(counts: Sequence[int]) -> set[tuple[int, int]]:
    """Mean and standard deviation in hundredths; both neighbours where the exact value lies in the middle of them."""
    readers = sum(counts)
    total = sum(count * value for count, value in zip(counts, VALUES, strict=True))
    squares = sum(count * value * value for count, value in zip(counts, VALUES, strict=True))
    variance = (readers * squares - total * total) / readers**2
    means, stds = (_hundredths(number) for number in (total / readers, math.sqrt(variance)))
    return set(itertools.product(means, stds))


def _hundredths(number: float) -> set[int]:
    return {math.floor(100 * number + 0.5 + tolerance) for tolerance in (-1e-9, 1e-9)}


def histograms() -> Iterator[tuple[str, list[tuple[int, ...]]]]:
    """Yields id and histograms of activation, valence, dominance; () for one that does not follow from the moments.

    Raises:
      CorpusError: `reader.csv` is missing or damaged, or moments fit no histogram.
    """
    for id, readers, means, stds in read_reader_ratings():
        found = []
        for mean, std in zip(means, stds, strict=True):
            fitting = fitting_histograms(mean, std, readers)
            if not fitting:
                raise CorpusError(
                    f"EmoBank, sentence {id!r}: no ratings have mean {mean}, deviation {std}, n {readers}"
                )
            found.append(fitting[0] if len(fitting) == 1 else ())
        yield id, found


def write_table(path: Path) -> tuple[int, int]:
    """Writes the table, and returns the numbers of histograms that are known and of all.

    Raises:
      CorpusError: `reader.csv` is missing or damaged.
      EmojaxError: the file cannot be written.
    """
    known = total = 0
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", *(f"{attribute}_{value}" for attribute in _COLUMNS for value in VALUES)])
        for id, found in histograms():
            counts = [count for histogram in found for count in histogram or (0,) * len(VALUES)]
            writer.writerow([id, *counts])
            writer.writerow([f"{id}_other", *counts])  # the same sentence in test_other
            known += sum(map(bool, found))
            total += len(found)
    return known, total


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m tfds_builders.emobank_spoken.reader_ratings FILE.csv")
    try:
        known, total = write_table(Path(sys.argv[1]))
    except EmojaxError as error:
        sys.exit(f"error: {error}")
    print(f"{sys.argv[1]}: {known} of {total} histograms ({100 * known / total:.1f} %)")
