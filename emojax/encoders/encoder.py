"""A loaded encoder: module, parameters, pre-processing; it encodes lists of waveforms or texts."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from emojax.audio import check_samples
from emojax.encoders.family import Family
from emojax.encoders.hidden_states import EncoderOutput
from emojax.encoders.parameters import logical_axes
from emojax.encoders.preprocess import TextPreprocess, WaveformPreprocess
from emojax.encoders.registry import family_of
from emojax.encoders.speech_encoder import min_samples
from emojax.errors import AudioError
from emojax.parallel import check_not_forked
from emojax.tokenizer import as_texts

_MAX_ROWS = 64

_LEAST_FILLED = 0.75
"""Share of the rows of a batch that must hold sequences."""


def padded_batches(
    sequences: Sequence[np.ndarray],
    shortest: int,
    batch_size: int,
    longest: int | None,
    devices: int = 1,
    fill: bool = False,
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Groups sequences of similar length and pads them to one of few shapes.

    Args:
      sequences: (S_i,) each, of one dtype.
      shortest: length of the shortest bucket; the next are 1.5, 2, 3, 4, 6, 8, ... times as long.
      batch_size: values a batch holds on one device, padding included, unless a single sequence is longer.
      longest: no bucket is longer; None: no limit.
      devices: a power of two that divides the number of rows; each device gets as many.
      fill: whether all batches of a bucket have the same rows, for who goes through many sequences: a shape takes
        longer to compile than a part of one batch to compute.

    Yields:
      Indices of the sequences, zero-padded inputs (rows, S), lengths (rows,) int32. Without `fill`, few sequences cost
      little: rows are as `row_counts` says. Rows that are left over hold sequences of length 0.
    """
    buckets: dict[int, list[int]] = {}
    for index, sequence in enumerate(sequences):
        buckets.setdefault(_bucket_length(len(sequence), shortest, longest), []).append(index)
    for length, indices in sorted(buckets.items()):
        max_rows = devices * _power_of_two_below(min(max(batch_size // length, 1), _MAX_ROWS))
        counts = [max_rows] * -(-len(indices) // max_rows)
        if not fill:
            counts = [devices * rows for rows in row_counts(-(-len(indices) // devices), max_rows // devices)]
        start = 0
        for num_rows in counts:
            rows = indices[start : start + num_rows]
            start += num_rows
            inputs = np.zeros((num_rows, length), sequences[rows[0]].dtype)
            lengths = np.zeros(num_rows, np.int32)
            for row, index in enumerate(rows):
                lengths[row] = len(sequences[index])
                inputs[row, : lengths[row]] = sequences[index]
            yield rows, inputs, lengths


def row_counts(count: int, most: int) -> list[int]:
    """Rows of the batches that hold `count` sequences: `most`, or 1, 4, 16, ... where fewer are left.

    Fewer sizes would compute more rows that hold nothing, more sizes would compile more programs. So at most a quarter
    of a batch's rows hold nothing, and a length has at most four programs.
    """
    sizes = sorted({most, *itertools.takewhile(lambda size: size < most, (4**power for power in itertools.count()))})
    counts = []
    while count > 0:
        enough = next((size for size in sizes if size >= count), most)
        if count < _LEAST_FILLED * enough:
            enough = max(size for size in sizes if size <= count)
        counts.append(enough)
        count -= enough
    return counts


def _bucket_length(length: int, shortest: int, longest: int | None) -> int:
    """The next of `shortest` x 1, 1.5, 2, 3, 4, 6, 8, ...: at most a third of a long bucket is padding."""
    bucket = shortest
    for numerator, denominator in itertools.cycle(((3, 2), (4, 3))):
        if bucket >= length:
            break
        bucket = bucket * numerator // denominator
    return bucket if longest is None else min(bucket, longest)


def _power_of_two_below(number: int) -> int:
    return 1 << (number.bit_length() - 1)


SHORTEST_BUCKET = {"speech": 16_000, "text": 16}
"""Samples or tokens that the shortest inputs are padded to."""

_BATCH_SIZE = {"speech": 16_000 * 32, "text": 2_048}
"""Samples or tokens computed at a time, padding included, unless a single item is longer."""


@dataclasses.dataclass(frozen=True, eq=False)
class Encoder:
    """A published encoder.

    Attributes:
      module: `module.apply({"params": params}, inputs, lengths)` is a pure function that returns `EncoderOutput`.
      params: nested dict of float32 parameters.
      config: content of `config.json`.
      preprocess: waveform normalisation or tokenization, to be applied before the module.
    """

    module: nn.Module
    params: Mapping[str, Any]
    config: Mapping[str, Any]
    preprocess: WaveformPreprocess | TextPreprocess

    @property
    def family(self) -> Family:
        """What is known about this kind of encoder."""
        return family_of(self.config)

    @property
    def num_features(self) -> int:
        """D, the width of the states."""
        return int(self.module.config.hidden_size)

    @property
    def num_layers(self) -> int:
        """Transformer layers; there is one more hidden state than layers."""
        return int(self.module.config.num_layers)

    @property
    def min_samples(self) -> int:
        """Fewest samples at 16 kHz that give one frame; 0 for a text encoder."""
        return min_samples(self.module)

    def logical_axes(self) -> dict[str, Any]:
        """A tree like `params` of logical axis names."""
        return logical_axes(self.params, self.family.axes)

    @overload
    def encode(self, items: np.ndarray | str, hidden_states: bool = False) -> np.ndarray: ...

    @overload
    def encode(
        self, items: list[np.ndarray] | list[str] | tuple[Any, ...], hidden_states: bool = False
    ) -> list[np.ndarray]: ...

    def encode(self, items: Any, hidden_states: bool = False) -> Any:
        """States of recordings or texts, each what the encoder gives for that item alone.

        Items are padded to one of few lengths and computed together, so that few shapes are compiled.

        Args:
          items: one item, or a list or tuple of items: waveforms, float (S_i,), 16 kHz mono, full scale 1.0; for a
            text encoder, texts.
          hidden_states: return the states of all layers.

        Returns:
          For one item float32 (T, D), or (layers + 1, T, D) with `hidden_states`; for several a list of such.

        Raises:
          AudioError: an item is no mono floating-point waveform, has samples that are not finite or far above full
            scale, or is too short for one frame.
          CorpusError: an item is no text or has more tokens than the encoder takes.
          EmojaxError: JAX cannot compute in this process (`check_not_forked`).
        """
        check_not_forked()
        single = not isinstance(items, (list, tuple))
        encoded = self._encode([items] if single else items, hidden_states)
        return encoded[0] if single else encoded

    def _encode(self, items: Sequence[Any], hidden_states: bool) -> list[np.ndarray]:
        sequences = self._sequences(items)
        encoded: list[np.ndarray] = [np.empty(0)] * len(sequences)
        for rows, inputs, lengths in padded_batches(sequences, *self._limits()):
            output = _apply(self.module, self.preprocess, self.params, inputs, lengths, hidden_states)
            states = jnp.stack(output.hidden_states) if hidden_states else output.last_hidden_state
            host_states, num_valid = np.asarray(states, np.float32), np.asarray(output.mask).sum(axis=1)
            for row, index in enumerate(rows):
                # A copy, so that one item does not keep its whole batch in memory.
                encoded[index] = host_states[..., row, : num_valid[row], :].copy()
        return encoded

    def _limits(self) -> tuple[int, int, int | None]:
        longest = self.preprocess.max_tokens if isinstance(self.preprocess, TextPreprocess) else None
        return SHORTEST_BUCKET[self.family.modality], _BATCH_SIZE[self.family.modality], longest

    def _sequences(self, items: Sequence[Any]) -> list[np.ndarray]:
        if isinstance(self.preprocess, TextPreprocess):
            return self.preprocess(as_texts(items)) if items else []
        return [self._waveform(item, f"item {index}") for index, item in enumerate(items)]

    def _waveform(self, item: Any, name: str) -> Float32[np.ndarray, "S"]:
        kind = getattr(item, "dtype", None)
        if kind is None or np.ndim(item) != 1 or not jnp.issubdtype(kind, jnp.floating):
            found = f"of type {type(item).__name__}" if kind is None else f"{kind} of shape {np.shape(item)}"
            raise AudioError(f"{name}: {found}; allowed: a floating-point array of shape (samples,), 16 kHz mono")
        if np.ma.is_masked(item):
            raise AudioError(f"{name}: has masked samples; allowed: an array without, e.g. array.filled(0)")
        waveform = np.asarray(item)
        check_samples(waveform, name)
        if len(waveform) < self.min_samples:
            raise AudioError(
                f"{name}: {len(waveform)} samples are too short for one frame; allowed: at least {self.min_samples}"
            )
        return waveform.astype(np.float32, copy=False)


@functools.partial(jax.jit, static_argnums=(0, 1, 5))
def _apply(
    module: nn.Module,
    preprocess: WaveformPreprocess | TextPreprocess,
    params: Mapping[str, Any],
    inputs: Float[Array, "B S"] | Int[Array, "B L"],
    lengths: Int[Array, "B"],
    hidden_states: bool,
) -> EncoderOutput:
    if isinstance(preprocess, WaveformPreprocess):
        inputs = preprocess(inputs, lengths)
    output: Any = module.apply({"params": params}, inputs, lengths, hidden_states=hidden_states)
    return output
