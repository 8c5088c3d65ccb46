"""Words from tokens and their times."""

import string
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from emojax.recognition.transcript import Word
from emojax.recognition.whisper_tokens import WhisperTokens

_WITHOUT_SPACES = ("zh", "ja", "th", "lo", "my", "yue")
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
    """Makes words with times.

    Args:
      tokens: M ids of text.
      times: starts of the tokens in seconds, and the end of the last one, so N = M + 1.
      probabilities: of the tokens.
      vocabulary: decodes them.
      language: determines whether words are separated by spaces.
    """
    words = []
    start = 0
    for text, count in _attach_punctuation(_split(tokens, vocabulary, language not in _WITHOUT_SPACES)):
        end = start + count
        if text.strip():
            probability = float(np.mean(probabilities[start:end]))
            words.append(Word(text.strip(), float(times[start]), float(times[end]), probability))
        start = end
    return tuple(words)


def _split(tokens: Sequence[int], vocabulary: WhisperTokens, spaces: bool) -> list[tuple[str, int]]:
    """Divides tokens into words, or characters: the text of each and its number of tokens."""
    parts: list[tuple[str, int]] = []
    pending: list[int] = []
    for token in tokens:
        pending.append(token)
        text = vocabulary.decode(pending)
        if "\ufffd" in text:  # a character of several tokens
            continue
        starts_word = not parts or text.startswith(" ") or text.strip() in string.punctuation
        if starts_word or not spaces:
            parts.append((text, len(pending)))
        else:
            parts[-1] = (parts[-1][0] + text, parts[-1][1] + len(pending))
        pending = []
    if pending:
        parts.append((vocabulary.decode(pending), len(pending)))
    return parts


def _attach_punctuation(parts: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Joins punctuation with the word it belongs to."""
    joined: list[tuple[str, int]] = []
    before = ("", 0)
    for text, count in parts:
        text, count = before[0] + text, before[1] + count
        before = ("", 0)
        if text.startswith(" ") and text.strip() and text.strip() in _OPENING:
            before = (text, count)
        elif joined and text and text in _CLOSING and not joined[-1][0].endswith(" "):
            joined[-1] = (joined[-1][0] + text, joined[-1][1] + count)
        else:
            joined.append((text, count))
    return [*joined, before] if before[1] else joined
