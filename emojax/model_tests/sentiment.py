"""Test of linguistic sentiment: the effect of positive, neutral and negative words must be the same for every voice.

The same voice speaks sentences that differ in one word. The words shift the mean prediction of a voice by some amount:
a model that uses words is expected to show a shift. The test compares this shift between voices, as arXiv 2312.06270
compares it between languages.
"""

import functools
import importlib.util
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from emojax.audio.perturbations import Waveform, resample
from emojax.model_tests.chance import random_values, simulated_bounds, threshold_note
from emojax.model_tests.measurement import CLIPS_AT_ONCE, Measurement
from emojax.model_tests.model import Clip, Outputs, joined
from emojax.model_tests.results import EMOTION, Result, at_most, skipped
from emojax.synthesis import hibari_voice
from emojax.synthesis.source_filter import SYNTHESIS_RATE, change_pitch, render, scale_tract
from emojax.types import SAMPLE_RATE

WORDS = {
    "positive": ("great", "lovely", "wonderful", "fantastic", "perfect", "amazing"),
    "neutral": ("here", "local", "regular", "expected", "central", "visible"),
    "negative": ("bad", "awful", "terrible", "disgusting", "dreadful", "appalling"),
}
"""Words by sentiment, of as many syllables in the same order."""

SUBJECTS = ("food", "room", "office", "weather", "film", "service", "music", "garden", "meeting", "answer")
"""Subjects of the sentences."""

VOICES = {"female": (1.0, 190.0), "male": (1.2, 110.0)}
"""Voices: length of the vocal tract relative to the base voice, and mean fundamental frequency (Hz)."""


def missing_voice() -> str:
    """Reason why sentences cannot be spoken; "" if they can."""
    missing = [name for name in ("hibari", "onnxruntime") if importlib.util.find_spec(name) is None]
    return "the voice that speaks the sentences is not installed (pip install hibari-tts)" if missing else ""


def sentences(number: int) -> list[tuple[str, str]]:
    """Sentiment and text of sentences; the subjects are the same for every sentiment.

    Args:
      number: sentences of each sentiment, at most the number of words times that of subjects.
    """
    return [
        (sentiment, text)
        for sentiment, words in WORDS.items()
        for text in [f"The {subject} was {word}." for subject in SUBJECTS for word in words][:number]
    ]


def speak(text: str) -> dict[str, Waveform]:
    """Speaks a sentence in every voice, 16 kHz; the same text gives the same waveforms.

    Args:
      text: English sentence.

    Returns:
      Waveform by key of `VOICES`.
    """
    (phonemes,) = hibari_voice.phonemize(text)
    frames = hibari_voice.speak(phonemes, 1.0)
    spoken = {}
    for voice, (tract, f0) in VOICES.items():
        own = change_pitch(scale_tract(frames, tract), hibari_voice.NATURAL_F0, f0, 1.0)
        waveform = render(own, seed=0)
        peak = max(float(np.abs(waveform).max()), 1e-6)
        spoken[voice] = resample(waveform * np.float32(0.5 / peak), SYNTHESIS_RATE, SAMPLE_RATE)
    return spoken


def sentiment(measurement: Measurement) -> Iterator[Result]:
    """Largest deviation of a voice's shift by words of one sentiment from that shift in all voices."""
    if missing_voice():
        yield skipped(missing_voice())
        return
    bounds, seed = measurement.config.fairness, measurement.config.seed
    spoken = sentences(bounds.sentiment_sentences)
    outputs = _predict(measurement, [text for _, text in spoken])
    columns = {name: (name, "", column, bounds.sentiment_shift) for name, column in measurement.predicted_attributes}
    for number, category in enumerate(measurement.model.categories):
        columns[f"{EMOTION} {category}"] = (EMOTION, category, number, bounds.sentiment_share)
    kinds = list(WORDS)
    order = np.array([kinds.index(kind) for kind, _ in spoken])
    for output, category, column, least in columns.values():
        values = np.stack([_values(found, category, column) for found in outputs.values()])
        share = 1 / len(measurement.model.categories) if category else None
        simulate = functools.partial(_simulate, shape=values.shape, order=order, share=share)
        chance = simulated_bounds(simulate, values.size, bounds.simulations, bounds.level, seed)["deviation"]
        by_words = sentiment_shifts(values[None], order)[0]
        deviations = np.abs(by_words - by_words.mean(axis=0))
        for number, kind in enumerate(kinds):
            by_voice = ", ".join(f"{voice} {by_words[row, number]:+.3f}" for row, voice in enumerate(VOICES))
            yield at_most(
                deviations[:, number].max(),
                max(least, float(chance[number])),
                output=output,
                metric="deviation of the shift" + (" of the share" if category else ""),
                condition=f"{category}: {kind} words" if category else f"{kind} words",
                n=len(VOICES) * int((order == number).sum()),
                note=f"{threshold_note(least, float(chance[number]), bounds.level)}; shifts by these words: {by_voice}",
            )


def sentiment_shifts(values: Float[np.ndarray, "R V N"], order: np.ndarray) -> Float[np.ndarray, "R V K"]:
    """Mean of the sentences of each sentiment, less the mean of all sentences of the voice.

    Args:
      values: values of R models for N sentences in each of V voices.
      order: number of the sentiment of each sentence.
    """
    means = [values[..., order == kind].mean(axis=-1) for kind in range(order.max() + 1)]
    return np.stack(means, axis=-1) - values.mean(axis=-1, keepdims=True)


def _simulate(
    random: np.random.Generator, models: int, shape: tuple[int, int], order: np.ndarray, share: float | None
) -> dict[str, np.ndarray]:
    by_words = sentiment_shifts(random_values(random, (models, *shape), share), order)
    return {"deviation": np.abs(by_words - by_words.mean(axis=1, keepdims=True))}


def _values(outputs: Outputs, category: str, column: int) -> Float[np.ndarray, "N"]:
    if category:
        return (outputs.probabilities.argmax(axis=1) == column).astype(np.float64)
    return outputs.attributes[:, column]


def _predict(measurement: Measurement, texts: list[str]) -> dict[str, Outputs]:
    """Outputs for the sentences in every voice."""
    parts: dict[str, list[Outputs]] = {voice: [] for voice in VOICES}
    for start in range(0, len(texts), CLIPS_AT_ONCE):
        chunk = texts[start : start + CLIPS_AT_ONCE]
        spoken = [speak(text) for text in chunk]
        for voice, found in parts.items():
            clips = [
                Clip(f"{voice}: {text}", waveforms[voice], text) for text, waveforms in zip(chunk, spoken, strict=True)
            ]
            found.append(measurement.predict(clips))
    return {voice: joined(found) for voice, found in parts.items()}
