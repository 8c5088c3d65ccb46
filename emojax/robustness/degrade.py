"""Degradation of a batch of clips: choices of each clip on the host, sounds and mixing inside jit over all devices."""

import concurrent.futures
import dataclasses
import functools
import os
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Float32, Int, UInt32

from emojax.audio.clip_degradations import clip_generator
from emojax.audio.degradations import add_noise, band_pass, reverberate
from emojax.audio.perturbations import through_codec
from emojax.audio.waveform_augment import SoundBank
from emojax.parallel import replicated, to_device, to_global_arrays, to_host
from emojax.robustness.conditions import TELEPHONE, TELEPHONE_BAND, Condition
from emojax.robustness.sounds import GridSounds, Talkers

_LEAST_VOICES, _MOST_VOICES = 4, 7

_BLOCK = 8000
"""Samples of a sound that are copied at a time."""


@dataclasses.dataclass(frozen=True, eq=False)
class ClipBatch:
    """Padded clips; rows after those of `ids` complete the batch.

    Attributes:
      waveform: 16 kHz, full scale 1.0; on the host, or sharded over the mesh.
      num_samples: valid samples per row, on the host.
      ids: ids of the first n rows.
      speakers: their speakers; "" where unknown.
    """

    waveform: Any
    num_samples: Int[np.ndarray, "B"]
    ids: tuple[str, ...]
    speakers: tuple[str, ...]

    def clips(self) -> list[Float32[np.ndarray, "_"]]:
        """The clips on the host, without padding."""
        rows = to_host(self.waveform)
        return [rows[row, : self.num_samples[row]] for row in range(len(self.ids))]


@dataclasses.dataclass(frozen=True, eq=False)
class Degraded:
    """A degraded batch.

    Attributes:
      batch: clips, sharded over the mesh.
      no_snr: clips without a signal-to-noise ratio, because they or their noise are silent; no noise was added.
      beyond: clips that would have exceeded full scale.
    """

    batch: ClipBatch
    no_snr: Bool[np.ndarray, "n"]
    beyond: Bool[np.ndarray, "n"]


class Degrader:
    """Degrades batches; the choices for a clip depend on the seed, its id and speaker, and the kind of noise only."""

    def __init__(self, sounds: GridSounds, mesh: Mesh, seed: int = 0, full_scale: Literal["scale", "clip"] = "scale"):
        """Copies the sounds to the devices.

        Args:
          sounds: noises, talkers and rooms.
          mesh: mesh that batches are sharded over.
          seed: seed of all choices.
          full_scale: clips beyond full scale are scaled to a peak of 1, or clipped.
        """
        self.mesh, self._sounds, self._seed, self._full_scale = mesh, sounds, seed, full_scale
        banks = dict(sounds.noises)
        if sounds.talkers is not None and not sounds.talkers.missing:
            banks["babble"] = sounds.talkers.bank
        self._banks = {kind: self._copied(repeated(bank), bank.lengths) for kind, bank in banks.items()}

    def __call__(self, condition: Condition, batch: ClipBatch) -> Degraded:
        """Degrades a batch, whose number of rows is a multiple of the number of devices.

        Args:
          condition: condition that is not missing.
          batch: clips on the host.
        """
        waveform, num_samples = to_global_arrays((batch.waveform, batch.num_samples), self.mesh)
        n = len(batch.ids)
        kind, nothing = condition.noise, np.zeros(n, bool)
        if not (kind or condition.channel or condition.room is not None):
            return Degraded(dataclasses.replace(batch, waveform=waveform), nothing, nothing)
        draws = to_global_arrays(self._draw(kind, batch), self.mesh)
        response = None
        if condition.room is not None:
            assert self._sounds.rooms is not None
            response = to_device(self._sounds.rooms.sounds[condition.room], replicated(self.mesh))
        band = TELEPHONE_BAND if condition.channel == TELEPHONE else None
        degraded, no_snr, beyond = _degrade(
            waveform,
            num_samples,
            self._banks.get(kind),
            draws,
            np.float32(condition.snr_db or 0.0),
            response,
            white=kind == "white",
            band=band,
            clip=self._full_scale == "clip",
        )
        found = dataclasses.replace(batch, waveform=degraded)
        if condition.channel and band is None:
            found = self._coded(found, condition.channel)
        no_snr, beyond = to_host((no_snr, beyond))
        return Degraded(found, no_snr[:n] & bool(kind), beyond[:n])

    def _draw(self, kind: str, batch: ClipBatch) -> Any:
        """Choices of every row: a key for white noise, or excerpts of a bank."""
        rows = len(batch.num_samples)
        if not kind:
            return None
        generators = [clip_generator(self._seed, id, kind) for id in batch.ids]
        if kind == "white":
            keys = np.zeros((rows, 2), np.uint32)
            for row, random in enumerate(generators):
                keys[row] = random.integers(2**32, size=2, dtype=np.uint32)
            return keys
        voices = _MOST_VOICES if kind == "babble" else 1
        chosen, starts = np.zeros((2, rows, voices), np.int32)
        gains = np.zeros((rows, voices), np.float32)
        talkers = self._sounds.talkers
        bank = talkers.bank if kind == "babble" and talkers is not None else self._sounds.noises[kind]
        for row, random in enumerate(generators):
            drawn = [int(random.integers(len(bank.lengths)))]
            if kind == "babble" and talkers is not None:
                drawn = draw_talkers(talkers, batch.ids[row], batch.speakers[row], random)
            for voice, number in enumerate(drawn):
                chosen[row, voice], gains[row, voice] = number, 1.0
                starts[row, voice] = random.integers(bank.lengths[number])
        return chosen, starts, gains

    def _coded(self, batch: ClipBatch, codec: str) -> ClipBatch:
        """Encodes and decodes on the host, several clips at a time."""
        waveform = np.zeros(batch.waveform.shape, np.float32)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for row, clip in enumerate(pool.map(lambda clip: through_codec(clip, codec), batch.clips())):
                waveform[row, : len(clip)] = clip
        return dataclasses.replace(batch, waveform=to_global_arrays(waveform, self.mesh))

    def _copied(self, *arrays: np.ndarray) -> tuple[jax.Array, ...]:
        return tuple(to_device(array, replicated(self.mesh)) for array in arrays)


def draw_talkers(talkers: Talkers, id: str, speaker: str, random: np.random.Generator) -> list[int]:
    """Draws 4 to 7 clips of other talkers, of different ones if there are as many.

    Args:
      talkers: clips of speech.
      id: id of the clip that babble is added to; never a part of it.
      speaker: its speaker, never a part of it; "" where unknown.
      random: generator of the choice.
    """
    count = int(random.integers(_LEAST_VOICES, _MOST_VOICES + 1))
    order = [row for row in random.permutation(len(talkers.ids)).tolist() if talkers.ids[row] != id]
    if speaker:
        order = [row for row in order if talkers.speakers[row] != speaker]
    different: dict[object, int] = {}
    for row in order:
        different.setdefault(talkers.speakers[row] or row, row)
    first = list(different.values())
    return [*first, *(row for row in order if row not in first)][:count]


@functools.partial(jax.jit, static_argnames=("white", "band", "clip"))
def _degrade(
    waveform: Float[Array, "B S"],
    num_samples: Int[Array, "B"],
    bank: Any,
    draws: Any,
    snr_db: Float[Array, ""],
    response: Float[Array, "R"] | None,
    *,
    white: bool,
    band: tuple[float, float] | None,
    clip: bool,
) -> tuple[Float[Array, "B S"], Bool[Array, "B"], Bool[Array, "B"]]:
    rows, samples = waveform.shape
    changed = waveform
    if response is not None:
        changed = reverberate(changed, num_samples, jnp.broadcast_to(response, (rows, response.shape[0])))
    before = changed
    if draws is not None:
        noise = white_rows(draws, samples) if white else mixed_excerpts(bank[0], bank[1], draws, samples)
        changed = add_noise(changed, num_samples, noise, jnp.full(rows, snr_db))
    no_snr = jnp.all(before == changed, axis=1)
    if band is not None:
        changed = band_pass(changed, num_samples, *band)
    peak = jnp.abs(changed).max(axis=1, keepdims=True)
    limited = jnp.clip(changed, -1.0, 1.0) if clip else changed / jnp.maximum(peak, 1.0)
    return limited, no_snr, peak[:, 0] > 1.0


def white_rows(keys: UInt32[Array, "B 2"], samples: int) -> Float[Array, "B S"]:
    """Draws Gaussian noise for each row; longer rows begin with the same samples."""
    return jax.vmap(lambda key: jax.random.normal(jax.random.wrap_key_data(key), (samples,)))(keys)


def mixed_excerpts(
    sounds: Float[Array, "N P"],
    lengths: Int[Array, "N"],
    draws: tuple[Int[Array, "B V"], Int[Array, "B V"], Float[Array, "B V"]],
    samples: int,
) -> Float[Array, "B S"]:
    """Adds V excerpts per row; sounds shorter than a row are repeated.

    Excerpts are composed of blocks of 0.5 s: slices are copied, several times faster than samples are gathered.

    Args:
      sounds: bank of sounds, from `repeated`.
      lengths: samples after which each sound is repeated.
      draws: sounds of each row, first sample of each excerpt, factor of each excerpt.
      samples: S.
    """
    blocks = jnp.arange(-(-samples // _BLOCK)) * _BLOCK
    block_of = jax.vmap(lambda number, start: jax.lax.dynamic_slice(sounds, (number, start), (1, _BLOCK))[0])

    def excerpt(number: Int[Array, ""], start: Int[Array, ""], gain: Float[Array, ""]) -> Float[Array, "S"]:
        starts = (start + blocks) % lengths[number]
        return gain * block_of(jnp.full(len(blocks), number), starts).reshape(-1)[:samples]

    chosen, starts, gains = draws
    voices = [jax.vmap(excerpt)(chosen[:, v], starts[:, v], gains[:, v]) for v in range(chosen.shape[1])]
    return sum(voices[1:], voices[0])


def repeated(bank: SoundBank) -> Float32[np.ndarray, "N P"]:
    """Sounds of a bank, repeated up to a block beyond the longest, so that a block can start anywhere in each."""
    width = bank.sounds.shape[1] + _BLOCK
    return np.stack([np.resize(sound[:length], width) for sound, length in zip(bank.sounds, bank.lengths, strict=True)])
