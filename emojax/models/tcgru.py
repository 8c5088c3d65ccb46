"""The TC-GRU of Mitra et al. 2022: an optional time-convolution path beside the direct one, GRU layers, embedding."""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from emojax.errors import ConfigError
from emojax.models.gru import GRU
from emojax.models.pooling import AttentivePooling, AttentivePoolingName, PoolingName, pool


@dataclasses.dataclass(frozen=True)
class TCGRUConfig:
    """Sizes of the network; without GRU layers and convolution it pools the features as they are.

    Attributes:
      gru_layers: number of GRU layers (paper: 2); 0: none.
      gru_size: units of each (replication: 128).
      conv_channels: channels of the time convolution, whose output is concatenated with the features (Network B);
        0 leaves that path out (Network A).
      conv_kernel: frames the convolution sees; odd, unless causal.
      causal: the convolution sees no later frame, so that the model can run on a stream.
      pooling: how the last layer's frames become one vector.
      embedding_size: units of the embedding layer (replication: 128).
      embedding_norm: layer norm of the embedding, before its activation.
      embedding_activation: of the embedding layer.
      dropout: share of units dropped before each GRU layer but the first, and before the embedding layer, in [0, 1).
    """

    gru_layers: int
    gru_size: int
    conv_channels: int
    conv_kernel: int
    causal: bool
    pooling: PoolingName | AttentivePoolingName
    embedding_size: int
    embedding_norm: bool
    embedding_activation: Literal["none", "relu", "tanh"]
    dropout: float

    def __post_init__(self):
        for name in ("gru_size", "embedding_size", "conv_kernel"):
            if getattr(self, name) < 1:
                raise ConfigError(f"network.{name}: {getattr(self, name)} is not allowed; allowed: an integer >= 1")
        for name in ("gru_layers", "conv_channels"):
            if getattr(self, name) < 0:
                raise ConfigError(f"network.{name}: {getattr(self, name)} is not allowed; allowed: an integer >= 0")
        if not self.causal and self.conv_kernel % 2 == 0:
            raise ConfigError(f"network.conv_kernel: {self.conv_kernel} is not allowed; allowed: odd unless causal")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"network.dropout: {self.dropout} is not allowed; allowed: 0 <= number < 1")


class TCGRU(nn.Module):
    """Frames to an utterance embedding.

    Attributes:
      config: sizes.
      dtype: of the products; recurrent state, normalisation and outputs are float32.
    """

    config: TCGRUConfig
    dtype: Any = jnp.float32

    def setup(self) -> None:
        """Makes the layers; those of size 0 do not exist."""
        config = self.config
        if config.conv_channels:
            self.convolution = TimeConvolution(config.conv_channels, config.conv_kernel, config.causal, self.dtype)
        self.gru = [GRU(config.gru_size, self.dtype) for _ in range(config.gru_layers)]
        if config.pooling in ("attentive", "attentive_statistics"):
            self.attention = AttentivePooling(config.pooling == "attentive_statistics", self.dtype)
        self.dropout = nn.Dropout(config.dropout)
        self.embedding = nn.Dense(config.embedding_size, dtype=self.dtype)
        if config.embedding_norm:
            self.norm = nn.LayerNorm(epsilon=1e-5)

    def __call__(
        self, features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"], train: bool = False
    ) -> Float[Array, "B E"]:
        """Embeds utterances; what lies on padded frames never matters.

        Args:
          features: feature frames.
          frame_mask: True on valid frames.
          train: whether to apply dropout, with the rng `dropout`.

        Returns:
          The embedding, float32.
        """
        return self.embed(self.frames(features, frame_mask, train), frame_mask, train)

    def frames(
        self, features: Float[Array, "B T D"], frame_mask: Bool[Array, "B T"], train: bool = False
    ) -> Float[Array, "B T H"]:
        """What is pooled: convolution and GRU layers, frame by frame."""
        config = self.config
        features = jnp.where(frame_mask[..., None], features, 0)  # the convolution reaches over the end
        if config.conv_channels:
            convolved = self.convolution(features)
            features = jnp.concatenate([convolved, features.astype(convolved.dtype)], axis=-1)
        initial = jnp.zeros((features.shape[0], config.gru_size), jnp.float32)
        for number, layer in enumerate(self.gru):
            if number:
                features = self.dropout(features, deterministic=not train)
            features, _ = layer(features, frame_mask, initial)
        return features

    def embed(
        self, frames: Float[Array, "B T H"], frame_mask: Bool[Array, "B T"], train: bool = False
    ) -> Float[Array, "B E"]:
        """Pools frames and embeds the result."""
        config = self.config
        if config.pooling in ("attentive", "attentive_statistics"):
            pooled = self.attention(frames, frame_mask)
        else:
            pooled = pool(config.pooling, frames, frame_mask)  # type: ignore[arg-type]
        embedding = self.embedding(self.dropout(pooled, deterministic=not train)).astype(jnp.float32)
        if config.embedding_norm:
            embedding = self.norm(embedding)
        return _ACTIVATIONS[config.embedding_activation](embedding)


_ACTIVATIONS: dict[str, Any] = {"none": lambda x: x, "relu": nn.relu, "tanh": jnp.tanh}


class TimeConvolution(nn.Module):
    """Convolution over time with ReLU, output as long as the input (Mitra et al. 2022, Figure 1).

    Attributes:
      channels: output channels.
      kernel_size: frames.
      causal: pad on the left only.
      dtype: of the products.
    """

    channels: int
    kernel_size: int
    causal: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, features: Float[Array, "B T D"]) -> Float[Array, "B T C"]:
        """Convolves; frames beyond either end are zero."""
        before = self.kernel_size - 1 if self.causal else self.kernel_size // 2
        padding = [(before, self.kernel_size - 1 - before)]
        return nn.relu(nn.Conv(self.channels, (self.kernel_size,), padding=padding, dtype=self.dtype)(features))
