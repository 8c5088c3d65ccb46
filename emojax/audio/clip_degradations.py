"""Degradations of whole clips for tests of trained models: the same seed degrades a clip equally for every model.

A degradation is a function of waveforms, ids and a seed. What is drawn for a clip depends on the seed, the id and the
name of the draw only, so that neither the order of the clips nor their division into batches changes it, and several
levels of one noise use the same noise.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from emojax.audio.degradations import add_noise, reverberate
from emojax.audio.waveform_augment import SoundBank
from emojax.bucketing import padded_batches
from emojax.types import SAMPLE_RATE

Waveform = Float32[np.ndarray, "_"]
"""A waveform at 16 kHz, full scale 1.0; those of a sequence differ in length."""

Degradation = Callable[[Sequence[Waveform], Sequence[str], int], list[Waveform]]
"""Degraded waveforms from waveforms (16 kHz), their ids, and a seed."""

Noise = Callable[[int, np.random.Generator], Waveform]
"""Noise of a number of samples, at any level."""

_SECONDS_AT_ONCE = 320
"""Audio per compiled call, padding included."""


def clip_generator(seed: int, id: str, draw: str) -> np.random.Generator:
    """Random generator of a clip.

    Args:
      seed: seed of the degradation.
      id: id of the clip.
      draw: name of what is drawn, e.g. of the kind of noise.
    """
    digest = hashlib.sha256(f"{draw}\0{id}".encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


def unchanged(waveforms: Sequence[Waveform], ids: Sequence[str], seed: int) -> list[Waveform]:
    """Returns the waveforms as they are."""
    return list(waveforms)


def each(change: Callable[..., Waveform], *arguments: Any) -> Degradation:
    """A degradation that changes each waveform by a function without random choices.

    Args:
      change: function of a waveform and of `arguments`.
      *arguments: further arguments.
    """

    def degrade(waveforms: Sequence[Waveform], ids: Sequence[str], seed: int) -> list[Waveform]:
        return [change(waveform, *arguments) for waveform in waveforms]

    return degrade


def in_sequence(*parts: Degradation) -> Degradation:
    """A degradation that applies several, one after the other."""

    def degrade(waveforms: Sequence[Waveform], ids: Sequence[str], seed: int) -> list[Waveform]:
        return functools.reduce(lambda changed, part: part(changed, ids, seed), parts, list(waveforms))

    return degrade


def with_noise(noise: Noise, snr_db: int | float, draw: str) -> Degradation:
    """A degradation by additive noise at a signal-to-noise ratio over active speech (`add_noise`).

    Args:
      noise: generator of noise.
      snr_db: signal-to-noise ratio (dB).
      draw: name of the noise: equal names draw equal noise, at any ratio.
    """

    def degrade(waveforms: Sequence[Waveform], ids: Sequence[str], seed: int) -> list[Waveform]:
        noises = [
            noise(len(waveform), clip_generator(seed, id, draw)) for waveform, id in zip(waveforms, ids, strict=True)
        ]
        degraded = [waveform.copy() for waveform in waveforms]
        for members, padded, lengths in _batches(waveforms):
            excerpts = np.zeros_like(padded)
            for row, index in enumerate(members):
                excerpts[row, : lengths[row]] = noises[index]
            levels = np.full(len(padded), snr_db, np.float32)
            noisy = np.asarray(_add_noise(padded, lengths, excerpts, levels))
            for row, index in enumerate(members):
                degraded[index] = noisy[row, : lengths[row]]
        return degraded

    return degrade


def in_room(response: Float32[np.ndarray, "R"]) -> Degradation:
    """A degradation by the impulse response of a room (`reverberate`): energy, length and timing are preserved."""

    def degrade(waveforms: Sequence[Waveform], ids: Sequence[str], seed: int) -> list[Waveform]:
        degraded = [waveform.copy() for waveform in waveforms]
        for members, padded, lengths in _batches(waveforms):
            responses = np.broadcast_to(response, (len(padded), len(response)))
            wet = np.asarray(_reverberate(padded, lengths, responses))
            for row, index in enumerate(members):
                degraded[index] = wet[row, : lengths[row]]
        return degraded

    return degrade


def excerpts_of(sounds: SoundBank) -> Noise:
    """Noise from recordings: one is drawn per clip, with its start; short ones are repeated."""

    def excerpt(samples: int, random: np.random.Generator) -> Waveform:
        row = int(random.integers(len(sounds.sounds)))
        length = int(sounds.lengths[row])
        return sounds.sounds[row, (int(random.integers(length)) + np.arange(samples)) % length]

    return excerpt


def babble_of(speech: Sequence[Waveform], voices: int = 7) -> Noise:
    """Babble: the sum of several excerpts of speech at equal power, drawn per clip.

    Args:
      speech: clips of speech.
      voices: number of excerpts that are added, from different clips if there are as many.
    """
    loud = [waveform / np.float32(power**0.5) for waveform in speech if (power := np.square(waveform).mean()) > 0]

    def babble(samples: int, random: np.random.Generator) -> Waveform:
        total = np.zeros(samples, np.float32)
        for index in random.permutation(len(loud))[:voices]:
            talker = loud[index]
            total += talker[(int(random.integers(len(talker))) + np.arange(samples)) % len(talker)]
        return total

    return babble


_add_noise = jax.jit(add_noise)
_reverberate = jax.jit(reverberate)


def _batches(waveforms: Sequence[Waveform]) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    return padded_batches(waveforms, SAMPLE_RATE, _SECONDS_AT_ONCE * SAMPLE_RATE, None)
