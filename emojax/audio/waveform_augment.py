"""Augmentation of waveforms in training: other speed, a room, noise, another level."""

import dataclasses
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from emojax.audio.noise import add_noise
from emojax.audio.reverberation import reverberate
from emojax.audio.sound_bank import noise_bank, room_bank
from emojax.audio.speed import change_speed
from emojax.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class NoiseConfig:
    """Every field is documented in configs/default.py."""

    probability: float
    low_snr_db: float
    high_snr_db: float
    folder: str

    def __post_init__(self):
        _check_probability("noise", self.probability)
        if self.low_snr_db > self.high_snr_db:
            raise ConfigError(f"noise.low_snr_db: {self.low_snr_db} is above high_snr_db {self.high_snr_db}")


@dataclasses.dataclass(frozen=True)
class ReverberationConfig:
    """Every field is documented in configs/default.py."""

    probability: float
    max_seconds: float
    folder: str

    def __post_init__(self):
        _check_probability("reverberation", self.probability)
        if self.max_seconds <= 0:
            raise ConfigError(f"reverberation.max_seconds: {self.max_seconds} is not allowed; allowed: a number > 0")


@dataclasses.dataclass(frozen=True)
class GainConfig:
    """Every field is documented in configs/default.py."""

    probability: float
    max_db: float

    def __post_init__(self):
        _check_probability("gain", self.probability)
        if self.max_db < 0:
            raise ConfigError(f"gain.max_db: {self.max_db} is not allowed; allowed: a number >= 0")


@dataclasses.dataclass(frozen=True)
class SpeedConfig:
    """Every field is documented in configs/default.py."""

    probability: float
    max_change: float

    def __post_init__(self):
        _check_probability("speed", self.probability)
        if not 0 <= self.max_change < 0.5:
            raise ConfigError(f"speed.max_change: {self.max_change} is not allowed; allowed: 0 <= number < 0.5")


@dataclasses.dataclass(frozen=True)
class WaveformAugmentConfig:
    """Every field is documented in configs/default.py."""

    speed: SpeedConfig
    reverberation: ReverberationConfig
    noise: NoiseConfig
    gain: GainConfig
    bank_clips: int
    bank_seconds: float

    def __post_init__(self):
        if self.bank_clips < 1:
            raise ConfigError(f"bank_clips: {self.bank_clips} is not allowed; allowed: an integer >= 1")
        if self.bank_seconds <= 0:
            raise ConfigError(f"bank_seconds: {self.bank_seconds} is not allowed; allowed: a number > 0")

    @property
    def on(self) -> bool:
        """Whether anything is ever changed."""
        return any(part.probability > 0 for part in (self.speed, self.reverberation, self.noise, self.gain))


@flax.struct.dataclass
class Sounds:
    """Noises and rooms on the device; None where they are not needed.

    Attributes:
      noises: (N, S) int16 or float, each as loud as can be.
      noise_lengths: (N,) valid samples.
      rooms: (M, R) impulse responses.
    """

    noises: Any
    noise_lengths: Any
    rooms: Any


def load_sounds(config: WaveformAugmentConfig, seed: int) -> Sounds:
    """Loads what a config needs for training.

    Raises:
      ConfigError: a folder holds no sound.
      AudioError: a file cannot be read.
    """
    noises = rooms = None
    if config.noise.probability > 0:
        noises = noise_bank(config.noise.folder, "train", config.bank_clips, config.bank_seconds, seed)
    if config.reverberation.probability > 0:
        longest = config.reverberation.max_seconds
        rooms = room_bank(config.reverberation.folder, "train", config.bank_clips, longest, seed)
    return Sounds(
        noises=noises and jnp.asarray(noises.sounds),
        noise_lengths=noises and jnp.asarray(noises.lengths),
        rooms=rooms and jnp.asarray(rooms.sounds),
    )


def augment_waveform(
    rng: PRNGKeyArray,
    waveform: Float[Array, "B S"],
    num_samples: Int[Array, "B"],
    sounds: Sounds,
    config: WaveformAugmentConfig,
) -> tuple[Float[Array, "B S"], Int[Array, "B"]]:
    """Changes speed, then adds a room, noise and gain, each to every row with its own probability and values.

    Padding stays zero, and a row's result depends on no other row.

    Args:
      rng: key.
      waveform: 16 kHz, full scale 1.0.
      num_samples: valid samples per row.
      sounds: from `load_sounds`.
      config: probabilities and ranges.

    Returns:
      Waveforms and their numbers of valid samples, which a change of speed changes.
    """
    keys = jax.random.split(rng, 4)
    rows = waveform.shape[0]
    if config.speed.probability > 0:
        chosen, values = _drawn(keys[0], config.speed.probability, rows)
        factor = 1.0 + jnp.where(chosen, (2.0 * values - 1.0) * config.speed.max_change, 0.0)
        waveform, num_samples = change_speed(waveform, num_samples, factor)
    if config.reverberation.probability > 0:
        chosen, values = _drawn(keys[1], config.reverberation.probability, rows)
        room = jnp.floor(values * sounds.rooms.shape[0]).astype(jnp.int32)
        wet = reverberate(waveform, num_samples, sounds.rooms[room])
        waveform = jnp.where(chosen[:, None], wet, waveform)
    if config.noise.probability > 0:
        chosen, values = _drawn(keys[2], config.noise.probability, rows)
        level = config.noise.low_snr_db + values * (config.noise.high_snr_db - config.noise.low_snr_db)
        excerpts = noise_excerpts(jax.random.fold_in(keys[2], 2), sounds, rows, waveform.shape[1])
        waveform = add_noise(waveform, num_samples, excerpts, jnp.where(chosen, level, jnp.inf))
    if config.gain.probability > 0:
        chosen, values = _drawn(keys[3], config.gain.probability, rows)
        gain_db = jnp.where(chosen, (2.0 * values - 1.0) * config.gain.max_db, 0.0)
        waveform = waveform * (10.0 ** (gain_db / 20.0))[:, None]
    return waveform, num_samples


def noise_excerpts(rng: PRNGKeyArray, sounds: Sounds, rows: int, samples: int) -> Float[Array, "B S"]:
    """For each row a noise and a place in it, drawn; a noise that ends too early begins again."""
    which_key, where_key = jax.random.split(rng)
    which = jax.random.randint(which_key, (rows,), 0, sounds.noises.shape[0])
    lengths = sounds.noise_lengths[which]
    start = jnp.floor(jax.random.uniform(where_key, (rows,)) * lengths).astype(jnp.int32)
    places = (start[:, None] + jnp.arange(samples)) % lengths[:, None]
    return jnp.take_along_axis(sounds.noises[which], places, axis=1)


def _drawn(rng: PRNGKeyArray, probability: float, rows: int) -> tuple[Array, Array]:
    choice, value = jax.random.split(rng)
    return jax.random.bernoulli(choice, probability, (rows,)), jax.random.uniform(value, (rows,))


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name}.probability: {value} is not allowed; allowed: 0 <= number <= 1")
