"""A loaded encoder: a pure module with its parameters, and `encode` for recordings or texts."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, overload

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from emojax.audio import check_samples
from emojax.encoders.batching import padded_batches
from emojax.encoders.encoder_output import EncoderOutput
from emojax.encoders.family import Family
from emojax.encoders.logical_axes import logical_axes
from emojax.encoders.preprocess import TextPreprocess, WaveformPreprocess
from emojax.encoders.registry import family_of
from emojax.encoders.speech_encoder import min_samples
from emojax.errors import AudioError
from emojax.parallel import check_not_forked
from emojax.text import as_texts

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
