"""Augmentation of waveforms in training: other speed, a room, noise, another level."""

from typing import Annotated, Any

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from emojax.audio.noise import add_noise
from emojax.audio.reverberation import reverberate
from emojax.audio.sound_bank import noise_bank, room_bank
from emojax.audio.speed import change_speed
from emojax.errors import ConfigError
from emojax.schema import Ge, Gt, Le, Lt, settings


@settings
class NoiseConfig:
    """Added noise."""

    probability: Annotated[float, Ge(0), Le(1), "Probability per utterance; 0: off."] = 0.0
    low_snr_db: Annotated[
        float, Ge(-100), Le(100), "Lowest ratio of speech to noise (dB); drawn evenly up to high_snr_db."
    ] = 0.0
    high_snr_db: Annotated[float, Ge(-100), Le(100), "Highest ratio of speech to noise (dB)."] = 20.0
    folder: Annotated[
        str,
        "Folder searched for noises (MUSAN, ESC-50, DEMAND or others; a fifth of the files is kept for evaluation); "
        "empty: the bundled ones.",
    ] = ""

    def __post_init__(self):
        """Checks rules between fields."""
        if self.low_snr_db > self.high_snr_db:
            raise ConfigError(f"low_snr_db must be <= high_snr_db ({self.high_snr_db}), got {self.low_snr_db}")


@settings
class ReverberationConfig:
    """Convolution with the impulse response of a room."""

    probability: Annotated[float, Ge(0), Le(1), "Probability per utterance; 0: off."] = 0.0
    max_seconds: Annotated[float, Gt(0), Le(60), "Length that responses are cut to (s)."] = 1.0
    folder: Annotated[
        str, "Folder searched for impulse responses (RIRS_NOISES or any other); empty: seven bundled ones."
    ] = ""


@settings
class GainConfig:
    """Change of level."""

    probability: Annotated[float, Ge(0), Le(1), "Probability per utterance; 0: off."] = 0.0
    max_db: Annotated[float, Ge(0), Le(100), "Largest change of level, up or down (dB)."] = 6.0


@settings
class SpeedConfig:
    """Change of speed, which also changes the pitch."""

    probability: Annotated[float, Ge(0), Le(1), "Probability per utterance; 0: off."] = 0.0
    max_change: Annotated[float, Ge(0), Lt(0.5), "Largest change of speed, as a share."] = 0.1


@settings
class WaveformAugmentConfig:
    """Augmentation of the waveform in training, inside the step, drawn anew in every step.

    Models that read hidden states from a feature store are not augmented.
    """

    speed: SpeedConfig = SpeedConfig()
    reverberation: ReverberationConfig = ReverberationConfig()
    noise: NoiseConfig = NoiseConfig()
    gain: GainConfig = GainConfig()
    bank_clips: Annotated[int, Ge(1), Le(10**6), "Noises, and rooms, held on the device."] = 128
    bank_seconds: Annotated[float, Gt(0), Le(600), "Length taken of each noise (s)."] = 5.0

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
