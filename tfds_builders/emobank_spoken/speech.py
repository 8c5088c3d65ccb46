"""Synthesis of an utterance from a sentence: prosody, espeak-ng, resampling to 16 kHz, level."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from emojax.audio import to_mono_16khz
from emojax.types import SAMPLE_RATE
from tfds_builders.emobank_spoken.espeak import ESPEAK_RATE, Delivery, speak
from tfds_builders.emobank_spoken.prosody import draw_prosody, draw_speaker
from tfds_builders.emobank_spoken.sentences import Sentence
from tfds_builders.utterance import Made, to_pcm, utterance

LONG_SECONDS = 30.0
"""Longer utterances are counted (s)."""

_FRAME = SAMPLE_RATE // 50
_ACTIVE_RANGE_DB = 35.0
_HIGHEST_PEAK = 0.98


class Item(NamedTuple):
    """A sentence, the seed of its prosody, and whether its ratings are stored as labels."""

    sentence: Sentence
    seed: int
    rated: bool = True


def make_utterance(item: Item) -> Made:
    """Synthesises a sentence; sentences without words are skipped and counted."""
    sentence, seed, rated = item
    if not sentence.has_words:
        return Made(None, ("skipped_no_words",))
    speaker = draw_speaker(sentence, seed)
    prosody = draw_prosody(sentence, speaker, seed)
    delivery = Delivery(speaker.voice, prosody.rate, prosody.pitch, prosody.pitch_range)
    waveform = to_mono_16khz(speak(sentence.text, delivery), ESPEAK_RATE, sentence.id)
    if not waveform.any():
        return Made(None, ("skipped_silent",))
    gain = 10 ** ((prosody.level_db - active_level_db(waveform)) / 20)
    highest_gain = _HIGHEST_PEAK / float(np.abs(waveform).max())
    counted = []
    if gain > highest_gain:
        counted.append("level_lowered_to_avoid_clipping")
    if len(waveform) > LONG_SECONDS * SAMPLE_RATE:
        counted.append(f"longer_than_{LONG_SECONDS:.0f}_s")
    example = utterance(
        id=sentence.id,
        audio=to_pcm(np.float32(min(gain, highest_gain)) * waveform),
        num_categories=0,
        transcript=sentence.text,
        attributes=sentence.attributes if rated else None,
        attributes_std=sentence.attributes_std if rated else None,
        speaker=speaker.variant,
        gender=speaker.gender,
    )
    return Made(example, tuple(counted))


def active_level_db(waveform: Float32[np.ndarray, "S"]) -> float:
    """Computes the level of active speech in dB relative to full scale.

    It is the mean power of the frames of 20 ms at most 35 dB below the loudest one.
    """
    padded = np.pad(waveform, (0, -len(waveform) % _FRAME)).astype(np.float64)
    power = (padded.reshape(-1, _FRAME) ** 2).mean(axis=1)
    active = power[power >= power.max() * 10 ** (-_ACTIVE_RANGE_DB / 10)]
    return 10 * float(np.log10(active.mean()))
