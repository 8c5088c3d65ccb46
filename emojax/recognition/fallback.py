"""Acceptance of a decoded text: thresholds that call for another temperature, silence, and loops that remain."""

import dataclasses
from collections.abc import Sequence

from emojax.recognition.options import DecodingOptions
from emojax.recognition.transcript import compression_ratio
from emojax.recognition.whisper_tokens import WhisperTokens

_MOST_REPETITIONS = 3
"""Repetitions of a phrase that may be meant; more of them in a text above the compression threshold are a loop."""

_LONGEST_PHRASE = 32
"""Tokens of the longest phrase that is looked for."""


@dataclasses.dataclass(frozen=True)
class WindowText:
    """A decoded text of one window and its figures.

    Attributes:
      tokens: ids without prompt and end.
      log_probability: mean log-probability of a token.
      compression_ratio: of the text, 0 for none.
      no_speech: probability of no speech, None where the vocabulary has no token for it.
      temperature: temperature of sampling.
      loops: loops that were cut.
    """

    tokens: tuple[int, ...]
    log_probability: float
    compression_ratio: float
    no_speech: float | None
    temperature: float
    loops: int = 0


def make_text(
    tokens: Sequence[int], vocabulary: WhisperTokens, log_probability: float, no_speech: float, temperature: float
) -> WindowText:
    """Computes the figures of decoded tokens."""
    ratio = compression_ratio(vocabulary.decode(tokens).strip())
    absent = None if vocabulary.no_speech is None else no_speech
    return WindowText(tuple(tokens), log_probability, ratio, absent, temperature)


def repeats_itself(text: WindowText, options: DecodingOptions) -> bool:
    """Whether a text compresses too well."""
    return options.compression_ratio_threshold is not None and (
        text.compression_ratio > options.compression_ratio_threshold
    )


def _is_improbable(text: WindowText, options: DecodingOptions) -> bool:
    return options.log_probability_threshold is not None and text.log_probability < options.log_probability_threshold


def is_silent(text: WindowText, options: DecodingOptions) -> bool:
    """Whether a window has no speech: that is probable, and the text is not (Radford et al. 2023, section 4.5)."""
    if options.no_speech_threshold is None or text.no_speech is None:
        return False
    return text.no_speech > options.no_speech_threshold and _is_improbable(text, options)


def is_accepted(text: WindowText, options: DecodingOptions) -> bool:
    """Whether a text needs no other temperature."""
    if is_silent(text, options):
        return True
    return not repeats_itself(text, options) and not _is_improbable(text, options)


def best_text(attempts: Sequence[WindowText], options: DecodingOptions) -> WindowText:
    """Picks the text of a window: the accepted one, otherwise the most probable, if possible one without repetitions.

    Args:
      attempts: texts in the order of temperatures; only the last one can be accepted.
      options: thresholds.
    """
    if is_accepted(attempts[-1], options):
        return attempts[-1]
    return max(attempts, key=lambda text: (not repeats_itself(text, options), text.log_probability))


def cut_loops(text: WindowText, vocabulary: WhisperTokens, options: DecodingOptions) -> WindowText:
    """Reduces each phrase that a text repeats again and again to one, in texts above the compression threshold."""
    if not repeats_itself(text, options):
        return text
    tokens, loops = _without_loops(list(text.tokens), vocabulary.first_timestamp)
    ratio = compression_ratio(vocabulary.decode(tokens).strip())
    return dataclasses.replace(text, tokens=tuple(tokens), compression_ratio=ratio, loops=loops)


def _without_loops(tokens: list[int], first_timestamp: int) -> tuple[list[int], int]:
    """Removes all but the first of more than `_MOST_REPETITIONS` equal phrases in a row, and counts the loops."""
    # Time stamps differ from one repetition to the next.
    words = [min(token, first_timestamp) for token in tokens]
    kept: list[int] = []
    loops = position = 0
    while position < len(words):
        length, count = _repetition(words, position)
        kept += tokens[position : position + length]
        if count > _MOST_REPETITIONS:
            loops += 1
            position += length * count
        else:
            position += length
    return kept, loops


def _repetition(words: Sequence[int], start: int) -> tuple[int, int]:
    """Finds the shortest phrase at `start` that is a loop: its length and count; (1, 1) where there is none."""
    for length in range(1, min(_LONGEST_PHRASE, (len(words) - start) // (_MOST_REPETITIONS + 1)) + 1):
        phrase = words[start : start + length]
        count = 1
        while words[start + count * length : start + (count + 1) * length] == phrase:
            count += 1
        if count > _MOST_REPETITIONS:
            return length, count
    return 1, 1
