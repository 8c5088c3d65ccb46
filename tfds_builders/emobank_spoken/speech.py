"""Synthesis of an utterance: talker, prosody, frames of a base voice, waveform at 16 kHz, level."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from emojax.audio import to_mono_16khz
from emojax.synthesis import hibari_voice
from emojax.synthesis.source_filter import (
    SYNTHESIS_RATE,
    Frames,
    add_breath,
    add_tilt,
    change_pitch,
    render,
    scale_tract,
)
from emojax.types import SAMPLE_RATE
from tfds_builders.emobank_spoken import piper_voice
from tfds_builders.emobank_spoken.prosody import Prosody, draw_prosody
from tfds_builders.emobank_spoken.sentences import Sentence, random_seed
from tfds_builders.emobank_spoken.talkers import OTHER_VOICE, TEST_OTHER, Talker, draw_talker
from tfds_builders.utterance import Made, to_pcm, utterance

LONG_SECONDS = 30.0
"""Longer utterances are counted (s)."""

_FRAME = SAMPLE_RATE // 50
_ACTIVE_RANGE_DB = 35.0
_HIGHEST_PEAK = 0.98


class Item(NamedTuple):
    """An utterance to make.

    Attributes:
      sentence: rated sentence or fragment.
      seed: seed of talkers, prosody and noise.
      split: split whose talkers speak; `TEST_OTHER` appends `_other` to the id.
      rated: whether the ratings are stored as labels.
    """

    sentence: Sentence
    seed: int
    split: str
    rated: bool = True


def make_utterance(item: Item) -> Made:
    """Synthesises a sentence; sentences without words are skipped and counted."""
    sentence, seed, split, rated = item
    if not sentence.has_words:
        return Made(None, ("skipped_no_words",))
    talker = draw_talker(sentence, split, seed)
    prosody = draw_prosody(sentence, talker, seed)
    waveform = speak(sentence.text, talker, prosody, random_seed(seed, "noise", sentence.id))
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
        id=f"{sentence.id}_other" if split == TEST_OTHER else sentence.id,
        audio=to_pcm(np.float32(min(gain, highest_gain)) * waveform),
        num_categories=0,
        transcript=sentence.text,
        attributes=sentence.attributes if rated else None,
        attributes_std=sentence.attributes_std if rated else None,
        speaker=talker.id,
        gender=talker.gender,
    )
    return Made(example, tuple(counted))


def speak(text: str, talker: Talker, prosody: Prosody, seed: int) -> Float32[np.ndarray, "S"]:
    """Synthesises a text at 16 kHz and the level of the voice; without words the result has no samples.

    Args:
      text: one or several sentences.
      talker: voice and its changes.
      prosody: rate, pitch and pitch range; the level is not used.
      seed: seed of the noise.
    """
    parts = [
        render(_frames(phonemes, talker, prosody), seed + number)
        for number, phonemes in enumerate(hibari_voice.phonemize(text))
    ]
    if not parts:
        return np.zeros(0, np.float32)
    return to_mono_16khz(np.concatenate(parts), SYNTHESIS_RATE, text)


def _frames(phonemes: str, talker: Talker, prosody: Prosody) -> Frames:
    voice = piper_voice if talker.voice == OTHER_VOICE else hibari_voice
    frames = voice.speak(phonemes, prosody.rate)
    frames = add_breath(add_tilt(scale_tract(frames, talker.tract), talker.tilt), talker.breath)
    f0 = talker.f0 * 2 ** (prosody.pitch / 12)
    return change_pitch(frames, voice.NATURAL_F0, f0, prosody.pitch_range)


def active_level_db(waveform: Float32[np.ndarray, "S"]) -> float:
    """Computes the level of active speech in dB relative to full scale.

    It is the mean power of the frames of 20 ms at most 35 dB below the loudest one.
    """
    padded = np.pad(waveform, (0, -len(waveform) % _FRAME)).astype(np.float64)
    power = (padded.reshape(-1, _FRAME) ** 2).mean(axis=1)
    active = power[power >= power.max() * 10 ** (-_ACTIVE_RANGE_DB / 10)]
    return 10 * float(np.log10(active.mean()))
