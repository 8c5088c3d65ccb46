"""Unrated fragments of sentences, as unlabelled speech."""

import dataclasses
from collections.abc import Iterable, Iterator

from tfds_builders.emobank_spoken.draws import uniform
from tfds_builders.emobank_spoken.sentences import Sentence

WORDS = (3, 12)
"""Minimal and maximal number of words of a fragment; shorter sentences are used whole."""


def fragments(sentences: Iterable[Sentence], per_sentence: int, seed: int) -> Iterator[Sentence]:
    """Draws fragments of sentences with uniform length and position.

    A fragment keeps split and ratings of its sentence; the ratings determine its prosody only.

    Args:
      sentences: sentences to draw from.
      per_sentence: number of fragments per sentence; they may overlap or be equal.
      seed: random seed; fragments depend on it and the sentence's id only.
    """
    low, high = WORDS
    for sentence in sentences:
        words = sentence.text.split()
        for number in range(per_sentence):
            id = f"{sentence.id}_fragment{number}"
            length = min(low + int(uniform(seed, "length", id) * (high - low + 1)), len(words))
            first = int(uniform(seed, "first", id) * (len(words) - length + 1))
            yield dataclasses.replace(sentence, id=id, text=" ".join(words[first : first + length]))
