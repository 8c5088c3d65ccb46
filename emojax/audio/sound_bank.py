"""Noises and room responses as arrays, from the bundled ones or from the user's folders."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int

import emojax.sounds
from emojax.audio.files import read_audio
from emojax.errors import AudioError, ConfigError
from emojax.types import SAMPLE_RATE

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff")

_TRAIN_SHARE = 0.8

_BUNDLED = Path(emojax.sounds.__file__).parent

Part = Literal["train", "evaluation"]


@dataclasses.dataclass(frozen=True, eq=False)
class SoundBank:
    """Sounds of one kind, as many rows as files were taken.

    Attributes:
      sounds: float32 (N, S), zero-padded, each of peak 1.
      lengths: valid samples per row.
      names: file of each row, relative to the folder.
    """

    sounds: Float32[np.ndarray, "N S"]
    lengths: Int[np.ndarray, "N"]
    names: tuple[str, ...]


def noise_bank(folder: str, part: Part, clips: int, seconds: float, seed: int) -> SoundBank:
    """Noises, one excerpt a file.

    Args:
      folder: searched with all its subfolders (MUSAN's, ESC-50's, DEMAND's layouts will do); "" for the bundled noises.
      part: files for training or for evaluation; a file is only ever in one.
      clips: most files taken, chosen by the seed.
      seconds: longest excerpt, begun at a place drawn by the seed.
      seed: of the choices.

    Raises:
      ConfigError: the folder holds no sound for that part.
      AudioError: a file cannot be read; the message names it.
    """
    return _bank(Path(folder) if folder else _BUNDLED / "noise", part, clips, seconds, seed, excerpts=True)


def room_bank(folder: str, part: Part, clips: int, seconds: float, seed: int) -> SoundBank:
    """Room responses, from their beginning; bundled ones are few, and serve training and evaluation alike.

    Args:
      folder: as of `noise_bank` (RIRS_NOISES' layout will do); "" for the bundled rooms.
      part: ignored with the bundled rooms.
      clips: most files taken.
      seconds: longest response; what rings on is cut off.
      seed: of the choice.

    Raises:
      ConfigError: the folder holds no sound for that part.
      AudioError: a file cannot be read; the message names it.
    """
    return _bank(Path(folder) if folder else _BUNDLED / "rooms", part, clips, seconds, seed, excerpts=False)


def part_of(name: str) -> Part:
    """The part a user's file belongs to: a function of its name, so that it is the same in every run."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return "train" if number < _TRAIN_SHARE else "evaluation"


def _bank(folder: Path, part: Part, clips: int, seconds: float, seed: int, excerpts: bool) -> SoundBank:
    folder = folder.expanduser()
    names = _names(folder, part)
    if not names:
        raise ConfigError(f"{folder}: holds no sound for {part}; allowed: a folder with {', '.join(SUFFIXES)}")
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
        raise AudioError(f"{path}: is silent; allowed: a noise or a room response")
    return sound / peak


def _names(folder: Path, part: Part) -> Sequence[str]:
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; allowed: a folder of sounds")
    if folder == _BUNDLED / "rooms":
        return sorted(path.name for path in folder.glob("*.flac"))
    if folder == _BUNDLED / "noise":
        import csv

        with (_BUNDLED / "noise.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return sorted(
            row["file"].removeprefix("noise/") for row in rows if (row["split"] == "train") == (part == "train")
        )
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith("._"))
    names = sorted(str(path.relative_to(folder)) for path in found)
    return [name for name in names if part_of(name) == part]
