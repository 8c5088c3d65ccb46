"""EmoBank sentences with ratings, their subsample and fragments, and random numbers that depend on names only."""

import dataclasses
import hashlib
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path

from emojax.errors import CorpusError
from emojax.tables import parse_number, read_table

SPLITS = ("train", "dev", "test")
"""EmoBank's own splits."""

FRAGMENT_WORDS = (3, 12)
"""Minimal and maximal number of words of a fragment; shorter sentences are used whole."""

_FOLDER = Path(__file__).parent
_RATINGS = ("A", "V", "D")  # The files have V, A, D.
_SPREADS = ("stdA", "stdV", "stdD")


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A rated sentence.

    Attributes:
      id: EmoBank's id.
      split: EmoBank's split.
      text: as rated, without surrounding blanks.
      attributes: activation, valence, dominance from 1 to 5; mean of the reader and the writer perspective.
      attributes_std: their spread over the readers (population standard deviation).
    """

    id: str
    split: str
    text: str
    attributes: tuple[float, float, float]
    attributes_std: tuple[float, float, float]

    @property
    def has_words(self) -> bool:
        """Whether the sentence is more than punctuation."""
        return any(character.isalnum() for character in self.text)


def read_sentences(folder: Path = _FOLDER) -> list[Sentence]:
    """Reads `emobank.csv` (sentences and ratings) and `reader.csv` (standard deviation over readers).

    Raises:
      CorpusError: a file is missing or damaged.
    """
    # These tables have no missing values; "None" may be a sentence.
    spread_rows = read_table(folder / "reader.csv", ("id", *_SPREADS), missing=())
    spread = {row["id"]: _floats(row, _SPREADS) for _, row in spread_rows}
    missing = (float("nan"),) * 3
    return [
        Sentence(row["id"], row["split"], row["text"], _floats(row, _RATINGS), spread.get(row["id"], missing))
        for _, row in read_table(folder / "emobank.csv", ("id", "split", "text", *_RATINGS), missing=())
    ]


def read_reader_ratings(
    folder: Path = _FOLDER,
) -> Iterator[tuple[str, int, tuple[float, float, float], tuple[float, float, float]]]:
    """Reads `reader.csv`: id, number of readers, means and standard deviations of activation, valence, dominance.

    Raises:
      CorpusError: the file is missing or damaged.
    """
    columns = ("id", *_RATINGS, *_SPREADS, "N")
    for _, row in read_table(folder / "reader.csv", columns, missing=()):
        if not row["N"].isdecimal():
            raise CorpusError(f"EmoBank, sentence {row['id']!r}: N must be a whole number, got {row['N']!r}")
        yield row["id"], int(row["N"]), _floats(row, _RATINGS), _floats(row, _SPREADS)


def subsample(sentences: list[Sentence], size: int | None) -> list[Sentence]:
    """Selects the `size` sentences with the lowest hashes of ids, in the original order; all if `size` is None.

    Larger subsamples contain smaller ones, and the selection does not depend on the order of the sentences.
    """
    if size is None or size >= len(sentences):
        return sentences
    chosen = sorted(sentences, key=lambda sentence: hashlib.sha256(sentence.id.encode()).digest())[:size]
    kept = {sentence.id for sentence in chosen}
    return [sentence for sentence in sentences if sentence.id in kept]


def fragments(sentences: Iterable[Sentence], per_sentence: int, seed: int) -> Iterator[Sentence]:
    """Draws fragments of sentences with uniform length and position.

    A fragment keeps split and ratings of its sentence; the ratings determine its prosody only.

    Args:
      sentences: sentences to draw from.
      per_sentence: number of fragments per sentence; they may overlap or be equal.
      seed: random seed; fragments depend on it and the sentence's id only.
    """
    low, high = FRAGMENT_WORDS
    for sentence in sentences:
        words = sentence.text.split()
        for number in range(per_sentence):
            id = f"{sentence.id}_fragment{number}"
            length = min(low + int(uniform(seed, "length", id) * (high - low + 1)), len(words))
            first = int(uniform(seed, "first", id) * (len(words) - length + 1))
            yield dataclasses.replace(sentence, id=id, text=" ".join(words[first : first + length]))


def uniform(seed: int, *names: str) -> float:
    """Returns a uniform random number in (0, 1), derived by hashing from seed and names."""
    digest = hashlib.sha256("/".join((str(seed), *names)).encode()).digest()
    return (int.from_bytes(digest[:6], "big") + 0.5) / 2**48


def normal(seed: int, *names: str) -> float:
    """Returns a standard normal random number, derived from seed and names."""
    return statistics.NormalDist().inv_cdf(uniform(seed, *names))


def random_seed(seed: int, *names: str) -> int:
    """Returns a seed for NumPy's generators, derived from seed and names."""
    return int(uniform(seed, *names) * 2**48)


def _floats(row: dict[str, str], columns: tuple[str, str, str]) -> tuple[float, float, float]:
    try:
        activation, valence, dominance = (parse_number(row[column]) for column in columns)
    except ValueError as error:
        raise CorpusError(f"EmoBank, sentence {row['id']!r}: {', '.join(columns)} must be numbers") from error
    return activation, valence, dominance
