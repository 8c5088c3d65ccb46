"""Runs of words cut out of sentences: more speech of the same words, which nobody has rated."""

import dataclasses
from collections.abc import Iterable, Iterator

from tfds_builders.emobank_spoken.draws import uniform
from tfds_builders.emobank_spoken.sentences import Sentence

WORDS = (3, 12)
"""Fewest and most words of a fragment; a shorter sentence is its only fragment."""


def fragments(sentences: Iterable[Sentence], per_sentence: int, seed: int) -> Iterator[Sentence]:
    """Cuts every sentence so many times, length and place drawn evenly.

    A fragment keeps its sentence's split and ratings. The ratings are not its own: they shape how it is spoken, as if
    it were cut out of the spoken sentence.

    Args:
      sentences: to cut.
      per_sentence: fragments of each; they may overlap, and be equal.
      seed: of the draws, which depend on nothing but it and the sentence's id.
    """
    low, high = WORDS
    for sentence in sentences:
        words = sentence.text.split()
        for number in range(per_sentence):
            id = f"{sentence.id}_fragment{number}"
            length = min(low + int(uniform(seed, "length", id) * (high - low + 1)), len(words))
            first = int(uniform(seed, "first", id) * (len(words) - length + 1))
            yield dataclasses.replace(sentence, id=id, text=" ".join(words[first : first + length]))
