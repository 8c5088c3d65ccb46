"""EmoBank's sentences with their ratings, and the deterministic subsample of the quick config."""

import csv
import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path

from emojax.errors import CorpusError

SPLITS = ("train", "dev", "test")
"""EmoBank's own splits."""

_FOLDER = Path(__file__).parent
_ATTRIBUTE_COLUMNS = ("A", "V", "D")  # The files have V, A, D.


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
        """False for the few that are punctuation only."""
        return any(character.isalnum() for character in self.text)


def read_sentences(folder: Path = _FOLDER) -> list[Sentence]:
    """Reads `emobank.csv` (sentences and ratings) and `reader.csv` (spread over readers).

    Raises:
      CorpusError: a file is missing or damaged.
    """
    spread = {row["id"]: _floats(row, "std") for row in _rows(folder / "reader.csv")}
    missing = (float("nan"),) * 3
    return [
        Sentence(row["id"], row["split"], row["text"].strip(), _floats(row, ""), spread.get(row["id"], missing))
        for row in _rows(folder / "emobank.csv")
    ]


def subsample(sentences: list[Sentence], size: int | None) -> list[Sentence]:
    """The `size` sentences whose ids hash lowest, in their old order; all where `size` is None.

    A larger subsample holds every smaller one, and nothing depends on the order of the sentences.
    """
    if size is None or size >= len(sentences):
        return sentences
    chosen = sorted(sentences, key=lambda sentence: hashlib.sha256(sentence.id.encode()).digest())[:size]
    kept = {sentence.id for sentence in chosen}
    return [sentence for sentence in sentences if sentence.id in kept]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path}: cannot be read ({error})") from error


def _floats(row: dict[str, str], prefix: str) -> tuple[float, float, float]:
    try:
        activation, valence, dominance = (float(row[prefix + column]) for column in _ATTRIBUTE_COLUMNS)
    except (KeyError, TypeError, ValueError) as error:
        raise CorpusError(
            f"EmoBank, sentence {row.get('id')!r}: no number in {prefix}A, {prefix}V, {prefix}D"
        ) from error
    return activation, valence, dominance
