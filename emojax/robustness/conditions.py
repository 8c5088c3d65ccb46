"""Conditions of the grid: what degrades the clips, with its level, and the reason where it cannot be applied."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from emojax.audio.perturbations import missing_codec
from emojax.robustness.config import RobustnessGridConfig
from emojax.robustness.sounds import GridSounds, digest_of

CLEAN = "clean"
"""Name of the condition without a degradation."""

TELEPHONE = "telephone"

TELEPHONE_BAND = (300.0, 3400.0)
"""Band of a telephone (Hz)."""

CODEC_NAMES = {"opus": "Opus, 15 kbit/s", "gsm": "GSM 06.10, 13 kbit/s", "amr_nb": "AMR-NB, 7.4 kbit/s"}


@dataclasses.dataclass(frozen=True)
class Condition:
    """A degradation of the clips: a room, then noise, then a channel, each of them optional.

    Attributes:
      name: name in results, unique.
      group: conditions that are drawn in one plot, e.g. a kind of noise.
      noise: kind of noise; "" for none.
      snr_db: signal-to-noise ratio over active speech (dB).
      room: row of the room in `GridSounds.rooms`; None for none.
      rt60: its reverberation time (s).
      channel: `TELEPHONE` or a codec; "" for none.
      missing: reason why the condition cannot be applied here; "" if it can.
      note: what differs from the description of the condition; "" if nothing.
      mean_of: names of the conditions whose scores are averaged; () for a condition of its own.
    """

    name: str
    group: str
    noise: str = ""
    snr_db: float | None = None
    room: int | None = None
    rt60: float | None = None
    channel: str = ""
    missing: str = ""
    note: str = ""
    mean_of: tuple[str, ...] = ()


def grid_conditions(config: RobustnessGridConfig, sounds: GridSounds) -> list[Condition]:
    """Lists the conditions of a grid; the first is `CLEAN`.

    Args:
      config: settings of the grid.
      sounds: sounds, whose rooms are in order of reverberation time.
    """
    found = [Condition(CLEAN, CLEAN)]
    for kind in config.noise.kinds:
        missing = note = ""
        if kind == "babble":
            missing = "no talkers were loaded" if sounds.talkers is None else sounds.talkers.missing
            note = "" if missing or sounds.talkers is None else sounds.talkers.note
        for db in sorted(config.noise.snrs_db, reverse=True):
            found.append(Condition(f"{kind} {db:g} dB", kind, kind, db, missing=missing, note=note))
    if sounds.rooms is not None:
        for row, rt60 in enumerate(sounds.rt60):
            found.append(Condition(_room_name(sounds, row), "rooms", room=row, rt60=rt60))
        nearest = int(np.abs(np.array(sounds.rt60) - config.rooms.noise_rt60).argmin())
        for db in sorted(config.rooms.noise_snrs_db, reverse=True):
            rt60 = sounds.rt60[nearest]
            name = f"room {rt60:.2f} s, environment {db:g} dB"
            found.append(Condition(name, "noise and room", "environment", db, nearest, rt60))
    if config.channels.telephone:
        low, high = TELEPHONE_BAND
        found.append(Condition(f"telephone band, {low:g} to {high:g} Hz", "channels", channel=TELEPHONE))
    for codec in config.channels.codecs:
        found.append(Condition(CODEC_NAMES[codec], "channels", channel=codec, missing=missing_codec(codec)))
    return found


def mean_conditions(conditions: Sequence[Condition]) -> list[Condition]:
    """Means over the kinds of noise, one per signal-to-noise ratio with several kinds and no room.

    Args:
      conditions: conditions that can be applied.
    """
    levels: dict[float, list[str]] = {}
    for condition in conditions:
        if condition.room is None and condition.snr_db is not None:
            levels.setdefault(condition.snr_db, []).append(condition.name)
    return [
        Condition(f"mean of noises {db:g} dB", "mean of noises", snr_db=db, mean_of=tuple(names))
        for db, names in levels.items()
        if len(names) > 1
    ]


def condition_digest(condition: Condition, config: RobustnessGridConfig, sounds: GridSounds) -> str:
    """Digest of everything that determines the degraded clips of a condition.

    Args:
      condition: condition.
      config: settings of the grid.
      sounds: sounds of the grid.
    """
    parts: list[object] = [condition.noise, condition.snr_db, condition.channel]
    if condition.name != CLEAN:
        parts += [config.seed, config.full_scale]
    if condition.noise == "babble" and sounds.talkers is not None:
        parts += [digest_of(sounds.talkers.bank), sounds.talkers.speakers]
    elif condition.noise in sounds.noises:
        parts.append(digest_of(sounds.noises[condition.noise]))
    if condition.room is not None and sounds.rooms is not None:
        response = sounds.rooms.sounds[condition.room, : sounds.rooms.lengths[condition.room]]
        parts.append(hashlib.sha256(response.tobytes()).hexdigest())
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _room_name(sounds: GridSounds, row: int) -> str:
    assert sounds.rooms is not None
    path = PurePosixPath(sounds.rooms.names[row])
    label = path.with_suffix("").as_posix()
    return f"room {sounds.rt60[row]:.2f} s ({label})"
