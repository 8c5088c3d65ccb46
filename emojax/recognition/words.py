"""Words from tokens and their times."""

import string
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from emojax.recognition.transcript import Word
from emojax.recognition.whisper_tokens import WhisperTokens

WITHOUT_SPACES = ("zh", "ja", "th", "lo", "my", "yue")
"""Languages whose words are not separated by spaces: each character is a word there."""

_OPENING = "\"'“¿([{-"
"""Punctuation that belongs to the word after it."""

_CLOSING = "\"'.。,，!！?？:：”)]}、"
"""Punctuation that belongs to the word before it."""


def make_words(
    tokens: Sequence[int],
    times: Float[np.ndarray, "N"],
    probabilities: Float[np.ndarray, "M"],
    vocabulary: WhisperTokens,
    language: str,
) -> tuple[Word, ...]:
    """Makes words with times and probabilities, punctuation without its tokens.

    Args:
      tokens: M ids of text.
      times: starts of the tokens in seconds, and the end of the last one, so N = M + 1.
      probabilities: of the tokens.
      vocabulary: decodes them.
      language: determines whether words are separated by spaces.
    """
    spans = _attach_punctuation(_split(tokens, vocabulary, language not in WITHOUT_SPACES))
    return tuple(
        Word(text.strip(), float(times[start]), float(times[end]), float(np.mean(probabilities[start:end])))
        for text, start, end in spans
        if text.strip()
    )


_Span = tuple[str, int, int]
"""A text, its first token and the one after its last."""


def _split(tokens: Sequence[int], vocabulary: WhisperTokens, spaces: bool) -> list[_Span]:
    """Divides tokens into words, or into characters where words are not separated by spaces."""
    spans: list[_Span] = []
    start = 0
    for end in range(1, len(tokens) + 1):
        text = vocabulary.decode(tokens[start:end])
        if "\ufffd" in text and end < len(tokens):  # a character of several tokens
            continue
        starts_word = not spans or text.startswith(" ") or text.strip() in string.punctuation
        if starts_word or not spaces:
            spans.append((text, start, end))
        else:
            before, first, _ = spans[-1]
            spans[-1] = (before + text, first, end)
        start = end
    return spans


def _attach_punctuation(spans: Sequence[_Span]) -> list[_Span]:
    """Adds punctuation to the word it belongs to, which keeps its own tokens: a pause belongs to the punctuation."""
    joined: list[_Span] = []
    opening = ""
    for text, start, end in spans:
        if text.startswith(" ") and text.strip() and text.strip() in _OPENING:
            opening += text
        elif joined and not opening and text and text in _CLOSING:
            before, first, last = joined[-1]
            joined[-1] = (before + text, first, last)
        else:
            joined.append((opening + text, start, end))
            opening = ""
    return joined
