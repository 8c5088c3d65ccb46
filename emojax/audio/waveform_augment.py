"""Augmentation of waveforms in training: noise, reverberation, speed and gain."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, PRNGKeyArray

import emojax.sounds
from emojax.audio.degradations import add_noise, change_speed, reverberate
from emojax.audio.files import read_audio
from emojax.errors import AudioError, ConfigError
from emojax.schema import Ge, Gt, Le, Lt, settings
from emojax.types import SAMPLE_RATE

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff")

_TRAIN_SHARE = 0.8

_BUNDLED = Path(emojax.sounds.__file__).parent

Part = Literal["train", "evaluation"]


@dataclasses.dataclass(frozen=True, eq=False)
class SoundBank:
    """Noises or room impulse responses, one row per file.

    Attributes:
      sounds: waveforms, zero-padded, with peak 1.
      lengths: valid samples per row.
      names: file of each row, relative to the folder.
    """

    sounds: Float32[np.ndarray, "N S"]
    lengths: Int[np.ndarray, "N"]
    names: tuple[str, ...]


def noise_bank(
    folder: str,
    part: Part | None,
    clips: int,
    seconds: float,
    seed: int,
    wanted: Callable[[str], bool] = lambda name: True,
) -> SoundBank:
    """Loads noises, one excerpt per file.

    Args:
      folder: folder searched recursively (e.g. MUSAN, ESC-50, DEMAND); "" for the bundled noises.
      part: files for training or evaluation; the two are disjoint. None: all files.
      clips: maximal number of files, chosen at random.
      seconds: maximal length of an excerpt, which starts at a random position (s).
      seed: seed of the random choices.
      wanted: selects files by their path in the folder.

    Raises:
      ConfigError: the folder has no audio files for the part.
      AudioError: a file cannot be read; the message names it.
    """
    return _bank(Path(folder) if folder else _BUNDLED / "noise", part, clips, seconds, seed, True, wanted)


def room_bank(
    folder: str,
    part: Part | None,
    clips: int,
    seconds: float,
    seed: int,
    wanted: Callable[[str], bool] = lambda name: True,
) -> SoundBank:
    """Loads room impulse responses.

    Args:
      folder: folder searched recursively (e.g. RIRS_NOISES); "" for the bundled rooms.
      part: files for training or evaluation; the two are disjoint. None: all files.
      clips: maximal number of files, chosen at random.
      seconds: length that responses are truncated to (s).
      seed: seed of the random choice.
      wanted: selects files by their path in the folder.

    Raises:
      ConfigError: the folder has no audio files for the part.
      AudioError: a file cannot be read; the message names it.
    """
    return _bank(Path(folder) if folder else _BUNDLED / "rooms", part, clips, seconds, seed, False, wanted)


def part_of(name: str) -> Part:
    """Assigns a user's file to training or evaluation by a hash of its name."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return "train" if number < _TRAIN_SHARE else "evaluation"


def _bank(
    folder: Path,
    part: Part | None,
    clips: int,
    seconds: float,
    seed: int,
    excerpts: bool,
    wanted: Callable[[str], bool],
) -> SoundBank:
    folder = folder.expanduser()
    names = [name for name in _names(folder, part) if wanted(name)]
    if not names:
        raise ConfigError(f"{folder}: has no audio files{f' for {part}' if part else ''} ({', '.join(SUFFIXES)})")
    random = np.random.default_rng(seed)
    chosen = sorted(random.permutation(len(names))[:clips])
    most = round(seconds * SAMPLE_RATE)
    sounds = [_sound(folder / names[number], most, random if excerpts else None) for number in chosen]
    lengths = np.array([len(sound) for sound in sounds], np.int32)
    stacked = np.zeros((len(sounds), lengths.max()), np.float32)
    for row, sound in zip(stacked, sounds, strict=True):
        row[: len(sound)] = sound
    return SoundBank(stacked, lengths, tuple(names[number] for number in chosen))


def _sound(path: Path, most: int, random: np.random.Generator | None) -> np.ndarray:
    sound = read_audio(path)
    start = int(random.integers(0, max(1, len(sound) - most + 1))) if random else 0
    sound = sound[start : start + most]
    peak = np.abs(sound).max()
    if peak == 0:
        raise AudioError(f"{path}: must be a noise or a room impulse response, but is silent")
    return sound / peak


def _names(folder: Path, part: Part | None) -> Sequence[str]:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder")
    if folder.parent == _BUNDLED:
        import csv

        with (_BUNDLED / f"{folder.name}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return sorted(
            row["file"].removeprefix(f"{folder.name}/")
            for row in rows
            if part is None or (row["split"] == "train") == (part == "train")
        )
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith("._"))
    names = sorted(str(path.relative_to(folder)) for path in found)
    return [name for name in names if part is None or part_of(name) == part]


@settings
class NoiseConfig:
    """Additive noise."""

    probability: Annotated[float, Ge(0), Le(1), "Probability per utterance; 0: off."] = 0.0
    low_snr_db: Annotated[
        float, Ge(-100), Le(100), "Lowest signal-to-noise ratio (dB), drawn uniformly up to high_snr_db."
    ] = 0.0
    high_snr_db: Annotated[float, Ge(-100), Le(100), "Highest signal-to-noise ratio (dB)."] = 20.0
    folder: Annotated[
        str,
        "Folder searched for noises (MUSAN, ESC-50, DEMAND or others; a fifth of the files is reserved for "
        "evaluation); empty: the bundled ones.",
    ] = ""

    def __post_init__(self):
        """Checks rules between fields."""
        if self.low_snr_db > self.high_snr_db:
            raise ConfigError(f"low_snr_db must be <= high_snr_db ({self.high_snr_db}), got {self.low_snr_db}")


@settings
class ReverberationConfig:
    """Reverberation: convolution with a room impulse response."""

    probability: Annotated[float, Ge(0), Le(1), "Probability per utterance; 0: off."] = 0.0
    max_seconds: Annotated[float, Gt(0), Le(60), "Length that responses are truncated to (s)."] = 1.0
    folder: Annotated[
        str, "Folder searched for impulse responses (RIRS_NOISES or any other); empty: two bundled ones."
    ] = ""


@settings
class GainConfig:
    """Random gain."""

    probability: Annotated[float, Ge(0), Le(1), "Probability per utterance; 0: off."] = 0.0
    max_db: Annotated[float, Ge(0), Le(100), "Largest change of level, up or down (dB)."] = 6.0


@settings
class SpeedConfig:
    """Random change of speed, which also changes the pitch."""

    probability: Annotated[float, Ge(0), Le(1), "Probability per utterance; 0: off."] = 0.0
    max_change: Annotated[float, Ge(0), Lt(0.5), "Largest relative change of speed."] = 0.1


@settings
class WaveformAugmentConfig:
    """Waveform augmentation in training, drawn anew in every step.

    Inputs read from a feature store are not augmented.
    """

    speed: SpeedConfig = SpeedConfig()
    reverberation: ReverberationConfig = ReverberationConfig()
    noise: NoiseConfig = NoiseConfig()
    gain: GainConfig = GainConfig()
    bank_clips: Annotated[int, Ge(1), Le(10**6), "Noises, and rooms, loaded to the device."] = 128
    bank_seconds: Annotated[float, Gt(0), Le(600), "Length of the excerpt of each noise (s)."] = 5.0

    @property
    def on(self) -> bool:
        """Whether any augmentation is enabled."""
        return any(part.probability > 0 for part in (self.speed, self.reverberation, self.noise, self.gain))


@flax.struct.dataclass
class Sounds:
    """Noises and rooms on the device; None if not needed.

    Attributes:
      noises: (N, S) waveforms with peak 1.
      noise_lengths: (N,) valid samples.
      rooms: (M, R) impulse responses.
    """

    noises: Any
    noise_lengths: Any
    rooms: Any


def load_sounds(config: WaveformAugmentConfig, seed: int) -> Sounds:
    """Loads the noises and rooms that a config needs for training.

    Raises:
      ConfigError: a folder has no audio files.
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
    """Applies speed change, reverberation, noise and gain, each with its own probability and random values per row.

    Padding stays zero, and rows are independent.

    Args:
      rng: PRNG key.
      waveform: 16 kHz, full scale 1.0.
      num_samples: valid samples per row.
      sounds: from `load_sounds`.
      config: probabilities and ranges.

    Returns:
      Waveforms, and their numbers of valid samples after the change of speed.
    """
    keys = jax.random.split(rng, 4)
    rows = waveform.shape[0]
    if config.speed.probability > 0:
        chosen, values = _draw(keys[0], config.speed.probability, rows)
        factor = 1.0 + jnp.where(chosen, (2.0 * values - 1.0) * config.speed.max_change, 0.0)
        waveform, num_samples = change_speed(waveform, num_samples, factor)
    if config.reverberation.probability > 0:
        chosen, values = _draw(keys[1], config.reverberation.probability, rows)
        room = jnp.floor(values * sounds.rooms.shape[0]).astype(jnp.int32)
        wet = reverberate(waveform, num_samples, sounds.rooms[room])
        waveform = jnp.where(chosen[:, None], wet, waveform)
    if config.noise.probability > 0:
        chosen, values = _draw(keys[2], config.noise.probability, rows)
        level = config.noise.low_snr_db + values * (config.noise.high_snr_db - config.noise.low_snr_db)
        excerpts = noise_excerpts(jax.random.fold_in(keys[2], 2), sounds, rows, waveform.shape[1])
        waveform = add_noise(waveform, num_samples, excerpts, jnp.where(chosen, level, jnp.inf))
    if config.gain.probability > 0:
        chosen, values = _draw(keys[3], config.gain.probability, rows)
        gain_db = jnp.where(chosen, (2.0 * values - 1.0) * config.gain.max_db, 0.0)
        waveform = waveform * (10.0 ** (gain_db / 20.0))[:, None]
    return waveform, num_samples


def noise_excerpts(rng: PRNGKeyArray, sounds: Sounds, rows: int, samples: int) -> Float[Array, "B S"]:
    """Draws a noise and a start position for each row; noises that are too short are repeated."""
    which_key, where_key = jax.random.split(rng)
    which = jax.random.randint(which_key, (rows,), 0, sounds.noises.shape[0])
    lengths = sounds.noise_lengths[which]
    start = jnp.floor(jax.random.uniform(where_key, (rows,)) * lengths).astype(jnp.int32)
    positions = (start[:, None] + jnp.arange(samples)) % lengths[:, None]
    return jnp.take_along_axis(sounds.noises[which], positions, axis=1)


def _draw(rng: PRNGKeyArray, probability: float, rows: int) -> tuple[Array, Array]:
    choice, value = jax.random.split(rng)
    return jax.random.bernoulli(choice, probability, (rows,)), jax.random.uniform(value, (rows,))
