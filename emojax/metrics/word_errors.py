"""Word errors of recognised text against a reference transcript."""

import re
from collections.abc import Sequence

_WORD = re.compile(r"\w+(?:'\w+)*")


def words_of(text: str) -> list[str]:
    """Splits a text into words: letters and digits, with apostrophes inside, in lower case; punctuation is ignored."""
    return _WORD.findall(text.casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))


def word_errors(text: str, reference: str) -> tuple[int, int]:
    """Counts word errors; their sum over utterances divided by that of the words is the word error rate.

    Args:
      text: recognised text.
      reference: transcript.

    Returns:
      Substitutions, deletions and insertions of the shortest edit (Levenshtein), and the words of the reference.
    """
    expected = words_of(reference)
    return _edit_distance(words_of(text), expected), len(expected)


def _edit_distance(first: Sequence[str], second: Sequence[str]) -> int:
    distances = list(range(len(second) + 1))
    for row, word in enumerate(first, 1):
        before, distances[0] = distances[0], row
        for column, other in enumerate(second, 1):
            substituted = before + (word != other)
            before = distances[column]
            distances[column] = min(substituted, before + 1, distances[column - 1] + 1)
    return distances[-1]
