"""Views through a pre-trained encoder: acoustic states of the waveform, or lexical states of the transcript."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.encoders import AxesTable, Encoder, axes_by_path, resolve_layers, select_layers
from emojax.encoders.preprocess import WaveformPreprocess
from emojax.errors import ConfigError
from emojax.models.tcgru import TCGRUConfig
from emojax.parallel import AxesOf
from emojax.types import Batch


@dataclasses.dataclass(frozen=True)
class EncoderViewConfig:
    """One encoder and how its states become an embedding; every field is documented in configs/default.py."""

    checkpoint: str
    revision: str
    store: str
    layers: tuple[int, ...]
    combine: Literal["concatenate", "mean", "weighted"]
    train: Literal["nothing", "top", "all"]
    top_layers: int
    train_convolutions: bool
    remat: bool
    scan_layers: bool
    network: TCGRUConfig

    def __post_init__(self):
        if not self.layers:
            raise ConfigError("layers: () is not allowed; allowed: layer numbers, e.g. (-1,)")
        if self.train == "top" and self.top_layers < 1:
            raise ConfigError(f"top_layers: {self.top_layers} is not allowed; allowed: an integer >= 1")
        if self.train == "top" and self.scan_layers:
            raise ConfigError("scan_layers: True is not allowed where only the top layers are trained; allowed: False")
        if self.train != "nothing" and self.store:
            raise ConfigError(f"store: {self.store!r} is not allowed with train={self.train!r}; allowed: ''")


class EncoderView(nn.Module):
    """States of the chosen layers as feature frames, from the encoder itself or from a store in the batch.

    Attributes:
      config: see `EncoderViewConfig`.
      encoder: module and pre-processing; its parameters are the caller's matter.
      name_in_batch: key of `Batch.stored` that holds the states, where they are stored.
    """

    config: EncoderViewConfig
    encoder: "EncoderPart"
    name_in_batch: str

    @nn.compact
    def __call__(self, batch: Batch, train: bool = False) -> tuple[Float[Array, "B T D"], Bool[Array, "B T"]]:
        """Computes the view; a row without audio or transcript has no valid frame."""
        layers = resolve_layers(self.config.layers, self.encoder.num_layers, f"model.{self.name_in_batch}.layers")
        if self.name_in_batch in batch.stored:
            stored = batch.stored[self.name_in_batch]
            states, mask = stored.values.astype(jnp.float32), stored.mask
        else:
            states, mask = self._encode(batch, layers, train)
        return self._combine(states), mask

    def _encode(
        self, batch: Batch, layers: tuple[int, ...], train: bool
    ) -> tuple[Float[Array, "B T L D"], Bool[Array, "B T"]]:
        tuned = self.config.train != "nothing"
        preprocess = self.encoder.preprocess
        inputs: Any = (batch.tokens, batch.num_tokens)
        if isinstance(preprocess, WaveformPreprocess):
            waveform = batch.waveform.astype(jnp.float32)
            if jnp.issubdtype(batch.waveform.dtype, jnp.integer):
                waveform = waveform / 2**15
            inputs = (preprocess(waveform, batch.num_samples), batch.num_samples)
        earlier = any(layer != self.encoder.num_layers for layer in layers)
        module = self.encoder.module.clone(parent=self, name="encoder")
        output = module(*inputs, train=train and tuned, hidden_states=earlier)
        states = select_layers(output, layers, self.encoder.num_layers)
        return states if tuned else jax.lax.stop_gradient(states), output.mask

    def _combine(self, states: Float[Array, "B T L D"]) -> Float[Array, "B T D2"]:
        if self.config.combine == "mean":
            return states.mean(axis=2)
        if self.config.combine == "concatenate":
            return states.reshape(*states.shape[:2], -1)
        scores = self.param("layer_scores", nn.initializers.zeros, (states.shape[2],))
        return jnp.einsum("l,btld->btd", jax.nn.softmax(scores), states)


@dataclasses.dataclass(frozen=True, eq=False)
class EncoderPart:
    """What a model needs of an encoder beside its parameters.

    Attributes:
      module: unbound Linen module.
      preprocess: waveform normalisation, or the tokenizer.
      num_layers: transformer layers.
      num_features: D, width of the states.
      axes: logical axis names of its parameters.
    """

    module: nn.Module
    preprocess: Any
    num_layers: int
    num_features: int
    axes: AxesTable

    @classmethod
    def of(cls, encoder: Encoder) -> "EncoderPart":
        """The part of a loaded encoder that holds no parameters."""
        return cls(encoder.module, encoder.preprocess, encoder.num_layers, encoder.num_features, encoder.family.axes)


def parameter_axes(encoders: Mapping[str, EncoderPart]) -> AxesOf:
    """Logical names of the axes of a model's parameters, wherever a tree holds them under their paths."""
    return axes_by_path({f"{view}/encoder": part.axes for view, part in encoders.items()})
